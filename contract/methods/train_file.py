"""A training as one file: the tables of its settings, `[source]` and `[output]`."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from contract.fields import field
from contract.methods.train import TrainSettings
from contract.methods.training.layers import layered
from contract.methods.training.source import TrainSource, TrainTarget
from contract.validation import decode


class TrainFile(TrainSettings, frozen=True, kw_only=True):
    """Everything about one training. `[source]` and `[output]` may also be said where it is started."""

    source: Annotated[TrainSource, field("Source", "Where the pictures are.")] | None = None
    output: Annotated[TrainTarget, field("Output", "Where the LoRA goes.")] | None = None

    @property
    def settings(self) -> TrainSettings:
        """The tables that are settings."""
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.__struct_fields__})


def train_file(
    *layers: Mapping[str, Any], spelled: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> TrainFile:
    """The training that `layers` make over the defaults, each over those before it: a preset, a file, what
    was said on the command line. `spelled` may say in full what people write shorter, such as a model by its
    path alone, before it is decoded. Raises InvalidParams with every problem."""
    return decode(spelled(layered(TrainFile, *layers)), TrainFile)


def as_table(training: TrainSettings) -> dict[str, Any]:
    """Every field that has a value, as TOML can say it. What is left out is nothing by default, too."""
    table: dict[str, Any] = _without_none(msgspec.to_builtins(training))
    return table


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list | tuple) else value
