"""What is written about a file of weights: edits, and what an output says of where it came from.

Keys as kohya-ss writes them (`ss_*`, `sshs_*`) and of ModelSpec 1.0.1 (github.com/Stability-AI/ModelSpec).
Nothing here depends on the time, so that the same work writes the same bytes.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from contract.errors import cut
from contract.methods.weights import RECIPE_KEY
from contract.rules.paths import to_wire
from trainer.weights.hashes import LEGACY_HASH, MODEL_HASH
from trainer.weights.private_paths import without_paths
from trainer.weights.tensor_file import TensorFile

#: Where an output has the settings that it was made with.
RECIPE: Final = RECIPE_KEY
#: What several values of a number are called.
DYNAMIC: Final = "Dynamic"

_COMMENT: Final = "ss_training_comment"
_RANK, _ALPHA, _MODULE = "ss_network_dim", "ss_network_alpha", "ss_network_module"
_SPEC: Final = "modelspec."
_ARCHITECTURE: Final = "modelspec.architecture"
#: What is true of one file only.
_OWN: Final = frozenset(
    f"{_SPEC}{name}" for name in "title date hash_sha256 merged_from thumbnail description".split()
)
#: What follows from the family and its training, so that files which do not say it have it too.
_TECHNICAL: Final = frozenset(f"{_SPEC}{name}" for name in "resolution prediction_type".split())


class Architecture(NamedTuple):
    """What a family is called in metadata: its ModelSpec architecture, what those of its variants begin
    with, and kohya's base model version, with what those of its variants begin with."""

    spec: str
    spec_prefix: str
    base: str | None = None
    base_prefix: str = ""


#: Family → names. Those of kohya-ss, sd-scripts (`sai_model_spec.py`) and musubi-tuner, as peers read them.
ARCHITECTURES: Final = {
    "sd15": Architecture("stable-diffusion-v1", "stable-diffusion-v1", "sd_v1", "sd_v1"),
    "sd2": Architecture("stable-diffusion-v2-512", "stable-diffusion-v2", "sd_v2", "sd_v2"),
    "sdxl": Architecture("stable-diffusion-xl-v1-base", "stable-diffusion-xl", "sdxl_base_v1-0", "sdxl_"),
    "sdxl_refiner": Architecture("stable-diffusion-xl-v1-refiner", "stable-diffusion-xl-v1-refiner"),
    "sd3": Architecture("stable-diffusion-3", "stable-diffusion-3", "sd3", "sd3"),
    "flux1": Architecture("flux-1", "flux-1", "flux1", "flux1"),
    "flux2": Architecture("flux-2", "flux-2"),
    "chroma": Architecture("chroma", "chroma", "chroma", "chroma"),
    "lumina2": Architecture("lumina-2", "lumina-2", "lumina2", "lumina2"),
    "anima": Architecture("anima-preview", "anima", "anima", "anima"),
    "qwen_image": Architecture("Qwen-Image", "Qwen-Image"),
    "z_image": Architecture("z-image", "z-image"),
    "hunyuan_image": Architecture("hunyuan-image-2.1", "hunyuan-image"),
}


def edited(
    metadata: Mapping[str, str], *, set_: Mapping[str, str], remove: Iterable[str], strip_paths: bool
) -> dict[str, str]:
    """`metadata` without the keys that fit a pattern of `remove` (`*` is any characters), paths stripped if
    asked for, then with what `set_` has."""
    patterns = [re.compile(_pattern(each), re.DOTALL) for each in remove]
    kept = {key: text for key, text in metadata.items() if not any(each.fullmatch(key) for each in patterns)}
    return (without_paths(kept) if strip_paths else kept) | dict(set_)


def after_resize(
    metadata: Mapping[str, str],
    *,
    family: str | None,
    old_ranks: Collection[int],
    ranks: Collection[int],
    alphas: Collection[float],
    method: str,
    value: float | None = None,
) -> dict[str, str]:
    """What a resized adapter says: everything that its input said, and its new ranks and alphas.

    `ranks` and `alphas` are of all modules; of several different ones it says "Dynamic". The comment begins
    with what was done, in the words of kohya-ss, as programs look for them.
    """
    said = {key: text for key, text in metadata.items() if key not in _STALE}
    old, new = number(old_ranks), number(ranks)
    done = (
        f"dimension is resized from {old} to {new}"
        if method == "fixed"
        else f"Dynamic resize with {method}: {_digits(value or 0.0)} from {old}"
    )
    return said | _spec_of(said, family, adapter=True) | _sizes(ranks, alphas) | _comment(said, done)


