from pathlib import Path

import pytest

from contract.errors import SettingsInvalid
from orchestrator.settings import Settings, load, read_toml


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()
    assert load(tmp_path).limits.max_image_pixels == 64_000_000


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        '[kernel]\ncommand = ["k", "--x"]\n[limits]\nmax_image_pixels = 5\n', encoding="utf-8"
    )
    settings = load(tmp_path)
    assert settings.kernel.command == ["k", "--x"]
    assert settings.limits.max_image_pixels == 5


def test_everything_wrong_is_named_at_once_with_file_and_field(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        "[kernel]\ncommand = 5\n[limits]\nmax_image_pixels = 0\ntypo = 1\n", encoding="utf-8"
    )
    with pytest.raises(SettingsInvalid) as caught:
        load(tmp_path)
    fields = [each["where"] for each in caught.value.details["problems"]]
    assert fields == ["kernel.command", "limits.max_image_pixels", "limits.typo"]
    assert str(tmp_path / "settings.toml") in caught.value.message


def test_a_file_that_is_not_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[kernel\n", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match="line 1"):
        load(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"none\.toml"):
        read_toml(tmp_path / "none.toml")
