"""One merge from its models to its outcome: what the settings of all kinds of merges have in common."""

import time
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import torch

from contract.errors import InvalidParams, WeightsMismatch, WeightsUnsupported
from contract.methods.merge import Components, MergeInput, MergeOutcome, WeightedLora
from contract.methods.weights import CheckpointDtype, WeightsFile
from kernel.engines.streams.expressions import Expression, Leaf, Scratch, settled, whole
from kernel.engines.streams.graph import Bake, Model, Node, Parts, Step, Vae, check_shape, listed
from kernel.engines.streams.models import open_models
from kernel.engines.streams.numbers import output_code
from kernel.engines.streams.parameters import ByBlock, Parameters
from kernel.engines.streams.parts import PartName, is_table, part_of, spelled
from kernel.engines.streams.stream import Output, write
from kernel.surgery import Surgery
from trainer.weights.metadata import after_merge
from trainer.weights.tensor_file import TensorFile
from trainer.weights.tensor_writer import TensorSpec, Written

Ema = Literal["drop", "keep", "use"]
#: What the host is told that the output is.
ROLE: Final = "checkpoint"
#: Names of tensors that an outcome lists.
MAX_LEFT_OUT: Final = 1_000
#: Where the settings stand in the params.
SETTINGS: Final = "$.params.settings"
#: Prefix of the VAE where the models have none that shows it.
_VAE_PREFIX: Final = "first_stage_model."
#: Parts that the settings choose by the same names.
_CHOSEN: Final[tuple[PartName, ...]] = ("unet", "text_encoders", "vae")


