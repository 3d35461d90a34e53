"""Paths as text: on the wire, under roots, beside images."""

import random

import pytest

from contract.errors import PathNotAbsolute
from contract.rules.paths import (
    IMAGE_SUFFIXES,
    caption_path,
    check_plain,
    from_wire,
    is_under,
    is_windows,
    to_wire,
)


def _posix(raw: bytes) -> str:
    """As Python holds the name of a file on POSIX."""
    return raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "path", ["/a/b.jpg", "/ä/🦜.png", "/a b/%41.png", "C:\\a\\b.jpg", "\\\\server\\share\\a", "/a\\b"]
)
def test_a_path_in_unicode_travels_as_it_is(path: str) -> None:
    assert to_wire(path) == path
    assert from_wire(path) == path


def test_another_travels_as_a_uri_of_its_bytes() -> None:
    assert to_wire(_posix(b"/a b/\xff%.jpg")) == "file:///a%20b/%FF%25.jpg"
    assert from_wire("file:///a%20b/%FF%25.jpg") == _posix(b"/a b/\xff%.jpg")


@pytest.mark.parametrize(
    ("path", "wire"),
    [
        ("C:\\a b\\\ud800.jpg", "file:///C:/a%20b/%ED%A0%80.jpg"),
        ("c:/\udcff", "file:///c:/%ED%B3%BF"),
        ("\\\\server\\share\\\udfff", "file:////server/share/%ED%BF%BF"),
        ("\\\\?\\C:\\\ud83d", "file:////%3F/C%3A/%ED%A0%BD"),
    ],
)
def test_a_name_that_only_windows_can_have_travels_as_a_uri_of_its_surrogates(path: str, wire: str) -> None:
    assert to_wire(path) == wire
    assert from_wire(wire) == path.replace("/", "\\")


@pytest.mark.parametrize("start", ["C:\\", "z:\\", "\\\\server\\share\\", "\\\\?\\C:\\"])
def test_any_name_of_windows_survives_the_wire(start: str) -> None:
    chance = random.Random(4)
    surrogates = [chr(each) for each in range(0xD800, 0xE000)]
    for _ in range(2000):
        others = chance.choices("ab:%\\ é🦜~?", k=6)
        path = start + "".join(chance.sample([*others, *chance.choices(surrogates, k=3)], k=9))
        wire = to_wire(path)
        wire.encode("utf-8")
        assert from_wire(wire) == path


def test_a_posix_path_that_looks_like_another_systems_stays_what_it_is() -> None:
    for raw in (b"/C:/\xff", b"//server/\xed\xa0\x80", b"///a\xff", b"/\\\\server\xff", b"/C:\\\xff"):
        assert from_wire(to_wire(_posix(raw))) == _posix(raw)
    assert to_wire(_posix(b"/C:/\xff")) == "file:///C%3A/%FF"


def test_the_bare_name_of_a_file_can_always_be_said() -> None:
    assert to_wire("\ud800.jpg") == "file://%ED%A0%80.jpg"


def _round_trips(alphabet: bytes) -> None:
    chance = random.Random(3)
    for _ in range(3000):
        path = _posix(b"/" + bytes(chance.choices(alphabet, k=chance.randint(0, 12))))
        wire = to_wire(path)
        wire.encode("utf-8")
        assert from_wire(wire) == path


def test_any_name_survives_the_wire() -> None:
    _round_trips(bytes(each for each in range(1, 256) if each != 0x5C))


def test_any_name_with_a_backslash_survives_the_wire() -> None:
    _round_trips(b"a\\/\xff\xc3\xa9")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("file:///%F0%9F%A6%9C", "/🦜"),
        ("file:///a%2Fb", "/a/b"),
        ("file:///a%2", "/a%2"),
        ("file:////a", "//a"),
        ("file:////a%FF", "//a\udcff"),
        ("file:///C:/a%20b/c.jpg", "C:\\a b\\c.jpg"),
        ("file:/c:/%C3%A9", "c:\\é"),
    ],
)
def test_uris_that_others_write_are_read(uri: str, path: str) -> None:
    assert from_wire(uri) == path


