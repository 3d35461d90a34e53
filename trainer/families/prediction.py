"""What a model was trained to predict, as its file says; no weight shows it.

Facts: keys that makers of models put in, as ComfyUI reads them (`v_pred`, `ztsnr`, `edm_mean`,
`edm_vpred.sigma_max`); metadata as the ModelSpec standard and sd-scripts have it; the scheduler's
configuration in folders of diffusers.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from contract.errors import WeightsUnsupported
from trainer.families.base import Prediction

_STATED: Final[Mapping[str, Prediction]] = {"epsilon": "epsilon", "v": "v", "v_prediction": "v"}
_FIELD: Final = "modelspec.prediction_type"
_EDM: Final = ("edm_mean", "edm_std", "edm_vpred.sigma_max", "edm_vpred.sigma_min")


class Predicted(NamedTuple):
    """The prediction, and whether the last step of its schedule is pure noise (zero terminal SNR)."""

    prediction: Prediction
    zero_snr: bool
    warnings: list[str]


def of_file(names: Collection[str], metadata: Mapping[str, str], where: str) -> Predicted:
    """Of a single file. Raises WeightsUnsupported for schedules of noise of another kind (EDM)."""
    for key in _EDM:
        if key in names:
            raise _unsupported(where, f"`{key}` in it says so.")
    stated = _STATED.get(metadata.get(_FIELD, "").strip().lower())
    marked = "v_pred" in names
    prediction = "v" if marked else stated or "epsilon"
    says_zero = "ztsnr" in names or metadata.get("ss_zero_terminal_snr", "").strip().lower() == "true"
    warnings = (
        [f"`{_FIELD}` says epsilon, but the key `v_pred` says v."] if marked and stated == "epsilon" else []
    )
    # From pure noise, the noise says nothing of the picture: only v goes there.
    return Predicted(prediction, says_zero and prediction == "v", warnings)


def of_scheduler(config: Mapping[str, Any], where: str) -> Predicted:
    """Of a folder, by its scheduler. Raises WeightsUnsupported."""
    stated = config.get("prediction_type", "epsilon")
    if stated not in _STATED or "EDM" in str(config.get("_class_name", "")):
        raise _unsupported(where, "its scheduler says so.")
    prediction = _STATED[stated]
    return Predicted(prediction, config.get("rescale_betas_zero_snr") is True and prediction == "v", [])


def _unsupported(where: str, why: str) -> WeightsUnsupported:
    return WeightsUnsupported(
        f"`{where}` was trained with a schedule of noise that cannot be trained with here; {why}", where=where
    )
