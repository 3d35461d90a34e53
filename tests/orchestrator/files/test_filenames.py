"""Names that a client may send, and names that we make."""

import pytest

from orchestrator.files.filenames import MAX_NAME_BYTES, name_problem, numbered, path_problem, safe_name, slug


@pytest.mark.parametrize(
    "path",
    [
        "photo.jpg",
        "a/b/c.png",
        "10_cat/photo 1.jpg",
        "日本語/写真.png",
        "café.webp",
        "a.b.c",
        "2024 12:30.png",
        "🐈.png",
    ],
)
def test_ordinary_paths_pass(path: str) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0", "a\n", "a.", "a ", "NUL", "com1.txt"])
def test_a_name_that_means_something_else_somewhere_is_refused(name: str) -> None:
    assert name_problem(name) is not None


def test_a_name_may_have_as_many_bytes_as_file_systems_take() -> None:
    assert name_problem("a" * MAX_NAME_BYTES) is None
    assert name_problem("é" * (MAX_NAME_BYTES // 2 + 1)) is not None


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("photo.jpg", "photo.jpg"),
        ("PHOTO.JPG", "PHOTO.JPG"),
        ("/etc/passwd.png", "passwd.png"),
        ("C:\\Users\\me\\photo.png", "photo.png"),
        ("../../photo.png", "photo.png"),
        (".hidden.png", "hidden.png"),
        ("..png", "png"),
        ("a<b>:c.png", "a_b__c.png"),
        ("tab\there.png", "tab_here.png"),
        ("photo .png", "photo.png"),
        ("photo.png. ", "photo.png"),
        ("nul.png", "_nul.png"),
        ("Cafe\u0301.png", "Café.png"),
        ("gnp.\u202egpj.exe", "gnp._gpj.exe"),
        ("", "file"),
        ("...", "file"),
        ("日本語.webp", "日本語.webp"),
    ],
)
def test_a_name_of_an_upload_becomes_one_that_every_system_takes(given: str, made: str) -> None:
    assert safe_name(given) == made
    assert name_problem(made) is None


def test_a_long_name_keeps_its_ending_and_whole_characters() -> None:
    made = safe_name("é" * 500 + ".png")
    assert made.endswith("é.png")
    assert len(made.encode()) <= 200
    assert name_problem(safe_name("a." + "b" * 500)) is None


@pytest.mark.parametrize(
    ("title", "made"),
    [
        ("My Photos", "my-photos"),
        ("  Größe & Länge!  ", "größe-länge"),
        ("日本語", "日本語"),
        ("../../etc", "etc"),
        ("...", "dataset"),
        ("CON", "dataset-con"),
        ("a_b", "a-b"),
    ],
)
def test_a_title_becomes_the_name_of_a_folder(title: str, made: str) -> None:
    assert slug(title) == made


def test_a_long_title_is_cut() -> None:
    assert len(slug("word " * 200).encode()) <= 100


def test_a_number_stands_before_the_ending() -> None:
    assert [numbered("a.b.png", number) for number in (1, 2, 10)] == ["a.b.png", "a.b-2.png", "a.b-10.png"]
