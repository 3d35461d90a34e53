import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.backends.null import Keyring as NullKeyring

from contract.errors import FileUnreadable, FileUnwritable, InvalidParams, NotFound
from orchestrator.keys.keys import Keys, KeyState

_TOKEN = "hf_CanaryOfTheKeys0246"
_posix = pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")


class _Memory(KeyringBackend):
    """A keyring that keeps what it is given, unless it is locked."""

    priority = 5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _unlocked(self) -> dict[tuple[str, str], str]:
        if self.locked:
            raise keyring.errors.KeyringLocked(f"locked; it has {self.kept}")
        return self.kept

    def get_password(self, service: str, username: str) -> str | None:
        return self._unlocked().get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._unlocked()[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self._unlocked()[service, username]


@pytest.fixture(autouse=True)
def no_keyring() -> Iterator[None]:
    """Whatever this machine has, no test of ours may touch it."""
    before = keyring.get_keyring()
    keyring.set_keyring(NoKeyring())  # type: ignore[no-untyped-call]
    yield
    keyring.set_keyring(before)


@pytest.fixture
def ring() -> _Memory:
    ring = _Memory()
    keyring.set_keyring(ring)
    return ring


def _shown(home: Path) -> dict[str, KeyState]:
    return {each.name: each for each in Keys(home).list()}


def test_at_first_no_key_is_set(tmp_path: Path) -> None:
    assert [(each.name, each.title, each.set, each.last4, each.place) for each in Keys(tmp_path).list()] == [
        ("huggingface", "Hugging Face", False, None, None),
        ("civitai", "Civitai", False, None, None),
    ]
    assert Keys(tmp_path).all() == {} and Keys(tmp_path).get("civitai") is None
    assert not list(tmp_path.iterdir())


def test_without_a_keyring_a_key_is_kept_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    said = Keys(tmp_path).set("huggingface", _TOKEN)
    assert (said.set, said.last4, said.place) == (True, "0246", "file")
    assert _shown(tmp_path)["huggingface"] == said
    assert Keys(tmp_path).all() == {"huggingface": _TOKEN}
    assert [each.name for each in tmp_path.iterdir()] == ["secrets"]
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o600


@_posix
def test_the_file_is_never_open_to_others_not_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    sync = os.fsync

    def seen(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    Keys(tmp_path).set("huggingface", _TOKEN)
    assert modes == [0o600]


@_posix
def test_a_file_that_has_become_open_to_others_is_closed(tmp_path: Path) -> None:
    Keys(tmp_path).set("huggingface", _TOKEN)
    (tmp_path / "secrets").chmod(0o644)
    assert Keys(tmp_path).get("huggingface") == _TOKEN
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o600


@_posix
def test_a_link_or_a_pipe_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("{}", encoding="utf-8")
    (tmp_path / "secrets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileUnreadable):
        Keys(tmp_path).list()
    (tmp_path / "secrets").unlink()
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "secrets")
    with pytest.raises(FileUnreadable, match="no file of ours"):
        Keys(tmp_path).list()


def test_a_damaged_file_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "secrets").write_bytes(f'{{"huggingface": "{_TOKEN}\xff'.encode("latin-1"))
    with pytest.raises(FileUnreadable, match="damaged") as refused:
        Keys(tmp_path).list()
    assert _TOKEN not in str(refused.value.to_wire()) and refused.value.__cause__ is None


def test_a_key_that_is_set_anew_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.set("huggingface", _TOKEN)
    keys.set("civitai", "the-other-key-99")
    keys.set("huggingface", "hf_AnotherOne1357")
    assert keys.all() == {"huggingface": "hf_AnotherOne1357", "civitai": "the-other-key-99"}


def test_a_key_that_is_deleted_is_gone_and_may_be_deleted_again(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.set("huggingface", _TOKEN)
    keys.set("civitai", "the-other-key-99")
    for _ in range(2):
        keys.delete("huggingface")
        assert keys.all() == {"civitai": "the-other-key-99"}
    assert _TOKEN.encode() not in (tmp_path / "secrets").read_bytes()


def test_of_a_short_key_nothing_is_shown(tmp_path: Path) -> None:
    assert Keys(tmp_path).set("civitai", "x" * 11).last4 is None
    assert Keys(tmp_path).set("civitai", "x" * 12).last4 == "xxxx"


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "a\r\nx: y", "é", "a\0", "a" * 4097])
def test_what_no_header_takes_is_no_key_and_is_not_quoted(value: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParams) as refused:
        Keys(tmp_path).set("huggingface", value)
    assert refused.value.where == "$.value" and not list(tmp_path.iterdir())
    assert refused.value.message.startswith("A key has")