@pytest.mark.parametrize("uri", ["file://host/a", "file:a", "file:", "file://", "file://./a", "file://C:/a"])
def test_a_uri_of_another_machine_is_refused(uri: str) -> None:
    with pytest.raises(PathNotAbsolute) as caught:
        from_wire(uri)
    assert caught.value.where == uri


def test_bytes_that_no_name_of_windows_has_are_refused() -> None:
    with pytest.raises(PathNotAbsolute):
        from_wire("file:///C:/%FF")


def test_a_uri_cannot_smuggle_a_way_up() -> None:
    for uri in ("file:///C:/a/%2E%2E/b", "file:///C:/a%5C..%5Cb", "file:///a/%2E%2E/b", "file:///C:/a%00"):
        with pytest.raises(PathNotAbsolute):
            check_plain(from_wire(uri))


@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/a/..b/c..", "/a/.../b", "/a/./b", "/a\\..\\b", "C:\\a", "c:/a", "\\\\server\\share\\a"],
)
def test_plain_paths(path: str) -> None:
    check_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a",
        "./a",
        "../a",
        "~/a",
        "C:",
        "C:a",
        "/a/..",
        "/../a",
        "/a/../b",
        "C:\\a\\..\\b",
        "C:/a/../b",
        "\\\\s\\a\\..",
        "/a\0b",
        "\\a",
    ],
)
def test_paths_that_are_not_plain(path: str) -> None:
    with pytest.raises(PathNotAbsolute):
        check_plain(path)


def test_what_is_wrong_with_a_path_is_said_in_text_that_can_travel() -> None:
    with pytest.raises(PathNotAbsolute) as caught:
        check_plain(_posix(b"/\xff/../a"))
    caught.value.message.encode("utf-8")


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/a", "/a"),
        ("/a/b", "/a"),
        ("/a/b", "/a/"),
        ("/a/b/c", "/a/b"),
        ("/a", "/"),
        ("C:\\Photos\\a.jpg", "C:\\photos"),
        ("c:/photos/A.jpg", "C:\\Photos"),
        ("D:\\a", "D:\\"),
        ("\\\\server\\share\\a", "\\\\Server\\share"),
    ],
)
def test_under_a_root(path: str, root: str) -> None:
    assert is_under(path, root)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/ab", "/a"),
        ("/", "/a"),
        ("/A/b", "/a"),
        ("/b/a", "/a"),
        ("/a b", "/a"),
        ("C:\\ab", "C:\\a"),
        ("D:\\a\\b", "C:\\a"),
        ("C:\\", "C:\\a"),
        ("\\\\server\\other", "\\\\server\\share"),
    ],
)
def test_not_under_a_root(path: str, root: str) -> None:
    assert not is_under(path, root)


@pytest.mark.parametrize(
    ("path", "windows"),
    [
        ("C:\\a", True),
        ("c:/a", True),
        ("\\\\s\\a", True),
        ("/c/a", False),
        ("C:", False),
        ("a\\b", False),
        ("1:\\a", False),
        ("é:\\a", False),
        ("", False),
    ],
)
def test_windows_paths_are_known_by_their_start(path: str, windows: bool) -> None:
    assert is_windows(path) is windows


@pytest.mark.parametrize(
    ("image", "caption"),
    [
        ("/a/b.jpg", "/a/b.txt"),
        ("/a/b.tar.png", "/a/b.tar.txt"),
        ("/a/b", "/a/b.txt"),
        ("/a.b/c", "/a.b/c.txt"),
        ("/a/.hidden", "/a/.hidden.txt"),
        ("/a/.hidden.png", "/a/.hidden.txt"),
        ("/a/b.", "/a/b.txt"),
        ("/a/b c.JPEG", "/a/b c.txt"),
        ("C:\\a.b\\c", "C:\\a.b\\c.txt"),
        ("C:\\a\\b.jpg", "C:\\a\\b.txt"),
    ],
)
def test_a_caption_lies_beside_its_image(image: str, caption: str) -> None:
    assert caption_path(image, ".txt") == caption


def test_suffixes_are_lower_case_and_none_is_that_of_a_caption() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)
    assert not IMAGE_SUFFIXES & {".txt", ".caption", ".json", ".npz"}
