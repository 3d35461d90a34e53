"""Families of models that can be trained: loaded offline, told what a picture and its caption are.

`FAMILIES` has them by name, `recognise` tells which one a model is of. torch and diffusers are imported when
a model is loaded.
"""

from trainer.families.base import (
    ALL_PARTS,
    Family,
    Loaded,
    MaxTokens,
    ModelFiles,
    Part,
    Prediction,
    Recognised,
    Sizes,
)
from trainer.families.registry import FAMILIES, recognise

__all__ = [
    "ALL_PARTS",
    "FAMILIES",
    "Family",
    "Loaded",
    "MaxTokens",
    "ModelFiles",
    "Part",
    "Prediction",
    "Recognised",
    "Sizes",
    "recognise",
]
