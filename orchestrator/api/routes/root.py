"""What this studio is, whether it is well, and how it is doing."""

import msgspec

from contract import SUPPORTED_LEVELS
from contract.base import Reply
from contract.errors import AccessError, NotReady
from orchestrator import __version__
from orchestrator.api.calls import Call, TextAnswer
from orchestrator.api.guard import visit_of
from orchestrator.api.incoming import Incoming
from orchestrator.api.metrics import MEDIA_TYPE, exposition
from orchestrator.api.pages import MAX_PAGE
from orchestrator.api.registry import Routes
from orchestrator.api.requests import MAX_BODY_BYTES
from orchestrator.serving.gauges import metrics_of

routes = Routes("studio")


class ApiLimits(Reply, kw_only=True):
    """What the API takes at most."""

    max_body_bytes: int
    max_page: int
    max_wait_s: int


class ApiRoot(Reply, kw_only=True):
    """Versions, features and limits. A feature that is absent is not there."""

    name: str
    version: str
    api: str
    contract_levels: list[int]
    boot_id: str
    features: dict[str, bool]
    limits: ApiLimits


class Health(Reply, kw_only=True):
    """`ok`."""

    status: str


@routes.get("")
async def read_root(call: Call) -> ApiRoot:
    """Versions, features and limits of this studio."""
    return ApiRoot(
        name="lorakeet",
        version=__version__,
        api="v1",
        contract_levels=list(SUPPORTED_LEVELS),
        boot_id=call.studio.boot.boot_id,
        features=FEATURES,
        limits=ApiLimits(max_body_bytes=MAX_BODY_BYTES, max_page=MAX_PAGE, max_wait_s=30),
    )


FEATURES = {
    "events": True,
    "idempotency_keys": True,
    "multipart_uploads": True,
    "ranges": True,
}


@routes.get("/openapi.json", gives="application/json")
async def read_openapi(call: Call) -> TextAnswer:
    """The OpenAPI 3.1 document of this API."""
    from orchestrator.api.openapi import document

    return TextAnswer(text=msgspec.json.encode(document()).decode(), media_type="application/json")


@routes.get("/docs", gives="text/html")
async def read_docs(call: Call) -> TextAnswer:
    """This API for people: one page that needs no network."""
    from orchestrator.api.docs_page import page

    return TextAnswer(text=page(), media_type="text/html; charset=utf-8")


@routes.get("/healthz", is_public=True)
async def read_health(call: Call) -> Health:
    """Whether the process answers. Needs no token and tells nothing else."""
    return Health(status="ok")


@routes.get("/readyz", is_public=True, errors=(NotReady,))
async def read_readiness(call: Call) -> Health:
    """Whether the studio can work: its database takes writes, its disk has room, a kernel can be started.

    Needs no token; why it cannot is told to those who send one.
    """
    reasons = await call.studio.readiness.reasons()
    if reasons:
        raise NotReady(" ".join(reasons) if _may_know(call) else "The studio is not ready.")
    return Health(status="ok")


@routes.get("/metrics", at_root=True, gives="text/plain")
async def read_metrics(call: Call) -> TextAnswer:
    """Counters and gauges for Prometheus."""
    return TextAnswer(text=exposition(await metrics_of(call.studio)), media_type=MEDIA_TYPE)


def _may_know(call: Call) -> bool:
    """Whether a request to a path that is open to all comes from somebody whom the guard would let in."""
    site, request = call.studio.site, Incoming(call.request.scope)
    if site is None:
        return True
    visit = visit_of(call.request.scope)
    try:
        if tokens := request.tokens():
            return bool(site.access.check_token(tokens[0], visit.client))
        return site.access.check_session(request.sessions(visit.port)) is not None
    except AccessError:
        return False
