"""The objective that settings ask for, for a model that predicts this or that."""

from collections.abc import Mapping
from typing import Final

from contract.errors import InvalidParams
from contract.methods.training import loss as losses
from contract.methods.training.objective import Objective as Settings
from trainer.objective.huber import HUBER_SCHEDULES
from trainer.objective.loss import L1, L2, Huber, Loss, SmoothL1
from trainer.objective.noise_schedule import scaled_linear, zero_terminal_snr
from trainer.objective.objective import Objective
from trainer.objective.prediction import PREDICTIONS, Prediction
from trainer.objective.process import Diffusion, Process, StraightLine
from trainer.objective.timesteps import Timesteps
from trainer.objective.weighting import Debiased, Even, LikeEpsilon, MinSnr, Weighting

WHERE: Final = "$.params.settings.objective"

_LOSSES: Final[Mapping[str, type[L2] | type[L1]]] = {"l2": L2, "l1": L1}
_ROBUST: Final[Mapping[str, type[Huber] | type[SmoothL1]]] = {"huber": Huber, "smooth_l1": SmoothL1}


def objective_of(
    settings: Settings, prediction: str, *, zero_snr: bool = False, timesteps: Timesteps | None = None
) -> Objective:
    """For a model that predicts `epsilon`, `v` or `flow`. `timesteps` are a family's own, where it has some.

    Raises InvalidParams where the settings ask for what the model cannot have.
    """
    predicted = PREDICTIONS[prediction]
    return Objective(
        process_of(settings, predicted, zero_snr=zero_snr, timesteps=timesteps),
        predicted,
        loss=loss_of(settings.loss),
        weighting=weighting_of(settings, predicted),
        noise_offset=settings.noise_offset,
    )


def loss_of(settings: losses.Loss) -> Loss:
    """What an error costs."""
    name = str(settings.__struct_config__.tag)
    if isinstance(settings, losses.L2 | losses.L1):
        return _LOSSES[name]()
    return _ROBUST[name](HUBER_SCHEDULES[settings.schedule](settings.c, settings.scale))


def weighting_of(settings: Settings, prediction: Prediction) -> Weighting:
    """How much timesteps count. Raises InvalidParams where that is not defined for the prediction."""
    chosen = _weighting(settings, prediction)
    if not settings.scale_v_loss:
        return chosen
    if prediction.name != "v":
        raise InvalidParams(
            f"`scale_v_loss` is for models that predict v; this one predicts {prediction.name}.",
            where=f"{WHERE}.scale_v_loss",
            hint="Turn it off.",
        )
    return LikeEpsilon(chosen)


def process_of(
    settings: Settings,
    prediction: Prediction,
    *,
    zero_snr: bool = False,
    timesteps: Timesteps | None = None,
) -> Process:
    """A straight line for flows, otherwise the schedule of Stable Diffusion 1 and XL.

    Raises InvalidParams for zero terminal SNR where the last timestep could teach nothing.
    """
    first, end = settings.min_timestep, settings.max_timestep
    if prediction.name == "flow":
        return StraightLine(timesteps, first=first, end=end)
    if zero_snr and prediction.name == "epsilon":
        raise InvalidParams(
            "Zero terminal SNR needs a model that predicts v: in pure noise there is only noise to find.",
            where="$.params.settings.model.zero_terminal_snr",
            hint="Turn it off, or choose v-prediction if the model was made for it.",
        )
    schedule = zero_terminal_snr(scaled_linear()) if zero_snr else scaled_linear()
    return Diffusion(schedule, timesteps, first=first, end=end)


def _weighting(settings: Settings, prediction: Prediction) -> Weighting:
    match settings.weighting:
        case "min_snr":
            return MinSnr(prediction, settings.min_snr_gamma)
        case "debiased":
            return Debiased(prediction, f"{WHERE}.weighting")
        case _:
            return Even()
