"""The parts of the model of a run, each loaded when it is needed and let go of afterwards, so that the VAE,
the text encoders and the denoiser need not be in memory at once."""

from collections.abc import Callable
from typing import NamedTuple

from contract.methods.train import TrainSettings
from trainer.families import Family, Loaded, ModelFiles, Part
from trainer.families.base import Recognised
from trainer.run.numbers import Numbers
from trainer.run.peak import give_back


class Base(NamedTuple):
    """What a run is trained upon, not loaded yet: what the settings say of it comes before what it says."""

    family: Family
    files: ModelFiles
    recognised: Recognised
    clip_skip: int | None

    @property
    def prediction(self) -> str:
        return self.recognised.prediction


class Parts:
    """Loads on `numbers.device`. `told` is called with the title of what is being loaded."""

    def __init__(self, base: Base, numbers: Numbers, told: Callable[[str], None]) -> None:
        self.base = base
        self.numbers = numbers
        self._told = told
        self._loaded: dict[frozenset[Part], Loaded] = {}

    def vae(self) -> Loaded:
        """With the VAE, and perhaps others."""
        return self._with("vae")

    def text(self) -> Loaded:
        """With the text encoders, and perhaps others."""
        return self._with("text")

    def model(self, *, with_text: bool) -> Loaded:
        """With the denoiser, and the text encoders where they are trained or asked in every step."""
        return self._one(frozenset({"denoiser", "text"} if with_text else {"denoiser"}))

    def release(self, part: Part) -> None:
        """Let go of a part that was loaded alone."""
        if self._loaded.pop(frozenset({part}), None) is not None:
            give_back()

    def is_loaded(self, part: Part) -> bool:
        """Whether a part is in memory."""
        return any(part in parts for parts in self._loaded)

    def _with(self, part: Part) -> Loaded:
        for parts, loaded in self._loaded.items():
            if part in parts:
                return loaded
        return self._one(frozenset({part}))

    def _one(self, parts: frozenset[Part]) -> Loaded:
        if parts not in self._loaded:
            self._told(", ".join(sorted(parts)))
            numbers = self.numbers
            self._loaded[parts] = self.base.family.load(
                self.base.files,
                numbers.compute,
                parts=parts,
                device=str(numbers.device),
                vae_dtype=numbers.vae,
            )
        return self._loaded[parts]


def base_of(family: Family, files: ModelFiles, found: Recognised, settings: TrainSettings) -> Base:
    """What the settings say of a model comes before what it says of itself."""
    model = settings.model
    prediction = found.prediction if model.prediction == "auto" else model.prediction
    zero_snr = found.zero_snr if model.zero_terminal_snr == "auto" else model.zero_terminal_snr == "on"
    if prediction == "epsilon" and model.zero_terminal_snr == "auto":
        # What a file says of noise alone holds for what it says that it predicts.
        zero_snr = zero_snr and model.prediction == "auto"
    recognised = Recognised(found.family, prediction, zero_snr, found.warnings)
    return Base(family, files, recognised, model.clip_skip)
