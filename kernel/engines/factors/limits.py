"""The highest rank that each module may get, by what the settings say of blocks and convolutions."""

from collections.abc import Sequence
from typing import Final

from contract.errors import InvalidParams
from contract.methods.resize import ResizeSettings
from contract.rules.families import TITLES
from trainer.weights.names import Sites

#: As `rank` in the settings.
MAX_RANK: Final = 4096
#: Where the settings have their blocks.
WHERE: Final = "$.params.settings.blocks"


class Limits:
    """The caps of a job's modules. A block wins over its component, and both over convolutions."""

    def __init__(self, settings: ResizeSettings, sites: Sites) -> None:
        """Raises InvalidParams for a block that the family does not have."""
        self._settings = settings
        self._sites = sites
        if settings.blocks:
            self._check()

    def of(self, name: str, *, is_conv: bool) -> int:
        """The highest rank of a module, by its name in the input; 0 leaves it out."""
        blocks = self._settings.blocks
        site = self._sites.find(name) if blocks else None
        for part in () if site is None else (site.block, site.component):
            if part in blocks:
                return blocks[part]
        if is_conv and self._settings.conv_rank is not None:
            return self._settings.conv_rank
        return self._settings.rank

    def _check(self) -> None:
        known = _blocks(self._sites)
        title = TITLES.get(self._sites.family, self._sites.family)
        for name, rank in self._settings.blocks.items():
            if name not in known:
                raise InvalidParams(
                    f"{title} has no block `{name}`; it has {', '.join(known)}.",
                    where=WHERE,
                    details={"known": list(known)},
                )
            if not 0 <= rank <= MAX_RANK:
                raise InvalidParams(f"The rank of `{name}` is not in 0 … {MAX_RANK}.", where=WHERE)


def _blocks(sites: Sites) -> Sequence[str]:
    """The names of components, in the order of the model, and of blocks."""
    components = dict.fromkeys(site.component for site in sites.all)
    return [*components, *sorted({site.block for site in sites.all} - components.keys())]
