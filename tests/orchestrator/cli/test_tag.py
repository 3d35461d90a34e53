"""`lorakeet tag` on real photographs, from the outside."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.builders import pictures
from tests.orchestrator.cli.command import lorakeet
from tests.orchestrator.cli.conftest import CAPTIONS

links = pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege on Windows")


def _captions(folder: Path, extension: str = ".txt") -> dict[str, str]:
    return {
        name: (folder / name).with_suffix(extension).read_text(encoding="utf-8").rstrip("\n")
        for name in CAPTIONS
        if (folder / name).with_suffix(extension).exists()
    }


def test_a_folder_of_photographs_gets_the_expected_captions(photographs: Path, demo_tagger: Path) -> None:
    done = lorakeet("tag", photographs, "--model", demo_tagger)
    assert done.code == 0, done.stderr
    assert _captions(photographs) == CAPTIONS
    assert done.stdout.startswith("4 captions written")
    again = lorakeet("tag", photographs, "--model", demo_tagger, "--existing", "overwrite", "--json")
    provider = again.of("finished")[0]["outcome"]["provider"]
    assert done.stdout.rstrip().endswith(f"images/s on {provider}.")


def test_images_are_not_touched_and_nothing_else_appears(photographs: Path, demo_tagger: Path) -> None:
    before = {path.name: path.read_bytes() for path in photographs.iterdir()}
    lorakeet("tag", photographs, "--model", demo_tagger)
    after = {path.name: path.read_bytes() for path in photographs.iterdir() if path.suffix != ".txt"}
    assert after == before
    assert len(list(photographs.iterdir())) == 2 * len(CAPTIONS)


def test_json_is_one_event_a_line_and_nothing_else(photographs: Path, demo_tagger: Path) -> None:
    (photographs / "broken.jpg").write_bytes(b"")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--json")
    assert done.code == 4
    assert done.stderr == ""
    assert done.events[0] == {"event": "started", "images": 5, "skipped": 0}
    assert {Path(event["image"]).name: event["caption"] for event in done.of("tagged")} == CAPTIONS
    (failed,) = done.of("failed")
    assert Path(failed["image"]).name == "broken.jpg"
    assert failed["error"]["data"]["kind"] == "image_empty"
    (finished,) = done.of("finished")
    assert done.events[-1] == finished
    assert (finished["written"], finished["failed"], finished["skipped"]) == (4, 1, 0)
    assert finished["outcome"]["tag_counts"]["red"] == 3
    assert finished["outcome"]["provider"].endswith("ExecutionProvider")


def test_every_setting_is_a_flag(photographs: Path, demo_tagger: Path) -> None:
    done = lorakeet(
        *("tag", photographs, "--model", demo_tagger, "--ratings", "last", "--exclude", "wide_image,dark"),
        *("--replace", "red=rouge", "--always-first", "my style", "--character-tags-first"),
        *("--expand-character-tags", "--no-remove-underscores", "--order", "model", "--separator", " | "),
        *("--batch-size", "3", "--score-floor", "0.2", "--decode", "exact", "--general-threshold", "0.5"),
        *("--character-threshold", "0.9", "--extension", "caption"),
    )
    assert done.code == 0, done.stderr
    found = _captions(photographs, ".caption")
    assert found["coffee.png"] == "my style | crimson_knight | palette | rouge | bright_above | general"
    assert (
        found["astronaut.png"] == "my style | rouge | high_contrast | bright_above | square_image | general"
    )


def test_settings_come_from_a_file_and_flags_win(
    photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    shutil.copytree(demo_tagger, tmp_path / "tagger")
    (tmp_path / "tag.toml").write_text(
        'exclude = ["red"]\nratings = "first"\n[model]\npath = "tagger"\n', encoding="utf-8"
    )
    done = lorakeet("tag", photographs, "--settings", tmp_path / "tag.toml", "--ratings", "none")
    assert done.code == 0, done.stderr
    assert _captions(photographs)["astronaut.png"] == "bright above, square image, high contrast"


def test_existing_captions_are_left_alone_unless_asked(photographs: Path, demo_tagger: Path) -> None:
    mine = photographs / "coffee.txt"
    mine.write_text("my cup, red", encoding="utf-8")
    done = lorakeet("tag", photographs, "--model", demo_tagger)
    assert "1 image left alone, having one" in done.stdout
    assert mine.read_text(encoding="utf-8") == "my cup, red"
    lorakeet("tag", photographs, "--model", demo_tagger, "--existing", "append", "--always-first", "sks")
    assert (
        mine.read_text(encoding="utf-8")
        == "sks, my cup, red, wide image, bright above, crimson knight (palette)\n"
    )
    lorakeet("tag", photographs, "--model", demo_tagger, "--existing", "overwrite")
    assert mine.read_text(encoding="utf-8") == CAPTIONS["coffee.png"] + "\n"


def test_a_second_run_has_nothing_to_do_and_starts_no_kernel(photographs: Path, demo_tagger: Path) -> None:
    lorakeet("tag", photographs, "--model", demo_tagger)
    done = lorakeet("tag", photographs, "--model", demo_tagger, env={"LORAKEET_KERNEL": "/does/not/exist"})
    assert done.code == 0
    assert done.stdout.startswith("0 captions written, 4 images left alone, having one")


def test_a_caption_that_cannot_be_read_is_named_and_kept(photographs: Path, demo_tagger: Path) -> None:
    (photographs / "coffee.txt").write_bytes(b"caf\xe9")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--existing", "append", "--json")
    assert done.code == 4
    assert [event["error"]["data"]["kind"] for event in done.of("failed")] == ["caption_unreadable"]
    assert (photographs / "coffee.txt").read_bytes() == b"caf\xe9"


def test_images_that_would_share_a_caption_are_named_and_left_out(
    photographs: Path, demo_tagger: Path
) -> None:
    shutil.copy(photographs / "rocket.jpg", photographs / "coffee.jpg")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--json")
    assert done.code == 4
    assert [event["error"]["data"]["kind"] for event in done.of("failed")] == ["caption_collision"] * 2
    assert not (photographs / "coffee.txt").exists()


@links
def test_a_link_that_leads_out_of_the_folder_is_named_and_left_out(
    photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    shutil.copy(photographs / "rocket.jpg", tmp_path / "elsewhere.jpg")
    (photographs / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--json")
    assert done.code == 4
    (failed,) = done.of("failed")
    assert failed["error"]["data"]["kind"] == "path_outside_roots"
    assert failed["error"]["data"]["where"] == str(photographs / "link.jpg")


@links
def test_a_snapshot_of_the_hub_is_a_model_folder_though_its_files_are_links(
    photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    shutil.copytree(demo_tagger, blobs)
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        path.rename(blobs / f"digest-of-{path.name}")
        (snapshot / path.name).symlink_to(f"../../blobs/digest-of-{path.name}")
    done = lorakeet("tag", photographs, "--model", snapshot)
    assert done.code == 0, done.stderr
    assert _captions(photographs) == CAPTIONS


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode on Windows and macOS")
def test_names_that_are_not_unicode_are_named_and_no_traceback(
    photographs: Path, demo_tagger: Path, tmp_path: Path
) -> None:
    model = tmp_path / os.fsdecode(b"mod\xe8le")
    model.mkdir()
    done = lorakeet("tag", photographs, "--model", model, "--json")
    assert done.code == 3, done.stderr
    assert done.of("error")[0]["error"]["data"]["kind"] == "model_incomplete"
    missing = tmp_path / os.fsdecode(b"n\xe9ant.toml")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--settings", missing, "--json")
    assert "n%E9ant.toml" in done.of("error")[0]["error"]["message"]


def test_an_image_with_the_longest_of_names_gets_its_caption(photographs: Path, demo_tagger: Path) -> None:
    (photographs / "rocket.jpg").rename(photographs / ("x" * 251 + ".jpg"))
    done = lorakeet("tag", photographs, "--model", demo_tagger)
    assert done.code == 0, done.stderr
    assert (photographs / ("x" * 251 + ".txt")).read_text(encoding="utf-8") == CAPTIONS["rocket.jpg"] + "\n"


def test_a_job_that_somebody_else_ended_without_a_result_is_said_plainly(
    photographs: Path, demo_tagger: Path
) -> None:
    kernel = f'"{sys.executable}" "{Path(__file__).parent / "leaves_in_a_job.py"}"'
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--json", env={"LORAKEET_KERNEL": kernel})
    assert done.code == 5, done.stderr
    assert done.of("error")[0]["error"]["data"]["kind"] == "canceled"
    assert done.of("finished")[0]["outcome"] is None


def test_deeper_folders_and_thousands_of_images_go_by_manifest(
    tmp_path: Path, demo_tagger: Path, photographs: Path
) -> None:
    source = photographs / "rocket.jpg"
    small = tmp_path / "many"
    for index in range(1_050):
        folder = small / f"{index % 3}_set"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(source, folder / f"{index:04}.jpg")
    done = lorakeet("tag", small, "--model", demo_tagger, "--recursive", "--batch-size", "32")
    assert done.code == 0, done.stderr
    captions = list(small.rglob("*.txt"))
    assert len(captions) == 1_050
    assert {path.read_text(encoding="utf-8") for path in captions} == {CAPTIONS["rocket.jpg"] + "\n"}


def test_pictures_of_every_kind_and_name_get_their_captions(tmp_path: Path, demo_tagger: Path) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    pictures.write(folder, pictures.NASTY)
    done = lorakeet("tag", folder, "--model", demo_tagger, "--json")
    assert done.code == 0, done.stdout
    assert len(done.of("tagged")) == len(pictures.NASTY)
    written = [name for name in os.listdir(os.fsencode(folder)) if name.endswith(b".txt")]
    assert len(written) == len(pictures.NASTY)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--general-threshold", "1.5", "--batch-size", "0"], 2, ["general_threshold", "batch_size"]),
        (["--replace", "nothing"], 2, ["--replace", "FROM=TO"]),
        (["--settings", "missing.toml"], 2, ["missing.toml"]),
        (["--extension", ".JPG", "--existing", "overwrite"], 2, ["--extension", "images"]),
        (["--extension", "caption.png"], 2, ["--extension", "images"]),
        (["--extension", ""], 2, ["--extension"]),
        (["--extension", "/../../evil"], 2, ["--extension"]),
        (["--model", "./no-such-folder"], 3, ["model.onnx", "selected_tags.csv"]),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_user(
    photographs: Path, demo_tagger: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    done = lorakeet("tag", photographs, "--model", demo_tagger, *arguments)
    assert done.code == code, done.stderr
    assert all(word in done.stderr for word in words)
    assert "Traceback" not in done.stderr
    assert not list(photographs.glob("*.txt"))


def test_no_model_is_a_clear_refusal(photographs: Path) -> None:
    done = lorakeet("tag", photographs)
    assert done.code == 2
    assert "model: is required" in done.stderr


def test_a_wrong_settings_file_is_named_with_its_field(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "tag.toml").write_text("general_treshold = 0.5\n", encoding="utf-8")
    done = lorakeet("tag", photographs, "--settings", tmp_path / "tag.toml", "--model", "wd-vit-v3")
    assert done.code == 2
    assert "tag.toml: general_treshold: is not a known field" in done.stderr


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    done = lorakeet("tag", tmp_path, "--model", "wd-vit-v3", "--json")
    assert done.code == 3
    (error,) = done.of("error")
    assert error["error"]["data"]["kind"] == "no_images"
    assert error["error"]["data"]["where"] == str(tmp_path)


def test_the_limit_of_pixels_is_a_setting(photographs: Path, demo_tagger: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "settings.toml").write_text(
        "[limits]\nmax_image_pixels = 200_000\n", encoding="utf-8"
    )
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--json")
    assert done.code == 4
    kinds = {Path(event["image"]).name: event["error"]["data"]["kind"] for event in done.of("failed")}
    assert kinds == {name: "image_too_large" for name in ("astronaut.png", "coffee.png", "rocket.jpg")}


def test_a_kernel_that_cannot_be_started_is_named(photographs: Path, demo_tagger: Path) -> None:
    done = lorakeet("tag", photographs, "--model", demo_tagger, env={"LORAKEET_KERNEL": "/does/not/exist"})
    assert done.code == 5
    assert "/does/not/exist" in done.stderr
    assert "LORAKEET_KERNEL" in done.stderr


def test_no_folder_is_not_the_folder_one_stands_in(demo_tagger: Path) -> None:
    done = lorakeet("tag", "", "--model", demo_tagger)
    assert done.code == 2
    assert "name a folder" in done.stderr


def test_a_folder_inside_that_cannot_be_read_is_named_and_the_rest_is_done(
    photographs: Path, demo_tagger: Path
) -> None:
    locked = photographs / "locked"
    locked.mkdir()
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user reads everything")
    done = lorakeet("tag", photographs, "--model", demo_tagger, "--recursive", "--json")
    locked.chmod(0o700)
    assert done.code == 4
    assert [event["image"] for event in done.of("failed")] == [str(locked)]
    assert len(done.of("tagged")) == len(CAPTIONS)


def test_a_model_in_a_settings_file_may_be_a_name(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "tag.toml").write_text('model = "no such tagger"\n', encoding="utf-8")
    done = lorakeet("tag", photographs, "--settings", tmp_path / "tag.toml")
    assert done.code == 2
    assert "model: `no such tagger` is no known tagger" in done.stderr
