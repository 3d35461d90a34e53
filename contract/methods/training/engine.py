"""`[engine]`: what does the training."""

from contract.base import Strict


class NativeEngine(Strict, frozen=True, kw_only=True, tag="native", tag_field="type"):
    """The trainer of this program."""


#: What may train; others join by their own `type`.
Engine = NativeEngine
