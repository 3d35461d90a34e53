"""The libraries that models are made of are imported fast, and are what they are when imported plainly."""

import gc
import os
import subprocess
import sys
import weakref

from trainer.families.libraries import libraries, undisturbed


def test_the_classes_are_those_of_the_libraries() -> None:
    import diffusers
    import transformers

    found = libraries()
    assert found.unet is diffusers.UNet2DConditionModel
    assert found.vae is diffusers.AutoencoderKL
    assert found.clip is transformers.CLIPTextModel
    assert found.clip_projected is transformers.CLIPTextModelWithProjection
    assert found.clip_config is transformers.CLIPTextConfig
    assert found.clip_tokenizer is transformers.CLIPTokenizer


class _Circle:
    """Refers to itself: only the collector lets go of it."""

    def __init__(self) -> None:
        self.itself = self


def test_no_garbage_is_looked_for_within() -> None:
    with undisturbed():
        assert not gc.isenabled()
        with undisturbed():
            assert not gc.isenabled()
        # The outer one is not over.
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_is_there_meanwhile_can_be_let_go_of_afterwards() -> None:
    circle = _Circle()
    seen = weakref.ref(circle)
    with undisturbed():
        pass
    assert gc.get_freeze_count() == 0
    del circle
    gc.collect()
    assert seen() is None


def test_libraries_leave_scipy_alone_until_it_is_needed() -> None:
    """Half a second of importing for nothing, and then as if nothing had been put off."""
    script = (
        "import sys\n"
        "from trainer.families.libraries import libraries\n"
        "libraries()\n"
        "late = ('scipy.integrate', 'scipy.optimize', 'scipy.stats')\n"
        "assert not any(name in sys.modules for name in late)\n"
        "from transformers.loss.loss_for_object_detection import linear_sum_assignment\n"
        "assert linear_sum_assignment([[1, 0], [0, 1]])[0].tolist() == [0, 1]\n"
        "import diffusers.schedulers.scheduling_lms_discrete as lms\n"
        "assert lms.integrate.quad(lambda x: x, 0, 2)[0] == 2\n"
        "import scipy.optimize\n"
        "assert scipy.optimize.linear_sum_assignment.__module__.startswith('scipy')\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
