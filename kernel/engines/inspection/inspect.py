"""One look at a file, put together from its parts."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from contract.errors import WeightsNotFinite, WeightsUnsupported
from contract.methods.inspect import Evidence, Hashes, InspectParams, InspectResult, TagCount
from contract.rules.families import Found, detect
from kernel.engines.inspection import findings, training
from kernel.engines.inspection.bounds import (
    ALL_CHARS,
    LISTED,
    NAME_CHARS,
    WARNINGS,
    counted,
    cut,
    texts,
)
from kernel.engines.inspection.programs import models, programs
from kernel.engines.inspection.summary import Blocks, Place, blocks, summary
from trainer.weights.adapter_file import Adapter, read_adapter
from trainer.weights.hashes import LEGACY_HASH, MODEL_HASH, file_hashes
from trainer.weights.metadata import RECIPE
from trainer.weights.tensor_file import TensorFile

_LORA: Final = "lora"
_DIGITS: Final = 4


class Look:
    """One look at `file`. `check` is called often, and raises to stop it."""

    def __init__(self, file: TensorFile, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check
        self._metadata = file.header.metadata
        self._warnings: list[str] = []
        self._timings: dict[str, float] = {}

    def result(self, params: InspectParams) -> InspectResult:
        """Everything. Raises what `check`, reading the alphas and hashing raise."""
        with self._timed("header_s"):
            found = self._found()
            facts = self._facts(found)
        adapter = self._adapter() if found.kind == _LORA else None
        if adapter is not None:
            facts |= self._adapter_facts(adapter, found, norms=params.norms)
        if params.hashes:
            with self._timed("hashes_s"):
                facts["hashes"] = self._hashes()
        return InspectResult(
            **facts,
            file=self._file.where,
            warnings=[cut(each) for each in self._warnings[:WARNINGS]],
            timings=self._timings,
        )

    def _found(self) -> Found:
        tensors = {name: tensor.shape for name, tensor in self._file.header.tensors.items()}
        return detect(tensors, self._metadata)

    def _facts(self, found: Found) -> dict[str, Any]:
        """What the header says."""
        tensors = self._file.header.tensors.values()
        dtypes: dict[str, int] = {}
        for tensor in tensors:
            dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.bytes
        self._warnings += found.warnings
        self._warnings += findings.of_metadata(self._metadata)
        self._warnings += findings.of_types(self._file)
        return self._said() | {
            "bytes": self._file.size,
            "tensors": len(tensors),
            "parameters": sum(math.prod(tensor.shape) for tensor in tensors),
            "dtypes": dtypes,
            "kind": found.kind,
            "family": found.family,
            "reason": found.reason,
            "evidence": [
                Evidence(sign=cut(sign, NAME_CHARS), says=cut(says, NAME_CHARS))
                for sign, says in found.evidence
            ],
        }

    def _said(self) -> dict[str, Any]:
        """What the metadata says."""
        metadata = self._metadata
        tags = training.tags(metadata)
        triggers = training.triggers(metadata, tags)
        spec = {
            key.removeprefix(training.SPEC): text
            for key, text in metadata.items()
            if key.startswith(training.SPEC)
        }
        return {
            "trigger_words": [each.word for each in triggers],
            "trigger_sources": {each.word: each.source for each in triggers},
            "tag_frequency": [
                TagCount(tag=cut(tag, NAME_CHARS), count=count)
                for tag, count in tags.counts.most_common(LISTED)
            ],
            "tags": len(tags.counts),
            "training": training.decoded(metadata),
            "modelspec": texts(spec),
            "metadata": texts(metadata),
            "recipe": None if (recipe := metadata.get(RECIPE)) is None else cut(recipe, ALL_CHARS),
        }

    def _adapter(self) -> Adapter | None:
        """None where not even its alphas can be read, of which there is a warning then."""
        try:
            return read_adapter(self._file, strict=False)
        except (WeightsNotFinite, WeightsUnsupported) as error:
            self._warnings.append(error.message)
            return None

    def _adapter_facts(self, adapter: Adapter, found: Found, *, norms: bool) -> dict[str, Any]:
        candidates = models(adapter, found.candidates if found.family is None else [found.family])
        # Where several models come into question, they have their blocks in common.
        inside = blocks(adapter, candidates[0] if candidates else None)
        self._warnings += findings.of_adapter(adapter, self._metadata)
        sizes: dict[Place, float | None] = {}
        if norms:
            with self._timed("norms_s"):
                sizes = self._norms(adapter, inside)
        # Of alphas in diffusers' own metadata there is no key, and it reads them itself.
        alphas = {name: module.alpha for name, module in adapter.modules.items() if "alpha" in module.keys}
        return {
            "adapter": summary(adapter, inside, sizes),
            "consumers": programs(self._file.names, candidates, alphas),
        }

    def _norms(self, adapter: Adapter, found: Blocks) -> dict[Place, float | None]:
        """By block; None where no module of it has a finite one. Loads numpy."""
        from kernel.engines.inspection.norms import norm

        sizes: dict[str, float | None] = {}
        for module in adapter.modules.values():
            self._check()
            sizes[module.name] = norm(adapter, module)
        self._warnings += _of_norms(sizes)
        return {
            place: _together(sizes[module.name] for module in modules) for place, modules in found.items()
        }

    def _hashes(self) -> Hashes:
        found = file_hashes(self._file, lambda done: self._check())
        hashes = Hashes(
            sha256=found.sha256,
            autov2=found.autov2,
            autov3=found.autov3,
            sshs_model_hash=found.model,
            sshs_legacy_hash=found.legacy,
            stated_sshs_model_hash=self._stated(MODEL_HASH),
            stated_sshs_legacy_hash=self._stated(LEGACY_HASH),
        )
        self._warnings += findings.of_hashes(hashes)
        return hashes

    def _stated(self, key: str) -> str | None:
        text = self._metadata.get(key)
        return None if text is None else cut(text, NAME_CHARS)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._timings[name] = round(time.perf_counter() - start, _DIGITS)


def _together(norms: Iterable[float | None]) -> float | None:
    """Those that are known, as one."""
    from kernel.engines.inspection.norms import together

    known = [each for each in norms if each is not None and math.isfinite(each)]
    return together(known) if known else None


def _of_norms(sizes: Mapping[str, float | None]) -> Iterator[str]:
    left = [cut(name, NAME_CHARS) for name, size in sizes.items() if size is None]
    damaged = [
        cut(name, NAME_CHARS) for name, size in sizes.items() if size is not None and not math.isfinite(size)
    ]
    if left:
        modules = counted(len(left), "module", "has/have")
        yield f"{modules} no norm that can be told without the model, as `{left[0]}`."
    if damaged:
        modules = counted(len(damaged), "module", "has/have")
        yield f"{modules} NaN or infinite numbers, as `{damaged[0]}`; no norm counts them."
