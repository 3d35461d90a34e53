"""Models by name. Over HTTP a model in settings may be the id of one that the studio has, or a name that
people know: clients see no absolute paths, and need none."""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from contract.errors import NotFound
from contract.methods.tag import TaggerModel
from contract.methods.weights import WeightsFile
from contract.rules.paths import is_windows, to_wire
from contract.rules.taggers import model_reference
from contract.validation import Problem, invalid
from orchestrator.jobs.settings_tree import replaced, structs_in

if TYPE_CHECKING:
    from orchestrator.models.index import ModelIndex

_ID: Final = "model_"
#: Of models that share a name, how many are told.
_MOST_NAMED: Final = 5


def spelled(wanted: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` with a model that may be in the place of every name: which one it is, is asked later."""

    def spell(struct: type[msgspec.Struct], value: Any, where: str) -> Any:
        if struct is TaggerModel and isinstance(value, str):
            return {"repo": value}
        return {"path": value} if struct is WeightsFile and isinstance(value, str) else value

    whole: dict[str, Any] = replaced(wanted, settings, spell)
    return whole


async def with_models(models: "ModelIndex", wanted: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` with what each name stands for in its place.

    Raises InvalidParams with every name that stands for nothing.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for struct, value, where in structs_in(wanted, settings):
        try:
            found[where] = await _model(models, struct, value)
        except NotFound as error:
            problems.append(Problem(where, error.message))
        except ValueError as error:
            problems.append(Problem(where, str(error)))
    if problems:
        raise invalid(problems)
    whole: dict[str, Any] = replaced(wanted, settings, lambda struct, value, where: found.get(where, value))
    return whole


async def _model(models: "ModelIndex", struct: type[msgspec.Struct], value: Any) -> Any:
    """What a value stands for. Raises NotFound, and ValueError with words for people."""
    if struct is WeightsFile and isinstance(value, dict):
        path = value.get("path")
        return value | {"path": await _weights(models, path)} if isinstance(path, str) else value
    if not isinstance(value, str) or struct not in (TaggerModel, WeightsFile):
        return value
    if struct is WeightsFile:
        return {"path": await _weights(models, value)}
    return {"path": await _path(models, value)} if value.startswith(_ID) else model_reference(value)


async def _weights(models: "ModelIndex", said: str) -> str:
    """The path of a file of weights: that which was said, or that of a model by its id or name."""
    if said.startswith(("/", "file:")) or is_windows(said):
        return said
    if said.startswith(_ID):
        return await _path(models, said)
    found = await models.named(said)
    if not found:
        raise ValueError("is neither the id nor the name of a model, nor an absolute path")
    if len(found) > 1:
        paths = ", ".join(f"`{each.root}/{each.path}`" for each in found[:_MOST_NAMED])
        raise ValueError(f"is the name of {len(found)} models; say which: {paths}")
    return await _path(models, found[0].id)


async def _path(models: "ModelIndex", id: str) -> str:
    return to_wire((await models.locate(id)).path)
