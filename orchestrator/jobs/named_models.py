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
        named = isinstance(path, str) and path.startswith(_ID)
        return value | {"path": await _path(models, path)} if named else value
    if not isinstance(value, str) or struct not in (TaggerModel, WeightsFile):
        return value
    if value.startswith(_ID):
        return {"path": await _path(models, value)}
    if struct is TaggerModel:
        return model_reference(value)
    if value.startswith(("/", "file:")) or is_windows(value):
        return {"path": value}
    raise ValueError("is neither the id of a model nor an absolute path")


async def _path(models: "ModelIndex", id: Any) -> str:
    return to_wire((await models.locate(id)).path)
