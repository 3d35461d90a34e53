"""Which keys of a module a program reads together, by their endings."""

import msgspec

from trainer.weights.consumers.groups import Group


class Refused(Exception):
    """Raised when a program would load nothing of a file. The text says why, as a sentence."""


class Form(msgspec.Struct, frozen=True):
    """One way to write a module down. It is there where one of `begins` is; then `needs` must be, or the
    program fails; `takes` are read where they are."""

    begins: tuple[str, ...]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    def found(self, group: Group) -> bool:
        """Whether the module is written in this way."""
        return any(ending in group.parts for ending in self.begins)

    def read(self, group: Group) -> set[str]:
        """The keys that are read. Raises Refused where some of them are missing."""
        if missing := [ending for ending in self.needs if ending not in group.parts]:
            raise Refused(f"It fails at `{group.name}`, which has no `{missing[0].lstrip('.')}`.")
        return group.keys((*self.begins, *self.needs, *self.takes))


class Forms(msgspec.Struct, frozen=True):
    """Everything that a program knows how to read of a module: `always`, and of each of `choices` the first
    form that is there."""

    choices: tuple[tuple[Form, ...], ...]
    always: tuple[str, ...] = (".alpha", ".dora_scale")

    def read(self, group: Group) -> set[str]:
        """The keys that are read. Raises Refused."""
        used = group.keys(self.always)
        for forms in self.choices:
            if (form := next((each for each in forms if each.found(group)), None)) is not None:
                used |= form.read(group)
        return used


def pair(up: str, down: str, *more: str) -> Form:
    """A low-rank pair, begun by its up half, with what may come with it."""
    return Form((up,), (down,), more)


KOHYA_PAIR = pair(".lora_up.weight", ".lora_down.weight", ".lora_mid.weight")
#: Endings that files of diffusers and peft had over the years.
DIFFUSERS_PAIRS = (
    pair("_lora.up.weight", "_lora.down.weight"),
    pair(".lora_B.weight", ".lora_A.weight"),
    pair(".lora.up.weight", ".lora.down.weight"),
    pair(".lora_linear_layer.up.weight", ".lora_linear_layer.down.weight"),
)
LOHA = Form((".hada_w1_a",), (".hada_w1_b", ".hada_w2_a", ".hada_w2_b"))
LOHA_TUCKER = Form((".hada_t1",), (".hada_t2",))
LOKR = Form(
    (".lokr_w1", ".lokr_w2", ".lokr_w1_a", ".lokr_w2_a"),
    (),
    (".lokr_w1_b", ".lokr_w2_b", ".lokr_t2"),
)
GLORA = Form((".a1.weight",), (".a2.weight", ".b1.weight", ".b2.weight"))
NORM = Form((".w_norm",), (), (".b_norm",))
FULL = Form((".diff",))
FULL_BIAS = Form((".diff_b",))
SET = Form((".set_weight",))
