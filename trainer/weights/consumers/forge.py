"""What Forge reads of an adapter (stable-diffusion-webui-forge, mainline).

Its loader descends from an older ComfyUI's, with fewer names, and with one rule of its own: a file of which
more than twelve keys fit nothing is taken for another model's and not loaded at all.

Established by reading `extensions-builtin/sd_forge_lora/networks.py`, `backend/patcher/lora.py` and what they
call, at commit dfdcbab6 (2025-06-26); no line of it is here.
"""

from collections.abc import Iterator
from typing import Final

from trainer.weights.consumers import comfyui, forms
from trainer.weights.consumers.comfyui import Names
from trainer.weights.consumers.forms import Forms, Refused
from trainer.weights.consumers.reading import (
    Case,
    Program,
    Reading,
    by_names,
    encoder,
    in_encoder,
    joined,
)
from trainer.weights.names import Site

#: Keys that may fit nothing before a file is refused.
UNMATCHED_ALLOWED: Final = 12

_FORMS: Final = Forms(
    (
        (forms.KOHYA_PAIR, *forms.DIFFUSERS_PAIRS),
        (forms.LOHA,),
        (forms.LOHA_TUCKER,),
        (forms.LOKR,),
        (forms.GLORA,),
        (forms.NORM,),
        (forms.FULL,),
        (forms.FULL_BIAS,),
        (forms.SET,),
    )
)
_T5_PREFIXES: Final = ("lora_te1_", "lora_te2_", "lora_te3_")


def _t5(site: Site) -> Iterator[str]:
    name = in_encoder(site)
    if name is not None and encoder(site) == "t5xxl":
        yield from (prefix + joined(name) for prefix in _T5_PREFIXES)


_UNET: Final = (comfyui.own, comfyui.unet)
_DENOISERS: Final[dict[str, tuple[Names, ...]]] = {
    "sd15": _UNET,
    "sd2": _UNET,
    "sdxl": _UNET,
    "sdxl_refiner": _UNET,
    "sd3": (comfyui.own,),
    "flux1": (
        comfyui.own,
        comfyui.prefixed("transformer.", "lycoris_", "lora_transformer_", known=comfyui.FLUX_NAMES),
    ),
    "chroma": (comfyui.own,),
}


def _read(case: Case) -> Reading:
    encoders = comfyui.text_encoders(comfyui.ENCODERS.get(case.family, {}), generic=False)
    names = comfyui.known_names(case, (*_DENOISERS[case.family], encoders, _t5))
    used = by_names(case.groups, names, _FORMS)
    left = sum(len(group.parts) for group in case.groups) - len(used)
    if left > UNMATCHED_ALLOWED:
        raise Refused(f"It takes a file of which more than {UNMATCHED_ALLOWED} keys fit nothing for another "
                      f"model's; here {left} do.")  # fmt: skip
    return Reading(used)


FORGE: Final = Program(
    name="Forge",
    rules=dict.fromkeys(_DENOISERS, _read),
    others="It does not run this family.",
)
