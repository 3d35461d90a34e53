"""What happened since the start, and how things are, in the text format of Prometheus (version 0.0.4)."""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Where an endpoint says which operation it is.
OPERATION: Final = "lorakeet.operation"
#: For requests that reach none: refused at the door, or for what is not there.
NO_OPERATION: Final = "none"
#: Upper bounds in seconds.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    """One line of a metric."""

    value: float
    labels: Labels = ()
    suffix: str = ""


class Metric(NamedTuple):
    """A metric and its lines; `kind` is `counter`, `gauge` or `histogram`."""

    name: str
    kind: str
    text: str
    samples: Iterable[Sample]


class Requests:
    """Counts answers by operation and status, and how long they took to begin."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._buckets: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._sums: defaultdict[str, float] = defaultdict(float)

    def add(self, operation: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._counts[operation, status] += 1
        self._buckets[operation][bisect_left(BUCKETS, seconds)] += 1
        self._sums[operation] += seconds

    def metrics(self) -> Iterator[Metric]:
        """What was counted."""
        yield Metric(
            "lorakeet_http_requests_total",
            "counter",
            "Answers by operation and status.",
            [
                Sample(count, (("operation", operation), ("status", str(status))))
                for (operation, status), count in sorted(self._counts.items())
            ],
        )
        yield Metric(
            "lorakeet_http_request_duration_seconds",
            "histogram",
            "Time until an answer began.",
            [each for operation in sorted(self._buckets) for each in self._histogram(operation)],
        )

    def _histogram(self, operation: str) -> Iterator[Sample]:
        label = ("operation", operation)
        total = 0
        for bound, count in zip((*map(_number, BUCKETS), "+Inf"), self._buckets[operation], strict=True):
            total += count
            yield Sample(total, (label, ("le", bound)), "_bucket")
        yield Sample(self._sums[operation], (label,), "_sum")
        yield Sample(total, (label,), "_count")


class Metered:
    """An ASGI application around another one, whose answers it counts."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - began
                self._requests.add(scope.get(OPERATION, NO_OPERATION), message["status"], seconds)
            await send(message)

        await self._app(scope, receive, counted)


def exposition(metrics: Iterable[Metric]) -> str:
    """The text that Prometheus reads."""
    return "".join(line + "\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in metric.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
        yield f"{metric.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
