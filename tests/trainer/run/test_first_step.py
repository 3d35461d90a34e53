"""What stands between the request and the first step, and what does not."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.trainer.run import runs
from trainer.families import pieces, unet
from trainer.run import hashed


def test_nobody_hashes_the_base_before_the_first_step(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = runs.Recorder()
    steps_before: list[int] = []
    real = hashed.Hashes._digest

    def digest(self: hashed.Hashes, file: object) -> str:
        steps_before.append(len(watcher.items))
        return real(self, file)  # type: ignore[arg-type]

    monkeypatch.setattr(hashed.Hashes, "_digest", digest)
    runs.go(runs.request(bases["sd15"], source, tmp_path, training={"steps": 3}), watcher)
    assert len(steps_before) == 1
    assert steps_before[0] >= 1


def test_with_caches_nothing_is_loaded_but_the_denoiser(
    bases: Mapping[str, Path], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go(name: str) -> list[str]:
        filled: list[str] = []
        real = pieces.fill

        def fill(module: object, *rest: object) -> None:
            filled.append(type(module).__name__)
            real(module, *rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(unet, "fill", fill)
            runs.go(runs.request(bases["sdxl"], source, tmp_path / name, training={"steps": 1}))
        return filled

    assert sorted(go("first")) == [
        "AutoencoderKL",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "UNet2DConditionModel",
    ]
    assert go("second") == ["UNet2DConditionModel"]
