"""The checkpoints of a merge, opened: one family, and something to merge."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from contract.errors import WeightsMismatch, WeightsUnknown
from contract.methods.weights import WeightsFile
from contract.rules.families import TITLES, detect
from contract.rules.model_kinds import ModelKind
from kernel.engines.streams.parts import spelled
from kernel.surgery import Surgery
from trainer.weights.tensor_file import TensorFile

#: Kinds of files that have the weights of a model, or of a part of one.
_KINDS: Final = frozenset(("checkpoint", "diffusion_model", "vae", "text_encoder"))
#: Kinds that are no family's own.
_SHARED: Final = frozenset(("vae", "text_encoder"))


class Opened(NamedTuple):
    """Models of one family, in their order; None for VAEs and text encoders, which several families share.
    `kind` is that of the first: what the output is."""

    files: list[TensorFile]
    family: str | None
    kind: ModelKind


def open_models(models: Sequence[tuple[WeightsFile, str]], surgery: Surgery) -> Opened:
    """Open models; each comes with its place in the params.

    Raises what opening raises, WeightsUnknown where a file's family cannot be told, and WeightsMismatch where
    one is no model, the families differ, or two have no tensor in common.
    """
    files = [surgery.open(model, where) for model, where in models]
    found = [_model(file) for file in files]
    for file, other in zip(files[1:], found[1:], strict=True):
        if other[1:] != found[0][1:] or (other.family is None and other != found[0]):
            titles = [_title(each) for each in (found[0], other)]
            raise WeightsMismatch(
                f"`{files[0].where}` is {titles[0]}, `{file.where}` is {titles[1]}: they cannot be merged.",
                where=file.where,
                details={"families": [found[0].family, other.family]},
            )
        _check_common(files[0], file)
    return Opened(files, found[0].family, found[0].kind)


class _Model(NamedTuple):
    kind: ModelKind
    family: str | None


def _model(file: TensorFile) -> _Model:
    shapes = {name: tensor.shape for name, tensor in file.header.tensors.items()}
    found = detect(shapes, file.header.metadata)
    if found.kind is not None and found.kind not in _KINDS:
        raise WeightsMismatch(
            f"`{file.where}` is no checkpoint: it is {_title(_Model(found.kind, None))}.",
            where=file.where,
            hint="LoRAs are merged with `merge loras`, and into a checkpoint with `merge bake`.",
        )
    if found.kind is None or (found.family is None and found.kind not in _SHARED):
        raise WeightsUnknown(
            f"`{file.where}` belongs to no family that Lorakeet knows. {found.reason or ''}".strip(),
            where=file.where,
            details={"candidates": list(found.candidates)},
        )
    return _Model(found.kind, found.family)


def _title(model: _Model) -> str:
    kind = {"lora": "LoRA", "vae": "VAE"}.get(model.kind, model.kind.replace("_", " "))
    article = "an" if kind[0] in "aeiou" else "a"
    return (
        f"{article} {kind} of {TITLES.get(model.family, model.family)}"
        if model.family
        else f"{article} {kind}"
    )


def _check_common(first: TensorFile, other: TensorFile) -> None:
    names = {spelled(name) for name in first.header.tensors}
    if not any(spelled(name) in names for name in other.header.tensors):
        raise WeightsMismatch(
            f"`{first.where}` and `{other.where}` have no tensor in common: their names differ.",
            where=other.where,
            details={"first": first.names[:1], "other": other.names[:1]},
            hint="A whole checkpoint and a bare diffusion model are named differently; merge two of a kind.",
        )
