"""How much of an adapter each program will load, before anybody waits for a picture that shows it.

Programs pass over keys that they do not know, at most with a line in a log, so that a file looks loaded that
is not. Each program here is one object with a rule for every family that it runs; the modules of a model are
those of the published one (`trainer.weights.names`). No tensor is read, and torch is not needed.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from contract.methods.inspect import Consumer
from trainer.weights.consumers.comfyui import COMFYUI
from trainer.weights.consumers.diffusers import DIFFUSERS
from trainer.weights.consumers.forge import FORGE
from trainer.weights.consumers.groups import grouped
from trainer.weights.consumers.reading import Case, Program, Reading
from trainer.weights.consumers.webui import WEBUI
from trainer.weights.names import Sites

__all__ = ["CONSUMERS", "LISTED", "Case", "Program", "Reading", "consumers"]

#: Every program that is judged, in the order in which people read them.
CONSUMERS: Final[tuple[Program, ...]] = (WEBUI, FORGE, COMFYUI, DIFFUSERS)
#: Unmatched keys that are listed of each.
LISTED: Final = 1000
_ENCODER_PREFIXES: Final = ("lora_te", "text_encoder", "lora_prior_te")


def consumers(keys: Sequence[str], sites: Sites, alphas: Mapping[str, float]) -> list[Consumer]:
    """What each program makes of an adapter: `keys` in file order, `sites` of the published model that it is
    for, `alphas` by module name."""
    case = Case(grouped(keys), sites, alphas)
    apart = _unjudged(case)
    return [_shown(program, keys, program.read(case), apart) for program in CONSUMERS]


def _unjudged(case: Case) -> str | None:
    """What is said of text encoders whose modules are not known; programs may read their keys or not."""
    if _has_encoder(case.sites):
        return None
    count = sum(len(group.parts) for group in case.groups if group.name.startswith(_ENCODER_PREFIXES))
    return (
        f"{count} keys of a text encoder were not judged: its modules are not known here." if count else None
    )


def _has_encoder(sites: Sites) -> bool:
    return any(site.component != "unet" for site in sites.all)


def _shown(program: Program, keys: Sequence[str], reading: Reading, apart: str | None) -> Consumer:
    unmatched = [key for key in keys if key not in reading.used]
    notes = [note for note in (reading.note, apart) if note is not None]
    return Consumer(
        name=program.name,
        matched=len(keys) - len(unmatched),
        total=len(keys),
        unmatched=unmatched[:LISTED],
        note=" ".join(notes) or None,
    )
