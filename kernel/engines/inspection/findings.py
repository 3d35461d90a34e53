"""What is wrong with a file, or will surprise whoever uses it, as sentences for people."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from contract.methods.inspect import Hashes
from kernel.engines.inspection import training
from kernel.engines.inspection.bounds import NAME_CHARS, counted, cut, number
from trainer.weights.adapter_file import Adapter, AdapterModule
from trainer.weights.tensor_file import TensorFile

#: An alpha of so many ranks is none that anybody chose.
_ABSURD: Final = 64
_DIM, _ALPHA = "ss_network_dim", "ss_network_alpha"
#: Bytes in types other than the commonest that do not count as a mixture: alphas and norms.
_MIXTURE: Final = 0.01


def of_metadata(metadata: Mapping[str, str]) -> Iterator[str]:
    """Values that are damaged."""
    for key in training.damaged(metadata):
        yield f"`{cut(key, NAME_CHARS)}` begins like JSON and is none."


def of_adapter(adapter: Adapter, metadata: Mapping[str, str]) -> Iterator[str]:
    """Modules that do nothing or far too much, keys that no module has, numbers that metadata has wrong."""
    modules = adapter.modules.values()
    for what, found in (
        ("alpha 0, which is nothing", [each for each in modules if each.alpha == 0]),
        ("an alpha below 0", [each for each in modules if each.alpha < 0]),
        (f"an alpha of more than {_ABSURD} times their rank", [each for each in modules if _is_absurd(each)]),
    ):
        if found:
            first = cut(found[0].name, NAME_CHARS)
            yield f"{counted(len(found), 'module', 'has/have')} {what}, as `{first}`."
    if adapter.unpaired:
        first = cut(adapter.unpaired[0], NAME_CHARS)
        keys = counted(len(adapter.unpaired), "key", "is/are")
        yield f"{keys} of modules that are not whole, have rank 0, or do not fit together, as `{first}`."
    if adapter.unknown:
        first = cut(adapter.unknown[0], NAME_CHARS)
        yield f"{counted(len(adapter.unknown), 'key', 'belongs/belong')} to nothing known, as `{first}`."
    yield from _of_stated(_DIM, {number(each.rank) for each in modules if each.rank is not None}, metadata)
    yield from _of_stated(_ALPHA, {number(each.alpha) for each in modules if each.has_alpha}, metadata)


def _is_absurd(module: AdapterModule) -> bool:
    return bool(module.rank) and module.alpha > _ABSURD * (module.rank or 1)


def _of_stated(key: str, found: set[str], metadata: Mapping[str, str]) -> Iterator[str]:
    """Only where all modules have the same number: of others the metadata says that of most."""
    try:
        stated = number(float(metadata[key]))
    except (KeyError, ValueError):
        return
    if len(found) == 1 and stated not in found:
        yield f"`{key}` says {stated}, the modules have {next(iter(found))}."


def of_types(file: TensorFile) -> Iterator[str]:
    """Numbers of several types, which tools that ask the first tensor get wrong."""
    sizes: Counter[str] = Counter()
    for tensor in file.header.tensors.values():
        sizes[tensor.dtype] += tensor.bytes
    total = sizes.total()
    large = [dtype for dtype, size in sizes.most_common() if size > _MIXTURE * total]
    if len(large) > 1:
        yield f"The numbers are of several types: {', '.join(large)}."


def of_hashes(hashes: Hashes) -> Iterator[str]:
    """Hashes in the metadata that are of other tensors."""
    for name, stated, computed in (
        ("sshs_model_hash", hashes.stated_sshs_model_hash, hashes.sshs_model_hash),
        ("sshs_legacy_hash", hashes.stated_sshs_legacy_hash, hashes.sshs_legacy_hash),
    ):
        if stated is not None and stated.lower().removeprefix("0x") != computed:
            yield (
                f"`{name}` in the metadata is another file's: a tool has changed this one and left it as it "
                "was."
            )
