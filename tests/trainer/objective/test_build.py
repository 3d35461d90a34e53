"""From settings to an objective."""

import pytest
import torch

from contract.errors import InvalidParams
from contract.methods.training.loss import L1, L2, Huber, SmoothL1
from contract.methods.training.objective import Objective as Settings
from trainer.objective import loss
from trainer.objective.build import loss_of, objective_of
from trainer.objective.huber import ConstantHuber
from trainer.objective.process import Diffusion, StraightLine
from trainer.objective.timesteps import LogitNormal, Uniform
from trainer.objective.weighting import Debiased, Even, LikeEpsilon, MinSnr


def test_settings_reach_every_part() -> None:
    settings = Settings(
        loss=Huber(c=0.2, schedule="constant", scale=3.0),
        weighting="min_snr",
        min_snr_gamma=7.0,
        noise_offset=0.05,
        min_timestep=10,
        max_timestep=500,
    )
    built = objective_of(settings, "epsilon")
    assert isinstance(built.process, Diffusion)
    assert (built.process.first, built.process.end) == (10, 500)
    assert isinstance(built.process.timesteps, Uniform)
    assert isinstance(built.loss, loss.Huber)
    assert isinstance(built.loss.schedule, ConstantHuber)
    assert (built.loss.schedule.c, built.loss.schedule.scale) == (0.2, 3.0)
    assert isinstance(built.weighting, MinSnr)
    assert built.weighting.gamma == 7.0
    assert built.noise_offset == 0.05


def test_the_other_losses_and_weightings() -> None:
    assert isinstance(loss_of(L2()), loss.L2)
    assert isinstance(loss_of(L1()), loss.L1)
    assert isinstance(loss_of(SmoothL1()), loss.SmoothL1)
    assert isinstance(objective_of(Settings(weighting="none"), "v").weighting, Even)
    assert isinstance(objective_of(Settings(weighting="debiased"), "v").weighting, Debiased)
    assert isinstance(objective_of(Settings(scale_v_loss=True), "v").weighting, LikeEpsilon)


def test_flows_go_along_a_straight_line_at_timesteps_of_their_family() -> None:
    built = objective_of(Settings(weighting="none"), "flow")
    assert isinstance(built.process, StraightLine)
    assert isinstance(built.process.timesteps, LogitNormal)
    own = objective_of(Settings(weighting="none"), "flow", timesteps=Uniform(shift=3.0))
    assert isinstance(own.process, StraightLine)
    assert isinstance(own.process.timesteps, Uniform)


def test_zero_terminal_snr_is_for_v() -> None:
    built = objective_of(Settings(), "v", zero_snr=True)
    assert float(built.snr(torch.tensor([999]))) == 0
    with pytest.raises(InvalidParams, match="only noise to find") as refused:
        objective_of(Settings(), "epsilon", zero_snr=True)
    assert refused.value.where == "$.params.settings.model.zero_terminal_snr"


def test_the_loss_of_v_is_scaled_only_where_there_is_one() -> None:
    with pytest.raises(InvalidParams, match="predicts epsilon") as refused:
        objective_of(Settings(scale_v_loss=True), "epsilon")
    assert refused.value.where == "$.params.settings.objective.scale_v_loss"