def test_the_longest_key_is_kept_whole(tmp_path: Path) -> None:
    Keys(tmp_path).set("huggingface", "k" * 4096)
    assert Keys(tmp_path).get("huggingface") == "k" * 4096


def test_a_service_that_is_not_known_has_no_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    for refused in (lambda: keys.get("x"), lambda: keys.set("x", _TOKEN), lambda: keys.delete("x")):
        with pytest.raises(NotFound, match="`x`"):
            refused()


def test_with_a_keyring_no_file_is_written(ring: _Memory, tmp_path: Path) -> None:
    assert Keys(tmp_path).set("huggingface", _TOKEN).place == "keyring"
    assert list(ring.kept.values()) == [_TOKEN] and not list(tmp_path.iterdir())
    assert _shown(tmp_path)["huggingface"].last4 == "0246"
    Keys(tmp_path).delete("huggingface")
    assert ring.kept == {}


def test_two_data_directories_keep_their_keys_apart(ring: _Memory, tmp_path: Path) -> None:
    Keys(tmp_path / "a").set("huggingface", _TOKEN)
    assert Keys(tmp_path / "b").all() == {}


def test_a_key_in_the_file_moves_into_the_keyring_when_it_is_set_again(tmp_path: Path) -> None:
    Keys(tmp_path).set("huggingface", _TOKEN)
    keyring.set_keyring(ring := _Memory())
    assert Keys(tmp_path).all() == {"huggingface": _TOKEN}
    assert Keys(tmp_path).set("huggingface", "hf_AnotherOne1357").place == "keyring"
    assert (tmp_path / "secrets").read_bytes() == b"{}" and len(ring.kept) == 1


def test_a_locked_keyring_takes_nothing_and_the_newer_key_in_the_file_wins(
    ring: _Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Keys(tmp_path).set("huggingface", _TOKEN)
    ring.locked = True
    assert Keys(tmp_path).all() == {}
    assert Keys(tmp_path).set("huggingface", "hf_AnotherOne1357").place == "file"
    with pytest.raises(FileUnwritable, match="keyring"):
        Keys(tmp_path).delete("huggingface")
    Keys(tmp_path).set("huggingface", "hf_AnotherOne1357")
    ring.locked = False
    assert Keys(tmp_path).all() == {"huggingface": "hf_AnotherOne1357"}
    assert "KeyringLocked" in caplog.text and _TOKEN not in caplog.text


@pytest.mark.parametrize("backend", [NoKeyring, NullKeyring])
def test_a_keyring_that_keeps_nothing_is_none(backend: type[KeyringBackend], tmp_path: Path) -> None:
    keyring.set_keyring(backend())
    assert Keys(tmp_path).set("huggingface", _TOKEN).place == "file"


def test_a_keyring_that_hides_nothing_is_none(tmp_path: Path) -> None:
    keyring.set_keyring(ring := _Memory())
    ring.priority = 0.5  # type: ignore[assignment]
    assert Keys(tmp_path).set("huggingface", _TOKEN).place == "file"


def test_without_the_keyring_package_keys_work_too(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["keyring"] = None
from pathlib import Path
from orchestrator.keys.keys import Keys
keys = Keys(Path({str(tmp_path)!r}))
assert keys.set("civitai", "the-other-key-99").place == "file"
assert keys.all() == {{"civitai": "the-other-key-99"}}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_what_was_read_or_set_is_known_to_the_redactor(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.set("huggingface", _TOKEN)
    assert keys.redactor.text(f"key {_TOKEN}") == "key ***"
    again = Keys(tmp_path)
    again.list()
    keys.delete("huggingface")
    assert again.redactor.text(f"key {_TOKEN}") == "key ***" == keys.redactor.text(f"key {_TOKEN}")
