"""Small trainings in a real kernel, with everything that chance has a hand in, and what they come to."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from contract.rules.tensor_header import parse_header
from tests.kernel_process import KernelProcess, Message
from trainer.fixtures import write

#: What a file of weights says of its times and its session; all else has to be the same.
VARYING: Final = frozenset(
    {"ss_training_started_at", "ss_training_finished_at", "ss_session_id", "modelspec.date"}
)
#: Seconds between two words of a kernel, at most; the first is waited for longest.
LIMIT_S: Final = 50.0

_NAME: Final = "lora"
_TAGS: Final = ("1girl", "solo", "red hair", "smile", "hat", "forest", "night")
_LENGTH_BYTES: Final = 8


class Training(NamedTuple):
    """Settings, but for the model, of which only the family is known here."""

    name: str
    family: str
    tables: Message

    @property
    def steps(self) -> int:
        """Of the optimizer, in all."""
        steps: int = self.tables["training"]["steps"]
        return steps


class Source(NamedTuple):
    """What trainings read: models by family, and a folder of pictures."""

    models: Mapping[str, Path]
    pictures: Path


class Place(NamedTuple):
    """Where one training writes."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def file(self) -> Path:
        return self.outputs / f"{_NAME}.safetensors"

    def unfinished(self, *, caches: bool = False) -> list[str]:
        """What is left of files and folders that were never whole. That of caches, which others share, goes
        when somebody writes there again.
        """
        folders = (self.folder,) if caches else (self.run, self.outputs)
        return sorted(str(each) for folder in folders for each in folder.rglob("*.part"))

    def checkpoints(self) -> list[Path]:
        """Of the run, from the oldest on."""
        return sorted(each for each in self.run.glob("checkpoints/*") if not each.name.startswith("."))


#: Shuffled and dropped tags, dropped captions, crops and flips, dropout in the network, noise with an offset,
#: text encoders, a schedule, windows of three batches of which an epoch's last has fewer; pictures and files
#: of weights on the way.
_BY_CHANCE: Final[Message] = {
    "network": {"type": "lora", "rank": 4, "alpha": 2, "dropout": 0.1, "rank_dropout": 0.1},
    "data": {
        "resolution": 64,
        "random_crop": True,
        "flip": True,
        "buckets": {"min_side": 64, "max_side": 128, "step": 32},
        "captions": {
            "shuffle": True,
            "keep_tokens": 1,
            "tag_dropout": 0.2,
            "caption_dropout": 0.2,
            "max_tokens": 75,
        },
    },
    "training": {"steps": 5, "batch_size": 1, "accumulation": 3, "seed": 7},
    "optimizer": {"type": "adamw", "learning_rate": 1e-3, "text_encoder_rate": 5e-4},
    "schedule": {"type": "cosine", "warmup_steps": 2},
    "objective": {"noise_offset": 0.05, "loss": {"type": "huber"}},
    "memory": {"gradient_checkpointing": False},
    "sampling": {"prompts": ["a cat"], "every_steps": 3, "steps": 2},
    "checkpoints": {"every_steps": 1, "every_minutes": 0},
    "saving": {"every_epochs": 1, "dtype": "fp32"},
}
#: Nothing of it needs an encoder after the first step; other kinds of everything.
_CACHED: Final[Message] = _BY_CHANCE | {
    "network": {"type": "locon", "rank": 2, "conv_rank": 2, "dropout": 0.1},
    "data": _BY_CHANCE["data"] | {"random_crop": False},
    "caching": {"caption_variants": 3},
    "optimizer": {"type": "prodigy"},
    "schedule": {"type": "cosine_with_restarts", "cycles": 2},
    "memory": {"gradient_checkpointing": True},
    "saving": {"every_steps": 2, "dtype": "bf16"},
}
SD15: Final = Training("sd15", "sd15", _BY_CHANCE)
#: Some of its thousand modules, since all of them take three times as long.
_FEWER: Final = ("lora_unet_*attn2_to_[qv]", "lora_te[12]_*[02468]_self_attn_q_proj")
SDXL: Final = Training(
    "sdxl", "sdxl", _BY_CHANCE | {"network": _BY_CHANCE["network"] | {"include": list(_FEWER)}}
)
CACHED: Final = Training("sd15 with caches", "sd15", _CACHED)
TRAININGS: Final = (SD15, SDXL, CACHED)
#: As few changes of the disk as a training has that writes one of everything.
SHORT: Final = Training(
    "short",
    "sd15",
    _CACHED
    | {
        "network": {"type": "lora", "rank": 2, "include": ["lora_unet_*attn2_to_q"]},
        "optimizer": {"type": "adamw"},
        "memory": {"gradient_checkpointing": False},
        "training": {"steps": 2, "batch_size": 2, "accumulation": 1, "seed": 7},
        "sampling": {"prompts": ["a cat"], "every_steps": 1, "at_start": False, "steps": 1},
        "saving": {"every_steps": 1, "keep_last": 1},
        "checkpoints": {"every_steps": 1, "every_minutes": 0, "keep_last": 1},
    },
)


