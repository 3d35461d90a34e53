"""The steps of a run against the same ones in plain torch, from the papers."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.run import by_hand, learning, runs
from trainer.data.examples import Example
from trainer.objective import objective as objectives
from trainer.objective.noise import gaussian
from trainer.run.learner import Learner

RANK: Final = 4
#: α ÷ r is a power of two: what is multiplied with it and divided by it again stays the same.
ALPHA: Final = 8.0
SCALE: Final = ALPHA / RANK
RATE: Final = 1e-3
TEXT_RATE: Final = 5e-4
DECAY: Final = 0.1
#: So that Adam does not make as much of the last bits of a gradient as of its first.
EPS: Final = 1e-4
#: Shorter than the gradients are.
LONGEST: Final = 0.05
#: Of three steps with one to warm up, then in a line down to nothing: (0 + 1) / (1 + 1), 1, 1 − 1 / 2.
SHARES: Final = (0.5, 1.0, 0.5)
CAPTIONS: Final = {"a": "a cat, red", "b": "a dog", "c": "night, forest, moon"}


class Case(NamedTuple):
    """What is trained, and how it is judged."""

    family: str
    kind: str
    components: tuple[str, ...]
    objective: by_hand.Objective


EPSILON: Final = by_hand.Objective("epsilon", "min_snr", "l2")
V: Final = by_hand.Objective("v", "none", "huber", zero_snr=True)
CASES: Final = {
    "sd15": Case("sd15", "lora", ("unet", "text_encoder"), EPSILON),
    "sd15 v": Case("sd15", "locon", ("unet",), V),
    "sdxl": Case("sdxl", "lora", ("unet", "text_encoder", "text_encoder_2"), EPSILON),
}


class Watched:
    """What a run drew, batch by batch."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.batches: list[by_hand.Seen] = []
        self._examples: list[Example] = []
        self._noise: list[torch.Tensor] = []
        patch.setattr(Learner, "add_gradients", self._adding(Learner.add_gradients))
        patch.setattr(objectives, "gaussian", self._noising(gaussian))
        patch.setattr(objectives.Objective, "draw", self._drawing(objectives.Objective.draw))

    def _adding(self, add: Any) -> Any:
        def adding(learner: Learner, example: Example, place: Any) -> Any:
            self._examples.append(example)
            return add(learner, example, place)

        return adding

    def _noising(self, make: Any) -> Any:
        def noising(*arguments: Any) -> Any:
            self._noise.append(make(*arguments))
            return self._noise[-1]

        return noising

    def _drawing(self, draw: Any) -> Any:
        def drawing(objective: Any, clean: torch.Tensor, generator: torch.Generator) -> Any:
            drawn = draw(objective, clean, generator)
            example = self._examples[-1]
            sizes = [[*each.original, *each.crop, *each.target] for each in example.sizes]
            self.batches.append(
                by_hand.Seen(clean, self._noise[-1], drawn.timesteps, example.captions, sizes)
            )
            return drawn

        return drawing


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_step_is_that_of_a_plain_loop(
    case: Case, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = learning.fixture(case.family, models)
    model = by_hand.Model(case.family, fixture.folder, SCALE)
    factors = model.network(case.kind, case.components, RANK, seed=5)
    start = tmp_path / "start.safetensors"
    # What peft's naming has no place for is part of the second factor.
    save_file({name: value * SCALE if _is_up(name) else value for name, value in factors.items()}, start)
    watched = Watched(monkeypatch)
    asked = runs.request(
        fixture.file,
        learning.drawn(tmp_path / "pictures", CAPTIONS),
        tmp_path / "place",
        **_tables(case, start),
    )
    runs.go(asked)
    assert len(watched.batches) == 2 * len(SHARES)
    rates = {each: RATE if each == "unet" else TEXT_RATE for each in case.components}
    optimizer = by_hand.AdamW(rates, decay=DECAY, epsilon=EPS, longest=LONGEST)
    for step, share in enumerate(SHARES, 1):
        batches = watched.batches[2 * step - 2 : 2 * step]
        # Three pictures, two a batch and two batches a step: one batch has one picture alone.
        assert sorted(len(seen.captions) for seen in batches) == [1, 2]
        gradients = by_hand.gradients(model, case.objective, batches, factors)
        factors = optimizer.step(factors, gradients, share)
        on_the_way = Path(asked.output).with_name(f"cat-step{step:08d}.safetensors")
        written = load_file(asked.output if step == len(SHARES) else on_the_way)
        assert written.keys() == factors.keys()
        worst = max(float((_own(name, written[name]) - factors[name]).abs().max()) for name in factors)
        # What a step is off by, those after it start from.
        assert worst < step * 1e-6


def _tables(case: Case, start: Path) -> dict[str, Any]:
    objective = case.objective
    return {
        **learning.WHOLE,
        "model": {
            "prediction": objective.prediction,
            "zero_terminal_snr": "on" if objective.zero_snr else "off",
        },
        "network": {
            "type": case.kind,
            "include": [],
            "rank": RANK,
            "alpha": ALPHA,
            "start_from": {"path": str(start)},
            **({"conv_rank": RANK, "conv_alpha": ALPHA} if case.kind == "locon" else {}),
        },
        "training": {"steps": 3, "batch_size": 2, "accumulation": 2, "max_grad_norm": LONGEST},
        "optimizer": {
            "type": "adamw",
            "learning_rate": RATE,
            "text_encoder_rate": TEXT_RATE if len(case.components) > 1 else 0.0,
            "weight_decay": DECAY,
            "eps": EPS,
        },
        "schedule": {"type": "linear", "warmup_steps": 1},
        "objective": {"weighting": objective.weighting, "loss": {"type": objective.loss}},
        "saving": {"naming": "peft", "every_steps": 1},
    }


def _is_up(name: str) -> bool:
    return name.endswith(".lora_B.weight")


def _own(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of a file as the factor that it is."""
    return tensor / SCALE if _is_up(name) else tensor
