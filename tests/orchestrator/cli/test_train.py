"""`lorakeet train` and `lorakeet reproduce` from the outside, on a small model."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from contract.errors import LorakeetError
from contract.methods.training.run_record import RUN_RECORD, decode_run
from orchestrator.cli import train
from orchestrator.cli.commands import parser
from orchestrator.cli.exits import Exit, exit_for
from orchestrator.cli.output import Output
from orchestrator.models.header import read_header
from tests.orchestrator.cli.command import LORAKEET, TIMEOUT_S, Done, lorakeet
from trainer.fixtures import write

#: Of files of weights, what the time and the session decide.
_OF_ITS_TIME = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date",
}  # fmt: skip
_STEPS = 12
_CONFIG = f"""
[source]
folders = ["pictures"]

[model]
base = "models/sd15.safetensors"

[network]
rank = 2

[data]
resolution = 64
buckets = {{ min_side = 64 }}

[memory]
gradient_checkpointing = false

[training]
steps = {_STEPS}

[saving]
every_epochs = 0
every_steps = 10
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads need more time for so small a model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model, pictures, and the file of a training."""
    folder = tmp_path_factory.mktemp("training")
    write("sd15", folder / "models", dtype="fp32")
    (folder / "pictures").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (64, 64), colour).save(folder / "pictures" / f"{number}.png")
        (folder / "pictures" / f"{number}.txt").write_text(f"a {colour} picture", encoding="utf-8")
    (folder / "cat.toml").write_text(_CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Done:
    """A training that nobody interrupted, in a data directory of its own."""
    done = lorakeet("train", folder / "cat.toml", "--json", "--data", folder / "home")
    assert done.code == 0, done.stdout
    return done


def _weights(path: Path) -> tuple[dict[str, str], bytes]:
    """What may not differ between two runs of one recipe."""
    raw = path.read_bytes()
    metadata = read_header(str(path)).metadata
    assert metadata.keys() >= _OF_ITS_TIME
    kept = {name: value for name, value in metadata.items() if name not in _OF_ITS_TIME}
    return kept, raw[8 + int.from_bytes(raw[:8], "little") :]


def test_a_training_says_what_it_does_and_where_everything_is(folder: Path, whole: Done) -> None:
    (started,), (finished,) = whole.of("started"), whole.of("finished")
    home = folder / "home"
    assert started["out"] == str(home / "outputs" / "cat.safetensors") == finished["outcome"]["file"]
    assert (started["run"], started["resumes"]) == (str(home / "runs" / "cat"), False)
    assert started["settings"]["model"]["base"]["path"] == str(folder / "models" / "sd15.safetensors")
    assert [each["metrics"]["step"] for each in whole.of("metrics")] == [*range(1, _STEPS + 1)]
    assert {"preflight", "load", "latents", "text", "train", "save"} <= {
        each["phase"] for each in whole.of("progress")
    }
    steps = [each["labels"] for each in whole.of("artifact") if each["role"] == "lora_step"]
    assert [each["step"] for each in steps] == [10]
    assert decode_run((home / "runs" / "cat" / RUN_RECORD).read_bytes()).finished
    assert (home / "caches" / "latents").is_dir()


def test_a_lora_that_is_there_is_not_replaced_unless_asked(folder: Path, whole: Done) -> None:
    again = lorakeet("train", folder / "cat.toml", "--json", "--data", folder / "home")
    assert again.code == 3 and again.of("started") == []
    assert again.of("error")[0]["error"]["data"]["kind"] == "output_exists"
    hint = again.of("error")[0]["error"]["data"]["hint"]
    assert "--overwrite" in hint and f"cat goes on from step {_STEPS}" in hint
    asked = lorakeet(
        *("train", folder / "cat.toml", "--overwrite", "--json", "--data", folder / "home"),
        env={"LORAKEET_KERNEL": "no-such-kernel"},
    )
    assert (asked.code, asked.of("started")[0]["run"]) == (5, str(folder / "home" / "runs" / "cat-2"))


def _reproduced(folder: Path, tmp_path: Path) -> Path:
    """The file that trains it again."""
    config = tmp_path / "again.toml"
    written = lorakeet(
        *("reproduce", folder / "home" / "outputs" / "cat.safetensors", "-o", config),
        *("--folder", folder / "pictures", "--models", folder / "models", "--data", folder / "home"),
    )
    assert (written.code, written.stderr) == (0, "")
    assert written.stdout == f"lorakeet train {config} --set output.folder=DIR\n"
    return config


@pytest.mark.slow
def test_reproduce_gives_what_trains_the_same_bytes(folder: Path, whole: Done, tmp_path: Path) -> None:
    made = folder / "home" / "outputs" / "cat.safetensors"
    config = _reproduced(folder, tmp_path)
    again = lorakeet("train", config, "--set", f"output.folder={tmp_path / 'made'}", "--json")
    assert again.code == 0, again.stdout
    assert _weights(tmp_path / "made" / "cat.safetensors") == _weights(made)


def test_reproduce_says_what_is_missing(folder: Path, whole: Done, tmp_path: Path) -> None:
    made = folder / "home" / "outputs" / "cat.safetensors"
    printed = lorakeet("reproduce", made)
    assert printed.code == 0 and 'path = "sd15.safetensors"' in printed.stdout
    assert "[source]" not in printed.stdout
    assert "warning: model.base: sd15.safetensors was not found" in printed.stderr
    assert "warning: Its 3 pictures come from folders that it does not name" in printed.stderr
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes((folder / "pictures" / "0.png").read_bytes())
    known = lorakeet("reproduce", made, "--folder", tmp_path / "pictures", "--json")
    (event,) = known.of("reproduced")
    assert (event["lost_pictures"], [each["field"] for each in event["missing"]]) == (2, ["model.base"])
    other = lorakeet("reproduce", made, "--base", made, "--json")
    assert other.code == 3
    assert other.of("error")[0]["error"]["data"]["kind"] == "weights_mismatch"
    model = lorakeet("reproduce", folder / "models" / "sd15.safetensors")
    assert model.code == 2 and "does not say how it was trained" in model.stderr


def test_reproduce_names_captions_that_are_others(folder: Path, whole: Done, tmp_path: Path) -> None:
    made = folder / "home" / "outputs" / "cat.safetensors"
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures" / "1.txt").write_text("another picture", encoding="utf-8")
    command = ("reproduce", made, "--folder", tmp_path / "pictures")
    (event,) = lorakeet(*command, "--json").of("reproduced")
    assert (event["lost_pictures"], event["other_captions"]) == (0, [str(tmp_path / "pictures" / "1.png")])
    (tmp_path / "pictures" / "2.txt").unlink()
    words = f"warning: Other captions than it was trained with: {tmp_path / 'pictures' / '1.png'} and 1 more."
    assert words in lorakeet(*command).stderr


def test_a_plan_shows_the_sizes_and_begins_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number, size in enumerate(((128, 128), (256, 128), (260, 128))):
        Image.new("RGB", size).save(tmp_path / "pictures" / f"{number}.png")
    # One of them lies on another disk.
    (tmp_path / "pictures" / "1.png").rename(tmp_path / "elsewhere.png")
    (tmp_path / "pictures" / "1.png").symlink_to(tmp_path / "elsewhere.png")
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    command = ("train", folder / "cat.toml", "--plan", "--folder", tmp_path / "pictures")
    settings = ("data.captions.missing=empty", "data.buckets.step=8", "data.resolution=128")
    flags = tuple(word for each in settings for word in ("--set", each))
    refused = lorakeet(*command, *flags)
    assert (refused.code, refused.stdout) == (3, "")
    assert str(tmp_path / "pictures" / "3.png") in refused.stderr
    assert 'With data.bad_images = "skip" such pictures are left out.' in refused.stderr
    flags += ("--set", "data.bad_images=skip", "--set", "training.epochs=2")
    done = lorakeet(*command, *flags)
    assert done.code == 4
    assert done.stdout.splitlines() == [
        "     size  pictures  samples  batches  cropped",
        " 176 × 88         2        2        2     0.8%",
        "128 × 128         1        1        1     0.0%",
        "3 pictures, 3 samples an epoch, 0.6% cropped on average",
        "3 batches and 3 steps an epoch, 6 steps in all",
        "1 left out",
    ]
    home = Path(os.environ["LORAKEET_HOME"])
    assert os.listdir(home) == ["caches"] and os.listdir(home / "caches") == ["pictures.json"]


# Without a kernel: what would be done -----------------------------------------------------------------------


def _started(*arguments: object) -> dict[str, Any]:
    done = _without_kernel(*arguments)
    assert done.code == 5, done.stdout
    (started,) = done.of("started")
    return dict(started)


def _without_kernel(*arguments: object) -> Done:
    """In this process: a start for each of so many takes longer than all that they test."""
    stdout = io.TextIOWrapper(io.BytesIO())
    output = Output(json=True, stdout=stdout)
    given = parser(["train"]).parse_args(["train", *map(str, arguments)])
    given.home = Path(os.environ["LORAKEET_HOME"])
    code: Exit
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAKEET_KERNEL", "no-such-kernel")
        try:
            code = anyio.run(train.run, given, output)
        except LorakeetError as error:
            output.error(error)
            code = exit_for(error)
    stdout.seek(0)
    return Done(code, stdout.read(), "")


def _refused(*arguments: object) -> str:
    """The words, and the hint, of what is refused before a kernel would be started."""
    done = _without_kernel(*arguments)
    assert done.code in (2, 3) and done.of("started") == [], done.stdout
    error = done.of("error")[0]["error"]
    return f"{error['message']} {error['data'].get('hint', '')}"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a training in the folder where people stand; nothing that it names is there."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "here" / "cat.toml"
    path.write_text(_CONFIG, encoding="utf-8")
    return path


def test_flags_say_the_name_the_folders_and_any_setting(config: Path) -> None:
    here, home = config.parent, Path(os.environ["LORAKEET_HOME"])
    started = _started("cat.toml")
    assert (started["folders"], started["settings"]["network"]["rank"]) == ([str(here / "pictures")], 2)
    started = _started(
        *("cat.toml", "--name", "dog", "--folder", "a", "--folder", "../b", "--set", "network.rank=32"),
        *("--set", "training.epochs=5", "--set", 'sampling.prompts=["a, b --w 64"]'),
        *("--set", "sampling.every_epochs=1", "--set", "model.vae=vae.safetensors"),
    )
    assert started["out"] == str(home / "outputs" / "dog.safetensors")
    assert started["folders"] == [str(here / "a"), str(here.parent / "b")]
    settings = started["settings"]
    assert (settings["network"]["rank"], settings["training"]["epochs"]) == (32, 5)
    assert "steps" not in settings["training"] and settings["sampling"]["prompts"] == ["a, b --w 64"]
    assert settings["model"]["vae"] == {"path": str(here / "vae.safetensors")}


def test_a_preset_comes_from_a_file_or_from_the_studio(config: Path) -> None:
    preset = 'kind = "train"\nname = "mild"\n[settings.optimizer]\ntype = "lion"\n'
    Path("mild.toml").write_text(preset, encoding="utf-8")
    assert _started("cat.toml", "--preset", "mild.toml")["settings"]["optimizer"]["type"] == "lion"
    assert lorakeet("presets", "import", "mild.toml").code == 0
    assert _started("cat.toml", "--preset", "mild")["settings"]["optimizer"]["type"] == "lion"
    Path("mild.toml").write_text('kind = "tag"\nname = "x"\n', encoding="utf-8")
    assert "is a preset for tag" in _refused("cat.toml", "--preset", "mild.toml")
    assert "There is no preset nix" in _refused("cat.toml", "--preset", "nix")


def test_a_refused_training_leaves_its_run_to_the_next(config: Path) -> None:
    runs = Path(os.environ["LORAKEET_HOME"]) / "runs"
    for flags in ((), ("--restart",)):
        started = _started("cat.toml", *flags)
        assert (started["run"], started["resumes"]) == (str(runs / "cat"), False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "Name the file with the settings"),
        (("dog.toml",), "There is no file dog.toml"),
        (("cat.toml", "--set", "training.steps=0"), "--set: training.steps: expected `int` >= 1"),
        (("cat.toml", "--name", "a/b"), "--name: output.name: is no name for a file"),
        (("cat.toml", "--set", 'source={dataset="cats"}'), "Let the studio do it with --queue"),
        (("cat.toml", "--resume"), "There is no checkpoint of a run `cat`"),
        (("--resume", "cat.toml"), "There is no checkpoint of a run `cat`"),
        (("cat.toml", "--resume", "nowhere"), "There is no checkpoint in "),
        (("cat.toml", "--queue", "--plan"), "leave out --queue"),
        (("cat.toml", "--queue", "--resume"), "A job of the studio goes on by itself."),
        (("cat.toml", "--queue", "--overwrite"), "The studio never overwrites"),
        (("cat.toml", "--queue"), "There is no folder "),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    config: Path, flags: tuple[str, ...], words: str
) -> None:
    assert words in _refused(*flags)


def test_the_source_has_to_be_said(config: Path) -> None:
    config.write_text(_CONFIG.replace('[source]\nfolders = ["pictures"]', ""), encoding="utf-8")
    assert "It is not said where the pictures are. Name their folder with --folder DIR" in _refused(config)
    assert _started(config, "--folder", "pictures")["folders"] == [str(config.parent / "pictures")]


def test_the_studio_trains_on_its_own_folders_and_models(config: Path, folder: Path) -> None:
    home = Path(os.environ["LORAKEET_HOME"])
    (home / "models").mkdir(parents=True)
    (home / "models" / "small.safetensors").hardlink_to(folder / "models" / "sd15.safetensors")
    pictures = home / "datasets" / "cats"
    pictures.mkdir(parents=True)
    flags = ("cat.toml", "--queue", "--set", "model.base=small", "--folder", pictures)
    done = _without_kernel(*flags)
    assert done.code == 0, done.stdout
    job = done.of("queued")[0]["job"]
    assert (job["kind"], job["output"]) == ("train", "cat")
    assert job["source"] == {"folders": [{"root": "datasets", "path": "cats"}]}
    assert job["settings"]["model"]["base"]["path"] == str(home / "models" / "small.safetensors")
    added = lorakeet("datasets", "add", pictures, "--json").of("dataset")[0]["dataset"]
    for more in ((), ("--set", 'source={dataset="cats"}')):
        done = _without_kernel(*(flags[:4] if more else flags), *more)
        assert done.of("queued")[0]["job"]["source"] == {"dataset": added["id"]}, done.stdout


def test_flags_of_a_training_are_written_like_this() -> None:
    given = parser().parse_args(["train", "a.toml", "--resume", "--set", "a.b=1", "--set", "c=x"])
    assert (given.config, given.resume, given.assignments) == ("a.toml", "", [("a.b", 1), ("c", "x")])
    given = parser().parse_args(["train", "a.toml", "--resume", "runs/a", "--folder", "b"])
    assert (given.resume, given.folders) == ("runs/a", ["b"])
    given = parser().parse_args(
        ["reproduce", "a.safetensors", "-o", "b.toml", "--base", "c", "--folder", "d"]
    )
    assert (given.out, os.path.basename(given.base), given.folders) == ("b.toml", "c", ["d"])


# Interrupted ------------------------------------------------------------------------------------------------


@contextmanager
def _running(*arguments: object) -> Iterator["_Running"]:
    process = subprocess.Popen(
        [*LORAKEET, "train", *map(str, arguments), "--json"], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        yield _Running(process)
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        assert process.stdout is not None
        process.stdout.close()


class _Running:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def until_step(self, step: int) -> None:
        """Read until so many steps are done."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "metrics" and event["metrics"]["step"] >= step:
                return
        raise AssertionError("it ended early")

    def rest(self) -> list[dict[str, Any]]:
        """The events to its end."""
        assert self.process.stdout is not None
        return [json.loads(line) for line in self.process.stdout]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_training_that_is_repeated_and_interrupted_ends_in_the_same_bytes(
    folder: Path, whole: Done, tmp_path: Path
) -> None:
    config = _reproduced(folder, tmp_path)
    with _running(config) as running:
        running.until_step(3)
        running.process.send_signal(signal.SIGINT)
        (stopped,) = [event for event in running.rest() if event["event"] == "stopped"]
        assert running.process.wait(TIMEOUT_S) == 130
    assert 3 <= stopped["step"] < _STEPS and stopped["outcome"]["steps"] == stopped["step"]
    done = lorakeet("train", config, "--json")
    assert done.code == 0, done.stdout
    (started,) = done.of("started")
    assert (started["resumes"], started["step"]) == (True, stopped["step"])
    assert done.of("metrics")[0]["metrics"]["step"] == stopped["step"] + 1
    home = Path(os.environ["LORAKEET_HOME"])
    made = home / "outputs" / "cat.safetensors"
    assert _weights(made) == _weights(folder / "home" / "outputs" / "cat.safetensors")


