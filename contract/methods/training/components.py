"""The parts of a model that are trained, by the names that every table uses."""

from typing import Final, Literal

#: The U-Net and the text encoders of a model in their order.
Component = Literal["unet", "te1", "te2"]
COMPONENTS: Final[tuple[Component, ...]] = ("unet", "te1", "te2")
TEXT_ENCODERS: Final[tuple[Component, ...]] = ("te1", "te2")
