"""The classes of diffusers and transformers that models are made of, imported in half the time.

Most of that time nobody needs. Python looks for garbage among a million new objects, all of which stay. And
scipy is imported for schedulers of diffusers and for losses of transformers that no training here has.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple

#: Imported by the libraries, and needed by few of their functions.
_LATE: Final = ("scipy.integrate", "scipy.optimize", "scipy.stats")
#: What another version of the libraries may raise that wants more of a module than what stands in for it.
_NOT_ENOUGH: Final = (AttributeError, ImportError, RuntimeError, TypeError)


class Libraries(NamedTuple):
    """Classes: of a U-Net, a VAE, CLIP's text encoder without and with a projection, its configuration and
    its tokenizer."""

    unet: Any
    vae: Any
    clip: Any
    clip_projected: Any
    clip_config: Any
    clip_tokenizer: Any


@cache
def libraries() -> Libraries:
    """Import them, two seconds of work the first time. Raises ImportError."""
    with undisturbed():
        try:
            with _postponed():
                return _imported()
        except _NOT_ENOUGH:
            return _imported()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Within it no garbage is looked for: for imports. What was made in it counts as old afterwards, so that
    it is looked at last.

    A second one within it does nothing.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        # Both only join lists. Left frozen, what a run has by now could never be let go of.
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def _imported() -> Libraries:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    return Libraries(
        UNet2DConditionModel,
        AutoencoderKL,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTextConfig,
        CLIPTokenizer,
    )


class _Late(ModuleType):
    """Stands in for a module; a function of it is looked up when it is called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*arguments, **named)

        return call


@contextmanager
def _postponed() -> Iterator[None]:
    """Within it, what imports one of `_LATE` gets one that is imported when it is used."""
    standing = {name: _Late(name) for name in _LATE if name not in sys.modules}
    sys.modules.update(standing)
    try:
        yield
    finally:
        for name, module in standing.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