@pytest.mark.slow
def test_a_finished_run_goes_on_longer_in_its_folder(folder: Path) -> None:
    command = ("train", folder / "cat.toml", "--json", "--set")
    assert lorakeet(*command, "training.steps=2").code == 0
    done = lorakeet(*command, "training.steps=4", "--resume")
    assert done.code == 0, done.stdout
    assert done.of("started")[0]["run"] == str(Path(os.environ["LORAKEET_HOME"]) / "runs" / "cat")
    assert [each["metrics"]["step"] for each in done.of("metrics")] == [3, 4]


@pytest.mark.slow
def test_a_checkpoint_begins_another_run_unless_the_training_is_another(folder: Path, whole: Done) -> None:
    command = ("train", folder / "cat.toml", "--resume", folder / "home" / "runs" / "cat", "--name", "dog")
    steps = ("--set", f"training.steps={_STEPS + 2}", "--json")
    refused = lorakeet(*command, *steps, "--set", "optimizer.learning_rate=0.5")
    assert refused.code == 2 and refused.of("started")[0]["step"] == _STEPS
    assert "optimizer.learning_rate" in refused.of("error")[0]["error"]["message"]
    done = lorakeet(*command, *steps)
    assert done.code == 0, done.stdout
    assert Path(done.of("started")[0]["run"]) == Path(os.environ["LORAKEET_HOME"]) / "runs" / "dog"
    assert [each["metrics"]["step"] for each in done.of("metrics")] == [_STEPS + 1, _STEPS + 2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_interruption_stops_without_a_checkpoint(folder: Path) -> None:
    with _running(folder / "cat.toml", "--set", "checkpoints.every_steps=2") as running:
        running.until_step(3)
        running.process.send_signal(signal.SIGINT)
        running.process.send_signal(signal.SIGINT)
        running.rest()
        assert running.process.wait(TIMEOUT_S) == 130
    done = lorakeet(
        *("train", folder / "cat.toml", "--set", "checkpoints.every_steps=2", "--json"),
        env={"LORAKEET_KERNEL": "no-such-kernel"},
    )
    assert done.of("started")[0]["resumes"] and done.of("started")[0]["step"] >= 2
