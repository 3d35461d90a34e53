"""`lorakeet merge`: LoRAs or checkpoints into one, a LoRA into a checkpoint or out of two, or a recipe."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from contract.errors import SettingsInvalid
from contract.methods.merge import Bake, CheckpointMerge, Components, Extract, LoraMerge, MergeSettings
from contract.rules.paths import from_wire
from orchestrator.cli import outcomes
from orchestrator.cli.common import CODES_ELSEWHERE, Raw, add_common
from orchestrator.cli.exits import Exit
from orchestrator.cli.flags import add_settings, given_settings, weights_file
from orchestrator.cli.output import Output
from orchestrator.cli.recipes import embedded_recipe, output_beside, read_recipe
from orchestrator.cli.surgery import add_flags, carry_out
from orchestrator.cli.task import Task
from orchestrator.cli.weights import (
    OUT_HELP,
    SUFFIX,
    existing_file,
    new_file,
    weighted_lora,
    weighted_model,
)
from orchestrator.settings import decode_table

_LORA: Final = "LORA[:WEIGHT]"
_LORA_HELP: Final = (
    "LoRAs and how much of each, 1 where nothing is said: `style.safetensors:0.8`. Parts may have their own: "
    "`style.safetensors:0.8,te1=0,IN04=1.2` (unet, te1, te2, te3, or a block)"
)
_RECIPE: Final = "recipe"
_EXAMPLES: Final = """examples:
  lorakeet merge loras a.safetensors:0.8 b.safetensors:0.5 --out c
  lorakeet merge checkpoints a.safetensors:0.6 b.safetensors:0.4 --out c
  lorakeet merge bake model.safetensors style.safetensors:0.8 --out c
  lorakeet merge extract tuned.safetensors base.safetensors --out style --rank 32
  lorakeet merge recipe.toml
"""


class _What(NamedTuple):
    """One kind of merge: its files, and the settings that they and the flags say."""

    name: str
    summary: str
    add: Callable[[argparse.ArgumentParser], None]
    settings: Callable[[argparse.Namespace], Any]


def add(parser: argparse.ArgumentParser) -> None:
    """The kinds of merges; what is none of them is the file of a recipe."""
    parser.epilog = f"{_EXAMPLES}\n{parser.epilog}"
    choices = parser.add_subparsers(
        metavar="loras|checkpoints|bake|extract|RECIPE", required=True, action=_OrRecipe
    )
    for what in _KINDS:
        own = choices.add_parser(
            what.name,
            help=what.summary,
            description=what.summary,
            epilog=CODES_ELSEWHERE,
            formatter_class=Raw,
        )
        add_common(own)
        what.add(own)
        add_flags(own)
        own.set_defaults(what=what)


async def run(arguments: argparse.Namespace, output: Output) -> Exit:
    """Merge. Raises LorakeetError."""
    settings = arguments.what.settings(arguments)
    out = arguments.out
    if out is None and not arguments.queue:
        out = output_beside(Path(from_wire(arguments.recipe)))
    task = Task("merge", MergeSettings, settings, None, out, outcomes.merged)
    return await carry_out(task, arguments, output)


class _OrRecipe(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Subcommands, of which one may be left out: `merge a.toml` is `merge recipe a.toml`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.choices: Any = None  # every word is one

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        word = values[0]
        if word not in self._name_parser_map:
            if not os.path.exists(os.path.expanduser(word)):
                known = ", ".join(name for name in self._name_parser_map if name != _RECIPE)
                parser.error(f"there is no recipe `{word}`, and no such merge; there are {known}")
            values = [_RECIPE, *values]
        super().__call__(parser, namespace, values, option_string)


def _out(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument("--out", metavar="OUT", type=new_file, required=required, help=OUT_HELP)


def _add_loras(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("loras", metavar=_LORA, nargs="+", type=weighted_lora, help=_LORA_HELP)
    _out(parser)
    add_settings(parser, LoraMerge, without=("loras",))


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        metavar="MODEL[:WEIGHT]",
        nargs="+",
        type=weighted_model,
        help="checkpoints A, B, C … in their order, and how much of each where the method has weights: "
        "`a.safetensors:0.5`. Blocks may have their own: `a.safetensors:0.5,blocks=GRAD_V`, or "
        "`blocks=0/0.5/1/…`",
    )
    _out(parser)
    add_settings(parser, CheckpointMerge, without=("models", "components"))
    add_settings(parser, Components, title="parts of the output")


def _add_bake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=weights_file, help="the checkpoint")
    parser.add_argument("loras", metavar=_LORA, nargs="+", type=weighted_lora, help=_LORA_HELP)
    _out(parser)
    add_settings(parser, Bake, without=("model", "loras"))


def _add_extract(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tuned", metavar="TUNED", type=weights_file, help="the checkpoint that was trained")
    parser.add_argument("base", metavar="BASE", type=weights_file, help="the checkpoint it was trained from")
    _out(parser)
    add_settings(parser, Extract, without=("tuned", "base"))


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        type=existing_file,
        help=f"a recipe in TOML, or a {SUFFIX} file that was made from one",
    )
    _out(parser, required=False)
    parser.add_argument(
        "--models",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder with the models of a recipe that is inside of an output",
    )


def _settings(struct: Any, arguments: argparse.Namespace, names: Sequence[str], **more: Any) -> Any:
    tag = struct.__struct_config__.tag
    files = {name: getattr(arguments, name) for name in names}
    table = {"type": tag, **files, **given_settings(arguments, struct), **more}
    return decode_table(table, struct, "settings")


def _checkpoints(arguments: argparse.Namespace) -> CheckpointMerge:
    parts = given_settings(arguments, Components)
    more = {"components": parts} if parts else {}
    made: CheckpointMerge = _settings(CheckpointMerge, arguments, ("models",), **more)
    return made


def _recipe(arguments: argparse.Namespace) -> Any:
    path = Path(from_wire(arguments.recipe))
    if path.suffix.lower() == SUFFIX:
        if arguments.out is None and not arguments.queue:
            raise SettingsInvalid("Say where the output is to go: --out OUT.", where="--out")
        return embedded_recipe(path, arguments.models)
    return read_recipe(path)


_KINDS: Final = (
    _What(
        "loras",
        "LoRAs into one that does what they do together",
        _add_loras,
        lambda arguments: _settings(LoraMerge, arguments, ("loras",)),
    ),
    _What("checkpoints", "checkpoints into one, tensor by tensor", _add_checkpoints, _checkpoints),
    _What(
        "bake",
        "LoRAs into a checkpoint",
        _add_bake,
        lambda arguments: _settings(Bake, arguments, ("model", "loras")),
    ),
    _What(
        "extract",
        "the LoRA that turns one checkpoint into another",
        _add_extract,
        lambda arguments: _settings(Extract, arguments, ("tuned", "base")),
    ),
    _What(_RECIPE, "a graph of merges in a file (the word may be left out)", _add_recipe, _recipe),
)
