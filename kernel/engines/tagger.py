"""A tagger in the interface of the WD14 family (SmilingWolf, versions 2 and 3).

Input: float32 [batch, size, size, 3], BGR, 0 to 255. Output: float32 [batch, tags], probabilities, one a row
of `selected_tags.csv`.
"""

import os
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.errors import LorakeetError, ModelIncomplete, ModelInterface, ModelMismatch
from contract.methods.tag import Category, ScoredTag
from kernel.engines import labels, onnx_file, sessions

MODEL_FILE: Final = "model.onnx"
LABELS_FILE: Final = "selected_tags.csv"
#: Digits of a score that are kept; a stored score and the caption made from it agree.
_DIGITS: Final = 6
_CATEGORIES: Final[dict[int, Category]] = {labels.GENERAL: "general", labels.CHARACTER: "character"}

Scores = NDArray[np.float32]


class Tagger:
    """A loaded tagger. Its methods may be called from several threads at once.

    `size` is the side of the input in pixels; `batch` is the batch size where the model fixes it;
    `provider` is what the session really runs on; `fell_back` that something better was asked for.
    """

    def __init__(self, path: str, session: Any, names: labels.Labels, wanted: str) -> None:
        self.path = path
        self.labels = names
        self._session = session
        self._input, self.size, self.batch = _input_of(session, path)
        self._output = _output_of(session, names, path)
        self.provider: str = session.get_providers()[0]
        self.fell_back = wanted if wanted != self.provider else None
        self.plan = sessions.plan_for(self.provider)

    def scores(self, pictures: list[NDArray[np.uint8]], options: Any = None) -> Scores:
        """float32 [n, tags] for n pictures of uint8 [size, size, 3], BGR.

        Raises OutOfMemory, LoadFailed, ModelMismatch; `options` are onnxruntime's RunOptions.
        """
        step = self.batch or len(pictures)
        parts = [self._run(pictures[at : at + step], step, options) for at in range(0, len(pictures), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, pictures: list[NDArray[np.uint8]], count: int, options: Any) -> Scores:
        """A model with a fixed batch size gets its last batch filled up with black."""
        batch = np.empty((count, self.size, self.size, 3), np.float32)
        for place, pixels in zip(batch, pictures, strict=False):
            place[...] = pixels
        batch[len(pictures) :] = 0
        try:
            (found,) = self._session.run([self._output], {self._input: batch}, options)
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            if options is not None and options.terminate:
                raise  # as it was told to; nobody waits for this result
            raise sessions.run_error(error, self.path) from error
        _check_length(found.shape[-1], self.labels, self.path)
        scores: Scores = np.nan_to_num(found[: len(pictures)].astype(np.float32, copy=False), nan=0.0)
        return scores

    def rating(self, scores: Scores) -> dict[str, float]:
        """Rating name → score, for the scores [tags] of one picture."""
        return {self.labels.names[index]: _rounded(scores[index]) for index in self.labels.ratings}

    def tags(self, scores: Scores, floor: float) -> list[ScoredTag]:
        """General and character tags from `floor` up, by falling score, from the scores [tags] of one."""
        shown = self.labels.shown
        above = shown[scores[shown] >= floor]
        falling = above[np.argsort(-scores[above], kind="stable")]
        return [
            ScoredTag(
                name=self.labels.names[index],
                category=_CATEGORIES[int(self.labels.categories[index])],
                score=_rounded(scores[index]),
                index=int(index),
            )
            for index in falling
        ]


def load(folder: str, *, allowed_root: str | None = None) -> Tagger:
    """The tagger in `folder`. `allowed_root` is where links out of the folder may lead (the hub's cache).

    Raises ModelIncomplete, ModelMismatch, ModelExternalData, ModelNotOnnx, ModelInterface, LoadFailed,
    OutOfMemory, DependencyConflict.
    """
    model, table = files(folder)
    onnx_file.check(model, allowed_root=allowed_root)
    names = labels.read(table)
    wanted = sessions.wanted_providers()
    return Tagger(model, sessions.open_session(model, wanted), names, wanted[0])


def files(folder: str) -> tuple[str, str]:
    """The model and the table of a tagger's folder. Raises ModelIncomplete, naming what is missing."""
    found = [os.path.join(folder, name) for name in (MODEL_FILE, LABELS_FILE)]
    missing = [os.path.basename(path) for path in found if not os.path.isfile(path)]
    if missing:
        raise ModelIncomplete(
            f"The model folder has no {' and no '.join(missing)}.",
            where=folder,
            hint=f"A tagger is a folder with {MODEL_FILE} and {LABELS_FILE}.",
            details={"missing": missing},
        )
    return found[0], found[1]


def stamp(folder: str) -> tuple[tuple[int, int] | None, ...]:
    """Changes when a file of the tagger in `folder` does: size and time of each, its external data included.

    Raises ModelIncomplete. Whatever else is wrong with the model, loading it says.
    """
    model, table = files(folder)
    first = _stamp(model)
    named = () if first is None else _external(model, *first)
    return first, _stamp(table), *(_stamp(os.path.join(folder, name)) for name in named)


@lru_cache(maxsize=8)
def _external(model: str, size: int, mtime_ns: int) -> tuple[str, ...]:
    """The files named in the model, looked up once while it stays the same: the walk takes milliseconds."""
    try:
        return tuple(onnx_file.external_files(model))
    except LorakeetError:
        return ()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return status.st_size, status.st_mtime_ns


def _input_of(session: Any, path: str) -> tuple[str, int, int | None]:
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if inputs else []
    fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(shape) == 4 and shape[3] == 3
    if not fits or not isinstance(shape[1], int) or shape[1] != shape[2] or shape[1] < 1:
        raise ModelInterface(
            "The model's input is not float [batch, size, size, 3] with a fixed size.",
            where=path,
            details={
                "inputs": [{"name": each.name, "type": each.type, "shape": each.shape} for each in inputs]
            },
        )
    return inputs[0].name, shape[1], shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None


def _output_of(session: Any, names: labels.Labels, path: str) -> str:
    output = session.get_outputs()[0]
    if output.type != "tensor(float)" or len(output.shape) != 2:
        raise ModelInterface(
            "The model's output is not float [batch, tags].",
            where=path,
            details={"output": _described(output)},
        )
    if isinstance(output.shape[1], int):
        _check_length(output.shape[1], names, path)
    name: str = output.name
    return name


def _described(value: Any) -> dict[str, Any]:
    return {"name": value.name, "type": value.type, "shape": value.shape}


def _check_length(outputs: int, names: labels.Labels, path: str) -> None:
    if outputs != len(names):
        raise ModelMismatch(
            f"The model has {outputs} outputs, {LABELS_FILE} has {len(names)} rows.",
            where=os.path.join(os.path.dirname(path), LABELS_FILE),
            details={"outputs": outputs, "rows": len(names)},
            hint="Take both files from the same release of the tagger.",
        )


def _rounded(score: np.float32) -> float:
    return round(float(score), _DIGITS)
