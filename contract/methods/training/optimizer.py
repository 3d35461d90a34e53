"""`[optimizer]`: how gradients become changes, and how fast each part of the model learns."""

import keyword
import math
from typing import Annotated, Any, Final

from msgspec import Meta

from contract.base import Strict
from contract.fields import field
from contract.methods.training.components import COMPONENTS, Component
from contract.validation import Contradiction

Rate = Annotated[float, Meta(ge=0, le=1000)]
#: How much of the past a running mean keeps.
Decay = Annotated[float, Meta(ge=0, lt=1)]
Betas = Annotated[
    tuple[Decay, Decay],
    field("Betas", "How much of the past the running means keep.", detail="advanced"),
]
Eps = Annotated[
    float, field("Epsilon", "Keeps a division from becoming one by 0.", detail="expert", gt=0, le=1)
]
WeightDecay = Annotated[
    float,
    field(
        "Weight decay", "Pulls the weights towards 0, against overfitting.", detail="advanced", ge=0, le=100
    ),
]
#: The rate of the U-Net, or of the transformer.
LearningRate = Annotated[
    Rate,
    field("Learning rate", "Of the U-Net. Too high burns, too low learns nothing. 0: it is not trained."),
]
#: What an optimizer of some library may be given.
Argument = bool | int | float | str | list[bool | int | float | str]
#: Arguments that the trainer gives itself.
_RESERVED: Final = frozenset({"params", "lr"})


class _Optimizer(Strict, frozen=True, kw_only=True):
    """What all optimizers share: the rates."""

    learning_rate: LearningRate = 1e-4
    text_encoder_rate: Annotated[
        Rate,
        field(
            "Learning rate of the text encoders",
            "0: they are not trained, and their output can be cached. Half of the U-Net's or less is usual.",
        ),
    ] = 0.0
    rates: Annotated[
        dict[Component, Rate],
        field(
            "Rates by component",
            "`unet`, `te1`, `te2` → its own rate, in place of the two above; 0: it is not trained.",
            detail="expert",
        ),
    ] = {}

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise Contradiction(*problems)

    def rate_of(self, component: Component) -> float:
        """Its learning rate; 0 where it is not trained."""
        of_all = self.learning_rate if component == "unet" else self.text_encoder_rate
        return self.rates.get(component, of_all)

    def arguments_of_class(self) -> dict[str, Any]:
        """What its class is given beside the rates, by name."""
        rates = _Optimizer.__struct_fields__
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in rates}

    def trains(self, *components: Component) -> bool:
        """Whether any of them is trained."""
        return any(self.rate_of(each) > 0 for each in components)

    def _problems(self) -> list[tuple[str, str]]:
        if not self.trains(*COMPONENTS):
            return [("learning_rate", "nothing would be trained; one of the rates must be above 0")]
        return []


class AdamW(_Optimizer, frozen=True, kw_only=True, tag="adamw", tag_field="type"):
    """AdamW: what most LoRAs are trained with."""

    betas: Betas = (0.9, 0.99)
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.01


class AdamW8bit(_Optimizer, frozen=True, kw_only=True, tag="adamw8bit", tag_field="type"):
    """AdamW with its state in 8 bits, a quarter of the memory. Needs the library bitsandbytes and a GPU."""

    betas: Betas = (0.9, 0.99)
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.01


class Lion(_Optimizer, frozen=True, kw_only=True, tag="lion", tag_field="type"):
    """Lion: half the state of AdamW; wants a rate three to ten times lower, and a higher weight decay."""

    learning_rate: LearningRate = 3e-5
    betas: Betas = (0.9, 0.99)
    weight_decay: WeightDecay = 0.1


class Adafactor(_Optimizer, frozen=True, kw_only=True, tag="adafactor", tag_field="type"):
    """Adafactor: hardly any state. With `relative_step` it chooses its rate itself; the rates then only say
    what is trained."""

    eps: Annotated[
        tuple[Annotated[float, Meta(gt=0, le=1)], Annotated[float, Meta(gt=0, le=1)]],
        field("Epsilon", "Of the squared gradient, and of the size of the weights.", detail="expert"),
    ] = (1e-30, 1e-3)
    clip_threshold: Annotated[
        float, field("Clip threshold", "Largest mean square of an update.", detail="expert", gt=0, le=1000)
    ] = 1.0
    decay_rate: Annotated[
        float,
        field("Decay rate", "Power of the step by which the past fades.", detail="expert", ge=-1, lt=0),
    ] = -0.8
    beta1: Annotated[
        Decay,
        field("Beta 1", "How much of past gradients the mean keeps. 0: there is none.", detail="expert"),
    ] = 0.0
    weight_decay: WeightDecay = 0.0
    scale_parameter: Annotated[
        bool, field("Scale by weights", "Larger steps for larger weights.", detail="advanced")
    ] = False
    relative_step: Annotated[
        bool, field("Relative step", "Choose the rate by the step.", detail="advanced")
    ] = False
    warmup_init: Annotated[
        bool,
        field("Slow beginning", "Let the rate chosen by the step rise from far below.", detail="advanced"),
    ] = False

    def arguments_of_class(self) -> dict[str, Any]:
        return {**super().arguments_of_class(), "beta1": self.beta1 or None}

    def _problems(self) -> list[tuple[str, str]]:
        problems = super()._problems()
        if self.warmup_init and not self.relative_step:
            problems.append(("warmup_init", "needs `relative_step`"))
        return problems


