"""Saved, loaded and gone on with: the same to the last bit, through tensors and JSON in files."""

from pathlib import Path

import pytest
import torch

from contract.errors import WeightsMismatch
from contract.methods.training.optimizer import AdamW, AdamW8bit
from tests.trainer.optimizers.small import SETTINGS, Training, no_global_numbers
from trainer.checkpoints.part import read_part, write_part
from trainer.optimizers import evaluated, restore, state_of

EACH = pytest.mark.parametrize("name", SETTINGS)


def saved_and_loaded(training: Training, folder: Path, fresh: Training) -> Training:
    """`fresh`, with the parameters and the state that `training` has, by way of files."""
    write_part(str(folder), "adapter", [each.detach() for each in training.parameters()])
    write_part(str(folder), "optimizer", state_of(training.optimizer))
    for parameter, kept in zip(fresh.parameters(), read_part(str(folder), "adapter"), strict=True):
        parameter.data.copy_(kept)
    restore(fresh.optimizer, read_part(str(folder), "optimizer"))
    return fresh


def same(one: Training, other: Training) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("before", [0, 1, 9])
def test_resumed_is_never_stopped(name: str, dtype: torch.dtype, before: int, tmp_path: Path) -> None:
    whole = Training(SETTINGS[name], dtype)
    with no_global_numbers():
        whole.steps(16)

    stopped = Training(SETTINGS[name], dtype)
    stopped.steps(before)
    resumed = saved_and_loaded(stopped, tmp_path, Training(SETTINGS[name], dtype))
    resumed.steps(16 - before)
    assert same(whole, resumed)
    with evaluated(whole.optimizer), evaluated(resumed.optimizer):
        assert same(whole, resumed)


@EACH
def test_the_state_is_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    training = Training(SETTINGS[name], torch.bfloat16)
    training.steps(3)
    resumed = saved_and_loaded(training, tmp_path, Training(SETTINGS[name], torch.bfloat16))
    before, after = state_of(training.optimizer)["state"], state_of(resumed.optimizer)["state"]
    assert before["param_groups"] == after["param_groups"]
    assert before["state"].keys() == after["state"].keys()
    for index, entries in before["state"].items():
        for key, value in entries.items():
            found = after["state"][index][key]
            if isinstance(value, torch.Tensor):
                assert found.dtype == value.dtype, key
                assert torch.equal(found, value), key
            else:
                assert (type(found), found) == (type(value), value)


def test_the_float32_state_of_half_precision_numbers_is_not_rounded(tmp_path: Path) -> None:
    # torch's own load_state_dict rounds it; Adafactor is one that has such a state.
    training = Training(SETTINGS["adafactor"], torch.bfloat16)
    training.steps(2)
    resumed = saved_and_loaded(training, tmp_path, Training(SETTINGS["adafactor"], torch.bfloat16))
    kept = resumed.optimizer.state[resumed.down]["exp_avg_sq_row"]
    assert kept.dtype == torch.float32
    assert not torch.equal(kept, kept.bfloat16().float())


def test_eight_bits_are_resumed_as_they_were(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    settings = AdamW8bit(learning_rate=0.01, text_encoder_rate=0.005)
    # Smaller tensors than 4,096 numbers have 32 bits there.
    whole, stopped = Training(settings, size=40), Training(settings, size=40)
    whole.steps(8)
    stopped.steps(3)
    resumed = saved_and_loaded(stopped, tmp_path, Training(settings, size=40))
    assert resumed.optimizer.state[resumed.down]["state1"].dtype == torch.uint8
    resumed.steps(5)
    assert same(whole, resumed)


def test_what_was_read_is_not_written_to() -> None:
    training = Training(SETTINGS["adamw"])
    training.steps(2)
    state = state_of(training.optimizer)
    kept = {index: dict(entries) for index, entries in state["state"]["state"].items()}
    copies = {index: entries["exp_avg"].clone() for index, entries in kept.items()}
    resumed = Training(SETTINGS["adamw"])
    restore(resumed.optimizer, state)
    resumed.steps(3)
    assert all(torch.equal(kept[index]["exp_avg"], copies[index]) for index in kept)


def test_the_state_of_another_optimizer_is_refused() -> None:
    state = state_of(Training(SETTINGS["lion"]).optimizer)
    with pytest.raises(WeightsMismatch, match="is one of `trainer.optimizers.lion.Lion`"):
        restore(Training(SETTINGS["adamw"]).optimizer, state)


def test_the_state_of_other_parameters_is_refused() -> None:
    state = state_of(Training(SETTINGS["adamw"]).optimizer)
    without_encoder = Training(AdamW(learning_rate=0.01))
    with pytest.raises(WeightsMismatch, match="other modules or ranks"):
        restore(without_encoder.optimizer, state)
