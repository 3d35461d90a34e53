"""What a model is, from its header: kind, family and type of its numbers. Unmistakable signs only.

A sign that several families share says nothing: then the family is None, which is better than a wrong one.
The signs are those of `contract.rules.families`, by which kernels tell files, too.
"""

from collections import Counter
from typing import Literal

from contract.rules.families import Found, detect
from orchestrator.models.header import Header

Kind = Literal[
    "checkpoint",
    "diffusion_model",
    "lora",
    "vae",
    "text_encoder",
    "tagger",
    "embedding",
    "controlnet",
    "upscaler",
    "unknown",
]


def found_of(header: Header) -> Found:
    """All that its names and shapes say; no tensor is read."""
    return detect({name: tensor.shape for name, tensor in header.tensors.items()}, header.metadata)


def kind_of(header: Header, found: Found | None = None) -> Kind | None:
    """What sort of model it is; None where its header does not say."""
    architecture = header.metadata.get("modelspec.architecture", "")
    if architecture.endswith("/lora") or "ss_network_module" in header.metadata:
        return "lora"
    if architecture.endswith("/textual-inversion"):
        return "embedding"
    return (found or found_of(header)).kind


def family_of(header: Header, found: Found | None = None) -> str | None:
    """What it is a model of, or for; None where that is not beyond doubt. What it says of itself counts where
    its keys say nothing."""
    seen = found or found_of(header)
    return seen.family or (None if seen.evidence else seen.stated)


def dtype_of(header: Header) -> str | None:
    """The type of most of its numbers, as the format writes it; None where it has none."""
    sizes: Counter[str] = Counter()
    for tensor in header.tensors.values():
        sizes[tensor.dtype] += tensor.bytes
    return max(sizes, key=sizes.__getitem__, default=None)