def new_place(folder: Path) -> Place:
    """Make the folder, and that of the outputs, which a kernel does not make."""
    place = Place(folder)
    place.outputs.mkdir(parents=True)
    return place


def source(folder: Path) -> Source:
    """Make it: two small models, and a handful of pictures in two subsets."""
    models = {family: write(family, folder / "models").file for family in ("sd15", "sdxl")}
    pictures = folder / "pictures"
    chance = np.random.default_rng(0)
    for number in range(6):
        path = pictures / ("2_cat" if number < 2 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Larger than its bucket: a crop has somewhere to go.
        height, width = (int(side) for side in chance.integers(90, 170, 2))
        Image.fromarray(chance.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        path.with_suffix(".txt").write_text(", ".join(chance.permutation(_TAGS)), "utf-8")
    return Source(models, pictures)


class Attempt:
    """One attempt of a training that is sent to a kernel at once."""

    def __init__(
        self,
        kernel: KernelProcess,
        training: Training,
        source: Source,
        place: Place,
        number: int = 1,
        *,
        job_id: str,
        **inputs: str,
    ) -> None:
        self.kernel = kernel
        self._job_id = job_id
        self._answer: Message | None = None
        model = {"base": {"path": str(source.models[training.family])}}
        params = {
            "job_id": job_id,
            "attempt": number,
            "v": 2,
            "inputs": {"folders": [str(source.pictures)], **inputs},
            "outputs": {
                "file": str(place.file),
                "run": str(place.run),
                "cache": str(place.folder / "caches"),
            },
            "settings": {"model": model, **training.tables},
        }
        self._id = kernel.call("train", params)

    def has_done(self, step: int) -> bool:
        """Wait for it; False where the training has ended before. Raises KernelEnded."""
        while self._answer is None:
            message = self.kernel.receive(LIMIT_S)
            if message.get("id") == self._id:
                self._answer = message
            elif _step(message) >= step:
                return True
        return False

    def cancel(self, mode: str) -> None:
        """Ask it to stop."""
        self.kernel.call("cancel", {"job_id": self._job_id, "mode": mode})

    def order(self, action: str) -> None:
        """Have it do something on the way, if it still runs."""
        self.kernel.call("control", {"job_id": self._job_id, "action": action})

    def answer(self) -> Message:
        """Wait for it. Raises KernelEnded."""
        while self._answer is None:
            message = self.kernel.receive(LIMIT_S)
            if message.get("id") == self._id:
                self._answer = message
        return self._answer

    def succeed(self) -> Message:
        """Wait for the result, which is all that it should come to. Raises KernelEnded."""
        answer = self.answer()
        assert "result" in answer, answer["error"]
        result: Message = answer["result"]
        return result


def _step(message: Message) -> int:
    """The step of which a message tells that it is done; -1 where it tells of none. Of progress only the
    latest comes through, which may be that something is being saved.
    """
    said = message.get("params", {})
    if message.get("method") == "partial":
        return max(int(item["step"]) for item in said["items"])
    if message.get("method") == "progress" and said["phase"] in ("train", "save"):
        step: int = said["step"]
        return step
    return -1


def product(place: Place) -> dict[str, object]:
    """Everything that a training leaves for people, in comparable pieces; times and sessions apart."""
    found: dict[str, object] = {}
    for path in sorted(place.outputs.iterdir()):
        for name, value in weights(path):
            found[f"{path.name} {name}"] = value
    for path in sorted(place.run.glob("samples/*")):
        found[f"samples {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    for line in (place.run / "metrics.jsonl").read_text("utf-8").splitlines():
        said = json.loads(line)
        # A step that was done again is told of again.
        found[f"step {said['step']}"] = [said["loss"], said["rates"], said["grad_norm"]]
    return found


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> dict[str, object]:
    """Pieces of both that are not the same, each as it was found and as it should be."""
    both = found.keys() & expected.keys()
    return {name: (found[name], expected[name]) for name in sorted(both) if found[name] != expected[name]}


def weights(path: Path) -> Iterator[tuple[str, object]]:
    """The pieces of one file, which is whole."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    start = _LENGTH_BYTES + length
    header = parse_header(raw[_LENGTH_BYTES:start], len(raw) - start)
    assert header.metadata.keys() >= VARYING, f"{path.name} does not say when it was made"
    yield (
        "tensors",
        {name: (each.dtype, each.shape, each.data_offsets) for name, each in header.tensors.items()},
    )
    yield "bytes", hashlib.sha256(raw[start:]).hexdigest()
    for name, text in header.metadata.items():
        if name not in VARYING:
            yield name, text