class Prodigy(_Optimizer, frozen=True, kw_only=True, tag="prodigy", tag_field="type"):
    """Prodigy: AdamW that finds its rate itself; `learning_rate` multiplies what it finds, and stays 1."""

    learning_rate: LearningRate = 1.0
    betas: Betas = (0.9, 0.99)
    beta3: (
        Annotated[
            Decay,
            field("Beta 3", "Of the estimate of the rate. Left out: the root of beta 2.", detail="expert"),
        ]
        | None
    ) = None
    eps: Eps = 1e-8
    weight_decay: WeightDecay = 0.01
    decouple: Annotated[
        bool, field("Decoupled decay", "Weight decay as in AdamW, not as in Adam.", detail="expert")
    ] = True
    use_bias_correction: Annotated[bool, field("Bias correction", "As in Adam.", detail="advanced")] = True
    safeguard_warmup: Annotated[
        bool,
        field("Safeguard warm-up", "Keep a warm-up out of the estimate of the rate.", detail="advanced"),
    ] = True
    d0: Annotated[
        float, field("First estimate", "Of the rate, to grow from.", detail="expert", gt=0, le=1)
    ] = 1e-6
    d_coef: Annotated[
        float,
        field("Factor", "Multiplies the estimate; 2 learns faster.", detail="advanced", gt=0, le=1000),
    ] = 1.0
    growth_rate: Annotated[
        float,
        field(
            "Growth",
            "By how much the estimate may grow in a step, as a factor above 1. 0: without limit.",
            detail="expert",
            ge=0,
            le=1_000_000,
        ),
    ] = 0.0

    def arguments_of_class(self) -> dict[str, Any]:
        return {**super().arguments_of_class(), "growth_rate": self.growth_rate or math.inf}

    def _problems(self) -> list[tuple[str, str]]:
        problems = super()._problems()
        rates = {rate for each in COMPONENTS if (rate := self.rate_of(each)) > 0}
        if len(rates) > 1:
            problems.append(("text_encoder_rate", f"Prodigy knows one rate: {self.learning_rate:g} or 0"))
        if 0 < self.growth_rate <= 1:
            problems.append(("growth_rate", "is a factor above 1, or 0"))
        return problems


class _ScheduleFree(_Optimizer, frozen=True, kw_only=True):
    """Optimizers that average the weights instead of slowing down (Defazio et al., arXiv 2405.15682). Their
    schedule is `constant`, with or without a warm-up."""

    weight_decay: WeightDecay = 0.01
    r: Annotated[
        float,
        field(
            "Power of the step",
            "Weighs later steps more in the mean, by this power of the step.",
            detail="expert",
            ge=0,
            le=100,
        ),
    ] = 0.0
    weight_lr_power: Annotated[
        float,
        field(
            "Power of the rate",
            "Weighs steps in the mean by this power of their rate, as warm-up makes it.",
            detail="expert",
            ge=0,
            le=100,
        ),
    ] = 2.0


class AdamWScheduleFree(
    _ScheduleFree, frozen=True, kw_only=True, tag="adamw_schedule_free", tag_field="type"
):
    """AdamW that averages the weights instead of slowing down; needs the schedule `constant`."""

    learning_rate: LearningRate = 3e-4
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8


class SGDScheduleFree(_ScheduleFree, frozen=True, kw_only=True, tag="sgd_schedule_free", tag_field="type"):
    """SGD that averages the weights instead of slowing down; needs the schedule `constant`, and far higher
    rates than AdamW."""

    learning_rate: LearningRate = 1.0
    momentum: Annotated[
        float, field("Momentum", "How much of the mean goes into each step.", detail="advanced", gt=0, lt=1)
    ] = 0.9


class RAdamScheduleFree(
    _ScheduleFree, frozen=True, kw_only=True, tag="radam_schedule_free", tag_field="type"
):
    """RAdam that averages the weights instead of slowing down; needs the schedule `constant`."""

    learning_rate: LearningRate = 3e-4
    betas: Betas = (0.9, 0.999)
    eps: Eps = 1e-8
    silent_sgd_phase: Annotated[
        bool,
        field("Silent beginning", "Leave out the first steps, which would be plain SGD.", detail="expert"),
    ] = True


class CustomOptimizer(_Optimizer, frozen=True, kw_only=True, tag="custom", tag_field="type"):
    """An optimizer of a library that is installed beside the kernel, by the name it is imported by."""

    import_name: Annotated[
        str,
        field("Class", "Where it is imported from, such as `torch.optim.RAdam`.", min_length=3),
    ]
    arguments: Annotated[
        dict[str, Argument],
        field("Arguments", "Name → value, as its documentation says; the rates are given by the trainer."),
    ] = {}

    def arguments_of_class(self) -> dict[str, Any]:
        return dict(self.arguments)

    def _problems(self) -> list[tuple[str, str]]:
        problems = super()._problems()
        parts = self.import_name.split(".")
        if len(parts) < 2 or not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
            problems.append(("import_name", "is written as `package.module.Class`"))
        problems += [
            (f'arguments["{name}"]', "is given by the trainer; use the rates")
            for name in sorted(_RESERVED & self.arguments.keys())
        ]
        problems += [
            (f'arguments["{name}"]', "is no number that can be written down")
            for name, value in self.arguments.items()
            if not all(_is_finite(each) for each in (value if isinstance(value, list) else [value]))
        ]
        return problems


#: How gradients become changes; others join by their own `type`.
Optimizer = (
    AdamW
    | AdamW8bit
    | Lion
    | Adafactor
    | Prodigy
    | AdamWScheduleFree
    | SGDScheduleFree
    | RAdamScheduleFree
    | CustomOptimizer
)


def _is_finite(value: bool | int | float | str) -> bool:
    """JSON has no infinite numbers, and none that are not a number."""
    return not isinstance(value, float) or math.isfinite(value)


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Whether it averages the weights instead of slowing down."""
    return isinstance(optimizer, _ScheduleFree)
