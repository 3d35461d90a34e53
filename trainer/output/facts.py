"""What is known of a training when it writes a file."""

import msgspec

from contract.methods.train import TrainSettings
from contract.methods.training.plan import TrainPlan
from trainer.data.collection import Picture
from trainer.data.subset import Subset
from trainer.families.base import Prediction
from trainer.sampling.prompts import Prompt


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is trained with: its name without a folder, its SHA-256, and the short hash that web UIs
    had before. The SHA-256 of a folder is that of its files of weights with their names; it has no old one.
    """

    name: str
    sha256: str | None = None
    old: str | None = None
    is_folder: bool = False


class TrainingFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is the same for every file of a run.

    `name` is that of the output without its ending. `prediction` and `zero_snr` are those that are trained
    with, whatever the model said; `size` is the side in pixels of the square that pictures have the area of,
    and `compute` the type, fp32, fp16 or bf16. `prompts` are needed where the settings name a file of them.
    `steps` and `epochs` are those of the whole run. `session` is a number that every file of it has,
    `started_at` seconds since 1970. `device` is its kind (cpu, cuda), and `versions` are those of lorakeet
    and the packages that the result depends on. `continued`: it began with a checkpoint of another run.
    """

    settings: TrainSettings
    name: str
    family: str
    prediction: Prediction
    zero_snr: bool
    size: int
    compute: str
    base: ModelFile
    vae: ModelFile | None = None
    start_from: ModelFile | None = None
    subsets: list[Subset]
    pictures: list[Picture]
    plan: TrainPlan
    prompts: list[Prompt] = []
    steps: int
    epochs: int
    session: int
    started_at: float
    device: str
    versions: dict[str, str]
    continued: bool = False


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """When a file is written: after so many steps, in which epoch, counted from 1, and `at` seconds since
    1970."""

    step: int
    epoch: int
    at: float
