"""Whether two settings are of the same run: what may change while it goes on, and what may not."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from contract.errors import InvalidParams
from contract.methods.train import TrainSettings

#: Tables, and fields of some, that change when something is done, not what is learned; and the files of the
#: model, which are told apart by what is in them.
_FREE: Final = frozenset(
    {
        "checkpoints",
        "saving",
        "sampling",
        "metadata",
        "logging",
        "memory",
        "caching.latent_batch",
        "caching.text_batch",
        "model.base",
        "model.vae",
        "training.epochs",
        "training.steps",
        "training.stop_after",
    }
)


def lasting(settings: TrainSettings) -> dict[str, Any]:
    """What has to stay the same for a run to go on, as JSON would say it."""
    table: dict[str, Any] = msgspec.to_builtins(settings)
    kept = {name: value for name, value in table.items() if name not in _FREE}
    for name in ("caching", "model", "training"):
        fields = kept[name].items()
        kept[name] = {field: value for field, value in fields if f"{name}.{field}" not in _FREE}
    return kept


def check_same(before: TrainSettings, now: TrainSettings) -> None:
    """Raises InvalidParams with the first field that a run cannot go on with."""
    for field, (old, new) in _differences(lasting(before), lasting(now), ""):
        raise InvalidParams(
            f"The run cannot go on with another `{field}`: it began with {_said(old)}, "
            f"now it is {_said(new)}.",
            where=f"$.params.settings.{field}",
            hint="Put it back as it was, or begin a new run; `network.start_from` can start it from a LoRA.",
            details={"field": field},
        )


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*old, *(each for each in new if each not in old)]:
            at = f"{path}.{name}" if path else str(name)
            yield from _differences(old.get(name), new.get(name), at)
    elif old != new:
        yield path, (old, new)


def _said(value: Any) -> str:
    return "left out" if value is None else f"`{msgspec.json.encode(value).decode()}`"
