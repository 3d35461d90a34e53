"""Models by name. Over HTTP a model in settings may be the id of one that the studio has, or a name that
people know: clients see no absolute paths, and need none."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from contract.errors import NotFound
from contract.fields import describe
from contract.methods.tag import TaggerModel
from contract.rules.paths import to_wire
from contract.rules.taggers import model_reference
from contract.validation import Problem, invalid

if TYPE_CHECKING:
    from orchestrator.models.index import ModelIndex


def named_models(struct: type[msgspec.Struct], settings: Mapping[str, Any]) -> Iterator[str]:
    """The fields of `struct` that name a model by a text alone."""
    for spec in describe(struct):
        if spec.annotation is TaggerModel and isinstance(settings.get(spec.name), str):
            yield spec.name


async def with_models(
    models: "ModelIndex", struct: type[msgspec.Struct], settings: dict[str, Any]
) -> dict[str, Any]:
    """`settings` with what each name stands for in its place. Raises InvalidParams for an unknown name."""
    found = {name: await _model(models, settings[name], name) for name in named_models(struct, settings)}
    return settings | found


async def _model(models: "ModelIndex", text: str, field: str) -> dict[str, str]:
    try:
        if text.startswith("model_"):
            return {"path": to_wire((await models.locate(text)).path)}
        return model_reference(text)
    except NotFound as error:
        raise invalid([Problem(f"$.settings.{field}", error.message)]) from None
    except ValueError as error:
        raise invalid([Problem(f"$.settings.{field}", str(error))]) from None
