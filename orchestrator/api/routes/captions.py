"""Captions of an image: one resource for each kind, there whether or not there is a caption."""

from typing import Annotated, Final

import msgspec

from contract.base import Strict
from contract.errors import (
    CaptionCollision,
    CaptionUnreadable,
    FileMissing,
    LorakeetError,
    StaleVersion,
)
from orchestrator.api.calls import Answer, Call
from orchestrator.api.registry import Routes
from orchestrator.api.routes.dataset_views import (
    CaptionView,
    DatasetId,
    ImageId,
    caption_etag,
    caption_view,
)
from orchestrator.datasets.captions import Caption, Key
from orchestrator.datasets.journal import Edit
from orchestrator.datasets.names import CaptionKind
from orchestrator.datasets.table import Dataset

routes: Final = Routes("captions")

_PATH: Final = "/datasets/{dataset_id}/images/{image_id}/captions/{kind}"
_ERRORS: Final = (CaptionCollision, CaptionUnreadable, FileMissing)


class CaptionBody(Strict, frozen=True, kw_only=True):
    """A caption. Blanks around it count for nothing."""

    text: Annotated[str, msgspec.Meta(max_length=20_000, pattern=r"^[^\x00]*\Z")]


@routes.get(_PATH, has_etag=True)
async def read_caption(
    call: Call, dataset_id: DatasetId, image_id: ImageId, kind: CaptionKind
) -> Answer[CaptionView]:
    """Read a caption; its `text` is null where there is none."""
    captioning = call.studio.datasets.captioning
    dataset, _ = await _there(call, dataset_id, image_id)
    try:
        await captioning.refresh(dataset, [image_id], closely=True)
    except LorakeetError:
        # Reading goes on where a disk is full, or gone.
        pass
    captions = await captioning.read([image_id])
    refused = await captioning.refused(dataset, captions)
    key = Key(image_id, kind)
    return _answer(captions[key], refused.get(key))


@routes.put(_PATH, errors=_ERRORS, has_etag=True, needs_match=True)
async def write_caption(
    call: Call, dataset_id: DatasetId, image_id: ImageId, kind: CaptionKind, body: CaptionBody
) -> Answer[CaptionView]:
    """Write a caption.

    Send the ETag of the caption that you read as `If-Match`; or `If-None-Match: *` in its place, if there
    must not be one yet.
    """
    return await _put(call, dataset_id, Key(image_id, kind), body.text.removeprefix("\ufeff").strip())


@routes.delete(_PATH, errors=_ERRORS, needs_match=True)
async def delete_caption(call: Call, dataset_id: DatasetId, image_id: ImageId, kind: CaptionKind) -> None:
    """Remove a caption and its file. It stays in the history."""
    await _put(call, dataset_id, Key(image_id, kind), None)


async def _put(call: Call, dataset_id: DatasetId, key: Key, text: str | None) -> Answer[CaptionView]:
    dataset, _ = await _there(call, dataset_id, key.image_id)
    edit = Edit(id=call.new_id("edit"), dataset_id=dataset.id, action="edit", author="user")

    def check(now: Caption) -> None:
        if text is not None and call.request.headers.get("if-none-match", "").strip() == "*":
            _require_none(now)
        else:
            call.require_match(caption_etag(now))

    return _answer(await call.studio.datasets.captioning.put(dataset, edit, key, text, check), None)


def _require_none(now: Caption) -> None:
    if now.content is not None:
        raise StaleVersion(
            "There is a caption already.",
            hint="Read it, and send its ETag as If-Match.",
            details={"etag": caption_etag(now)},
        )


async def _there(call: Call, dataset_id: DatasetId, image_id: ImageId) -> tuple[Dataset, str]:
    """Raises NotFound."""
    dataset = await call.studio.datasets.table.get(dataset_id)
    return dataset, (await call.studio.datasets.images.get(dataset_id, image_id)).id


def _answer(caption: Caption, refused: LorakeetError | None) -> Answer[CaptionView]:
    return Answer(body=caption_view(caption, refused), etag=caption_etag(caption))
