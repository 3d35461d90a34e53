"""The recipe of a run, from what is known of it."""

import msgspec

from contract.methods.training.recipe import (
    FileField,
    TrainRecipe,
    UsedFile,
    UsedPicture,
    UsedPictures,
    caption_digest,
    used_pictures,
    without_places,
)
from trainer.output.facts import ModelFile, TrainingFacts
from trainer.output.pictures import subset_name
from trainer.output.prompt_lines import without_file


def recipe_of(facts: TrainingFacts) -> TrainRecipe:
    """The same for every file of a run, and for every run with the same settings, files and pictures."""
    files: dict[FileField, ModelFile | None] = {
        "model.base": facts.base,
        "model.vae": facts.vae,
        "network.start_from": facts.start_from,
    }
    used = {field: _used(file) for field, file in files.items() if file is not None}
    sampling = without_file(facts.settings.sampling, facts.prompts)
    settings = msgspec.structs.replace(facts.settings, sampling=sampling)
    return TrainRecipe(
        name=facts.name,
        settings=without_places(settings, used),
        base=used["model.base"],
        vae=used.get("model.vae"),
        start_from=used.get("network.start_from"),
        pictures=_pictures(facts),
        steps=facts.steps,
        epochs=facts.epochs,
        compute=facts.compute,
        device=facts.device,
        versions=facts.versions,
        continued=facts.continued,
    )


def _used(file: ModelFile) -> UsedFile:
    return UsedFile(name=file.name, sha256=file.sha256, is_folder=file.is_folder)


def _pictures(facts: TrainingFacts) -> UsedPictures:
    return used_pictures(
        [subset_name(each) for each in facts.subsets],
        (
            UsedPicture(each.sha256, each.subset, each.repeats, caption_digest(each.caption))
            for each in facts.pictures
        ),
    )
