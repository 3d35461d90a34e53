"""A training as a file: layers in, TOML out, and back again."""

import tomllib
from typing import Any

import pytest
import tomlkit

from contract.errors import InvalidParams
from contract.methods.train import TrainSettings
from contract.methods.train_file import TrainFile, as_table, train_file
from contract.methods.training.optimizer import Prodigy
from contract.methods.training.schedule import Cosine
from contract.validation import decode

FILE = """
[source]
folders = ["/data/cats"]

[output]
name = "cat"

[model]
base = { path = "/models/a.safetensors" }

[[subsets]]
name = "10_cat"

[[subsets]]
name = "dogs"
repeats = 2
shuffle = false

[data.captions]
shuffle = true

[training]
epochs = 10

[optimizer]
type = "prodigy"
d_coef = 2
rates = { te1 = 1.0 }
"""


def _toml(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def test_a_file_is_read() -> None:
    training = train_file(_toml(FILE))
    assert training.source is not None and training.source.folders == ["/data/cats"]
    assert training.output is not None and training.output.name == "cat"
    assert [subset.name for subset in training.subsets] == ["10_cat", "dogs"]
    assert training.data.captions.shuffle
    assert training.optimizer == Prodigy(d_coef=2.0, rates={"te1": 1.0})
    assert training.schedule == Cosine()


def test_what_is_written_is_read_as_the_same() -> None:
    training = train_file(_toml(FILE))
    assert train_file(_toml(tomlkit.dumps(as_table(training)))) == training


@pytest.mark.parametrize("network", [{"type": "lora"}, {"type": "locon", "conv_rank": 4}])
@pytest.mark.parametrize(
    "optimizer",
    [
        {"type": name}
        for name in "adamw adamw8bit lion adafactor prodigy adamw_schedule_free sgd_schedule_free".split()
    ]
    + [{"type": "custom", "import_name": "a.B", "arguments": {"k": [0.9, 1], "l": "x", "m": True}}],
)
def test_every_choice_survives_toml(network: dict[str, Any], optimizer: dict[str, Any]) -> None:
    chosen = {"network": network, "optimizer": optimizer, "schedule": {"type": "constant"}}
    training = train_file(_toml(FILE), {"optimizer": {"type": "lion"}}, chosen)
    assert train_file(_toml(tomlkit.dumps(as_table(training)))) == training


def test_every_value_is_written_so_that_defaults_to_come_change_nothing() -> None:
    table = as_table(train_file(_toml(FILE)))
    assert table["network"]["rank"] == 16
    assert table["objective"]["loss"] == {"type": "l2"}
    assert "vae" not in table["model"]


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset() -> None:
    preset = {
        "network": {"rank": 32, "alpha": 16},
        "optimizer": {"type": "prodigy", "d0": 1e-5, "d_coef": 1},
        "training": {"steps": 500, "batch_size": 4},
    }
    assigned = {"network": {"rank": 8}, "data": {"captions": {"keep_tokens": 1}}}
    training = train_file(preset, _toml(FILE), assigned)
    assert (training.network.rank, training.network.alpha) == (8, 16)
    assert training.optimizer == Prodigy(d0=1e-5, d_coef=2.0, rates={"te1": 1.0})
    assert (training.training.epochs, training.training.steps) == (10, None)
    assert training.training.batch_size == 4
    assert training.data.captions.shuffle and training.data.captions.keep_tokens == 1


def test_another_optimizer_on_the_command_line_has_its_own_defaults() -> None:
    training = train_file(_toml(FILE), {"optimizer": {"type": "lion"}})
    assert training.optimizer.learning_rate == 3e-5


def test_a_source_is_a_dataset_or_folders_and_the_last_that_is_named_counts() -> None:
    training = train_file(_toml(FILE), {"source": {"dataset": "dogs"}})
    assert training.source is not None
    assert (training.source.dataset, training.source.folders) == ("dogs", [])


def test_what_people_write_shorter_is_spelled_out_before_it_is_decoded() -> None:
    def spelled(whole: dict[str, Any]) -> dict[str, Any]:
        return whole | {"model": {"base": {"path": whole["model"]["base"]}}}

    training = train_file(_toml(FILE), {"model": {"base": "/b"}}, spelled=spelled)
    assert training.model.base.path == "/b"


def test_the_settings_are_the_file_without_source_and_output() -> None:
    training = train_file(_toml(FILE))
    table = {name: each for name, each in as_table(training).items() if name not in ("source", "output")}
    assert type(training.settings) is TrainSettings
    assert training.settings == decode(table, TrainSettings)
    assert as_table(training.settings) == table


def test_source_and_output_may_be_said_elsewhere() -> None:
    training = train_file({"model": {"base": {"path": "/a"}}, "training": {"steps": 1}})
    assert training.source is None and training.output is None


def test_all_problems_of_all_layers_are_named_in_the_end() -> None:
    with pytest.raises(InvalidParams) as caught:
        train_file({"network": {"rnk": 8}}, _toml(FILE), {"training": {"seed": -1}, "optimizer": 5})
    assert [each["where"] for each in caught.value.details["problems"]] == [
        "$.network.rnk",
        "$.training.seed",
        "$.optimizer",
    ]


def test_every_field_of_the_settings_is_one_of_the_file() -> None:
    assert TrainFile.__struct_fields__ == (*TrainSettings.__struct_fields__, "source", "output")