class Assembly:
    """The models of a merge, its graph as it is put together, and what there is to say about it."""

    def __init__(
        self,
        models: Sequence[tuple[WeightsFile, str]],
        surgery: Surgery,
        *,
        dtype: CheckpointDtype,
        ema: Ema,
    ) -> None:
        """Open the models; each comes with its place in the params. Raises what `open_models` raises."""
        self._surgery, self._dtype, self._ema = surgery, dtype, ema
        opened = open_models(models, surgery)
        self.family, self._kind, self._files = opened.family, opened.kind, list(opened.files)
        self.models = [Model(file, opened.kind, use_ema=ema == "use") for file in opened.files]
        self._asked = {surgery.open(file, where).path: file.sha256 for file, where in models}
        self._steps: list[Step] = []
        self._left_out: list[str] = []
        self.warnings: list[str] = []
        if ema == "use":
            self._warn_of_averages()

    def step(self, parameters: Parameters, inputs: Sequence[Node]) -> Node:
        """A node that puts others together. Raises InvalidParams, and WeightsUnsupported where the method is
        not for this family."""
        by_block = ByBlock(parameters, self.family)
        if (why := by_block.method.refusal(self.family)) is not None:
            raise WeightsUnsupported(
                f"`{self._files[0].where}` cannot be merged so: {why}.", where=self._files[0].where
            )
        self.warnings += by_block.warnings()
        step = Step(
            by_block.method,
            inputs,
            by_block,
            self.family,
            self._kind,
            check=self._surgery.check,
            whole=self._whole,
        )
        self._steps.append(step)
        return step

    def bake(self, inner: Node, loras: Sequence[WeightedLora], where: str) -> Node:
        """A node with LoRAs in it. Raises what opening them raises, WeightsMismatch where none of their
        modules fits."""
        from kernel.engines.factors.deltas import Deltas
        from kernel.engines.factors.loras import open_loras

        if self.family is None:
            raise WeightsMismatch(
                f"`{self._files[0].where}` is no model that LoRAs are made for.", where=self._files[0].where
            )
        opened = open_loras(loras, self._surgery, where)
        deltas = Deltas(opened.loras, self.family, _first_file(inner), where=where)
        for lora in opened.loras:
            self._note(lora.adapter.file)
        self._left_out += deltas.left_out
        return Bake(inner, deltas)

    def with_parts(self, merged: Node, chosen: Components) -> Node:
        """`merged`, with the parts that the settings take from elsewhere or leave out. Raises InvalidParams
        for a model that there is not, and what `with_vae` raises."""
        others: dict[PartName, Node | None] = {
            part: self._source(getattr(chosen, part), f"{SETTINGS}.components.{part}")
            for part in _CHOSEN
            if getattr(chosen, part) != "merge"
        }
        if "unet" in others:
            # Averages are a second set of the U-Net's weights: they go where it goes.
            others["ema"] = others["unet"]
        node: Node = Parts(merged, others, self._kind) if others else merged
        if chosen.vae_file is None:
            return node
        return self.with_vae(node, chosen.vae_file, f"{SETTINGS}.components.vae_file.path")

    def with_vae(self, inner: Node, vae: WeightsFile, where: str) -> Node:
        """`inner` with the VAE of a file of its own. Raises what opening raises, and WeightsMismatch."""
        file = self._surgery.open(vae, where)
        self._note(file, vae.sha256)
        wanted = [name for name in inner.names if part_of(name, self._kind) == "vae"]
        prefix = next((f"{name.partition('.')[0]}." for name in wanted), _VAE_PREFIX)
        replacement = Vae(file, prefix, wanted, self.family)
        for name in wanted:
            first, other = inner.tensor(name), replacement.tensor(name)
            assert first is not None and other is not None
            check_shape(name, first, other)
        return Parts(inner, {"vae": replacement}, self._kind)

    def hashes(self) -> dict[str, str]:
        """Real path → SHA-256 of all files. Raises JobCanceled, FileUnreadable."""
        for file in self._files:
            self._asked[file.path] = self._surgery.sha256(file)
        return {path: sha256 for path, sha256 in self._asked.items() if sha256 is not None}

    def write(self, node: Node, recipe: str) -> MergeOutcome:
        """Compute and write the output. Raises what writing raises."""
        outputs = [each for name in node.names if (each := self._output(node, name)) is not None]
        if not outputs:
            raise InvalidParams("Nothing is left of the model: all of its parts are dropped.", where=SETTINGS)
        self._warn_of_partial({each.spec.name for each in outputs})
        started = time.perf_counter()
        metadata = after_merge(self._files, family=self.family, recipe=recipe)
        written = write(outputs, metadata, self._surgery)
        self._surgery.announce(written, ROLE)
        return self._outcome(outputs, written, time.perf_counter() - started)

    def _output(self, node: Node, name: str) -> Output | None:
        """None for EMA weights that are not wanted."""
        part = part_of(name, self._kind)
        if part == "ema" and self._ema != "keep":
            return None
        expression = node.tensor(name)
        if expression is None:
            return None
        table = is_table(name, self._kind)
        code = output_code(self._dtype, name, part, expression.leaf, is_table=table)
        return Output(TensorSpec(name, code, expression.shape), expression, table)

    def _outcome(self, outputs: Sequence[Output], written: Written, seconds: float) -> MergeOutcome:
        kept = sum(isinstance(each.expression, Leaf) for each in outputs)
        left_out = [*self._left_out, *self._unused(outputs)]
        return MergeOutcome(
            file=self._surgery.artifacts[-1].path,
            bytes=written.bytes,
            sha256=written.sha256,
            inputs=[MergeInput(file=file.where, sha256=self._asked.get(file.path)) for file in self._files],
            merged=len(outputs) - kept,
            kept=kept,
            left_out=left_out[:MAX_LEFT_OUT],
            left_out_count=len(left_out),
            timings={"merge_s": round(seconds, 4)},
            warnings=self.warnings,
        )

    def _unused(self, outputs: Iterable[Output]) -> list[str]:
        """The names of the models' tensors that the output does not have."""
        written = {spelled(each.spec.name) for each in outputs}
        names = dict.fromkeys(name for model in self.models for name in model.names)
        return [name for name in names if spelled(name) not in written]

    def _note(self, file: TensorFile, sha256: str | None = None) -> None:
        if file not in self._files:
            self._files.append(file)
        self._asked.setdefault(file.path, sha256)

    def _source(self, chosen: str, where: str) -> Node | None:
        if chosen == "drop":
            return None
        if int(chosen) > len(self.models):
            raise InvalidParams(f"There is no model {chosen}; there are {len(self.models)}.", where=where)
        return self.models[int(chosen) - 1]

    def _whole(self, expression: Expression) -> torch.Tensor:
        scratch = Scratch()
        return whole(settled(expression, scratch, self._surgery.device), scratch, expression)

    def _warn_of_averages(self) -> None:
        without = [model.file.where for model in self.models if not model.used_ema]
        if without:
            self.warnings.append(
                f"{listed(without)}: no EMA weights there, so the weights themselves are used."
            )

    def _warn_of_partial(self, written: set[str]) -> None:
        names = [name for step in self._steps for name in step.partial if name in written]
        if names:
            self.warnings.append(
                f"Not every model has all tensors: {len(names)} are taken unchanged from the first model "
                f"that has them ({listed(names)})."
            )


def _first_file(node: Node) -> TensorFile:
    """The file that the names and shapes of a node are those of."""
    expression = node.tensor(node.names[0])
    assert expression is not None
    return expression.leaf.file