def after_merge(
    inputs: Sequence[TensorFile],
    *,
    family: str | None,
    recipe: str,
    ranks: Collection[int] | None = None,
    alphas: Collection[float] = (),
) -> dict[str, str]:
    """What an output of several files says: where it came from, and all that they agree on.

    `recipe` is what `recipe_text` gives. With `ranks` it is an adapter, else a checkpoint or a part of one.
    Its title is that of its inputs together: the name of the output would make the bytes of the same recipe
    different ones under every name.
    """
    adapter = ranks is not None
    said = _agreed([file.header.metadata for file in inputs], _SPEC)
    said = {key: text for key, text in said.items() if key not in _OWN}
    # Of a checkpoint and LoRAs, the checkpoint says which variant of the family it is.
    variant = {_ARCHITECTURE: inputs[0].header.metadata.get(_ARCHITECTURE, "")}
    said |= _spec_of(variant, family, adapter=adapter)
    titles = [_title(file) for file in inputs]
    if said.get(_ARCHITECTURE):
        said |= {
            f"{_SPEC}sai_model_spec": "1.0.1",
            f"{_SPEC}title": cut(" + ".join(titles)),
            f"{_SPEC}merged_from": cut(", ".join(titles)),
        }
        said.setdefault(f"{_SPEC}implementation", "diffusers")
    if ranks is not None:
        agreed = _agreed([file.header.metadata for file in inputs if _RANK in file.header.metadata], "ss_")
        said |= {key: agreed[key] for key in ("ss_v2", _MODULE, "ss_base_model_version") if key in agreed}
        said.setdefault(_MODULE, "networks.lora")
        said |= _base_of(said, family) | _sizes(ranks, alphas)
    return said | {RECIPE: recipe}


def recipe_text(settings: msgspec.Struct, hashes: Mapping[str, str] | None = None) -> str:
    """Settings as JSON, without the folders of this machine: of every `path` its last part is left, and its
    `sha256` is what `hashes` has for the path. The same settings give the same text."""
    value = _named(msgspec.to_builtins(settings), hashes or {})
    return msgspec.json.encode(value, order="sorted").decode()


def number(values: Collection[float]) -> str:
    """The one value that all modules share, as metadata has it; "Dynamic" where they differ."""
    different = set(values)
    return _digits(different.pop()) if len(different) == 1 else DYNAMIC


_STALE: Final = frozenset((MODEL_HASH, LEGACY_HASH, f"{_SPEC}hash_sha256"))


def _pattern(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))


def _digits(value: float) -> str:
    """Short, as people write it: 16, 0.7."""
    return f"{value:.0f}" if value == int(value) else f"{value:.6g}"


def _comment(said: Mapping[str, str], done: str) -> dict[str, str]:
    before = said.get(_COMMENT, "")
    return {_COMMENT: f"{done}; {'' if before == 'None' else before}"}


def _sizes(ranks: Collection[int], alphas: Collection[float]) -> dict[str, str]:
    return {_RANK: number(ranks), _ALPHA: number(alphas)}


def _spec_of(said: Mapping[str, str], family: str | None, *, adapter: bool) -> dict[str, str]:
    """The architecture of the family; the one that the file says where that is a variant of it."""
    names = ARCHITECTURES.get(family or "")
    if names is None:
        return {}
    stated = said.get(_ARCHITECTURE, "").partition("/")[0]
    spec = stated if _family_of(stated) == family else names.spec
    return {_ARCHITECTURE: f"{spec}/lora" if adapter else spec}


def _family_of(architecture: str) -> str | None:
    """The family whose prefix fits best."""
    fitting = [
        (len(names.spec_prefix), family)
        for family, names in ARCHITECTURES.items()
        if architecture.casefold().startswith(names.spec_prefix.casefold())
    ]
    return max(fitting)[1] if fitting else None


def _base_of(said: Mapping[str, str], family: str | None) -> dict[str, str]:
    names = ARCHITECTURES.get(family or "")
    if names is None or names.base is None:
        return {}
    stated = said.get("ss_base_model_version", "")
    return {
        "ss_base_model_version": stated if stated.startswith(names.base_prefix) else names.base,
        "ss_v2": str(family == "sd2"),
    }


def _agreed(all_metadata: Sequence[Mapping[str, str]], prefix: str) -> dict[str, str]:
    """The keys with `prefix` under which all files say the same; for technical ones, all that have them."""
    keys = [key for key in _merged(all_metadata) if key.startswith(prefix)]
    said = {key: [each[key] for each in all_metadata if key in each] for key in keys}
    return {
        key: texts[0]
        for key, texts in said.items()
        if len(set(texts)) == 1 and (len(texts) == len(all_metadata) or key in _TECHNICAL)
    }


def _merged(all_metadata: Sequence[Mapping[str, str]]) -> dict[str, None]:
    """All keys, in the order in which they come."""
    return {key: None for each in all_metadata for key in each}


def _title(file: TensorFile) -> str:
    return file.header.metadata.get(f"{_SPEC}title") or _stem(file.path)


def _stem(path: str) -> str:
    return to_wire(os.path.splitext(os.path.basename(path))[0])


def _named(value: Any, hashes: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_named(each, hashes) for each in value]
    if not isinstance(value, dict):
        return value
    named = {key: _named(each, hashes) for key, each in value.items()}
    path = value.get("path")
    if isinstance(path, str):
        named["path"] = re.split(r"[/\\]", path)[-1]
        if path in hashes:
            named["sha256"] = hashes[path]
    return named
