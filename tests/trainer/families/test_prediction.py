"""What a model predicts, as its file or its scheduler says."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from contract.errors import WeightsUnsupported
from trainer.families import FAMILIES, ModelFiles, recognise
from trainer.families.prediction import of_file, of_scheduler

STATED = "modelspec.prediction_type"


@pytest.mark.parametrize(
    ("keys", "metadata", "prediction", "zero"),
    [
        ([], {}, "epsilon", False),
        ([], {STATED: "epsilon"}, "epsilon", False),
        ([], {STATED: "v"}, "v", False),
        ([], {STATED: "V_Prediction"}, "v", False),
        ([], {STATED: "nonsense"}, "epsilon", False),
        (["v_pred"], {}, "v", False),
        (["v_pred", "ztsnr"], {}, "v", True),
        (["v_pred"], {"ss_zero_terminal_snr": "True"}, "v", True),
        ([], {STATED: "v", "ss_zero_terminal_snr": "True"}, "v", True),
        (["ztsnr"], {}, "epsilon", False),
        ([], {STATED: "epsilon", "ss_zero_terminal_snr": "True"}, "epsilon", False),
    ],
)
def test_keys_and_metadata_say_what_a_file_predicts(
    keys: list[str], metadata: dict[str, str], prediction: str, zero: bool
) -> None:
    assert of_file(keys, metadata, "x.safetensors") == (prediction, zero, [])


def test_a_key_is_believed_before_metadata_that_says_otherwise() -> None:
    prediction, zero, (warning,) = of_file(["v_pred"], {STATED: "epsilon"}, "x.safetensors")
    assert (prediction, zero) == ("v", False)
    assert "`v_pred` says v" in warning


@pytest.mark.parametrize("key", ["edm_mean", "edm_vpred.sigma_max"])
def test_other_schedules_of_noise_are_refused(key: str) -> None:
    with pytest.raises(WeightsUnsupported, match=key):
        of_file([key, "v_pred"], {}, "x.safetensors")


@pytest.mark.parametrize(
    ("config", "prediction", "zero"),
    [
        ({}, "epsilon", False),
        ({"prediction_type": "epsilon", "rescale_betas_zero_snr": True}, "epsilon", False),
        ({"prediction_type": "v_prediction"}, "v", False),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, "v", True),
    ],
)
def test_the_scheduler_of_a_folder_says_it(config: Mapping[str, Any], prediction: str, zero: bool) -> None:
    assert of_scheduler(config, "folder") == (prediction, zero, [])


@pytest.mark.parametrize("config", [{"prediction_type": "sample"}, {"_class_name": "EDMEulerScheduler"}])
def test_other_schedulers_are_refused(config: Mapping[str, Any]) -> None:
    with pytest.raises(WeightsUnsupported, match="its scheduler"):
        of_scheduler(config, "folder")


def test_a_file_with_such_keys_loads_and_keeps_what_they_say(edited: Callable[..., Path]) -> None:
    """As v-prediction models of SDXL have them: tensors without numbers."""

    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}

    files = ModelFiles(model=str(edited("sdxl", edit)))
    assert recognise(files)[:3] == ("sdxl", "v", True)
    model = FAMILIES["sdxl"].load(files, torch.float32, parts=frozenset({"denoiser"}))
    assert (model.prediction, model.zero_snr) == ("v", True)
