"""The metadata of a file of a training.

But for the times and the number of the session, they follow from the settings, the pictures and the moment
alone: who trains the same again gets the same bytes. They have no folder of anybody's machine. The hashes
`sshs_*` are of the file and come from who writes it.
"""

import msgspec

from contract.methods.training.recipe import encode_recipe
from contract.methods.weights import RECIPE_KEY
from trainer.output.facts import ModelFile, Moment, TrainingFacts
from trainer.output.kohya import of_training
from trainer.output.pictures import of_pictures
from trainer.output.readable import readable
from trainer.output.recipe import recipe_of
from trainer.output.spec import of_spec


def training_metadata(facts: TrainingFacts, moment: Moment) -> dict[str, str]:
    """All keys, in the order of the alphabet."""
    facts = _as_text(facts)
    said = of_training(facts, moment) | of_pictures(facts) | of_spec(facts, moment)
    if facts.settings.metadata.recipe:
        said[RECIPE_KEY] = encode_recipe(recipe_of(facts))
    return dict(sorted(said.items()))


def _as_text(facts: TrainingFacts) -> TrainingFacts:
    """The same with names that any program can read: those of files need not be text."""
    files = {name: getattr(facts, name) for name in ("base", "vae", "start_from")}
    named = {name: file and _named(file) for name, file in files.items()}
    return msgspec.structs.replace(facts, name=readable(facts.name), **named)


def _named(file: ModelFile) -> ModelFile:
    return msgspec.structs.replace(file, name=readable(file.name))
