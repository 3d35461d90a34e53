"""`tag`, version 1: the flat payload that the first hosts sent."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.methods.job import Attempt, ImageInputs, JobId
from contract.methods.tag import TaggerModel, TagParams, TagSettings
from contract.rules.taggers import model_reference
from contract.validation import Contradiction

Share = Annotated[float, Meta(ge=0, le=1)]


class TagParamsV1(msgspec.Struct, frozen=True, kw_only=True):
    """Flat, lenient towards unknown fields as its hosts were, with the defaults of its time.

    `model` is a short name (`wd14-vit-v2`), a repository, or the absolute path of a folder.
    """

    job_id: JobId
    images: Annotated[list[str], Meta(min_length=1)]
    v: Any = 1
    attempt: Attempt = 1
    model: str = "wd14-vit-v2"
    general_threshold: Share = 0.35
    character_threshold: Share = 0.35
    blacklist_tags: str = ""
    remove_underscore: bool = True
    batch_size: Annotated[int, Meta(ge=1, le=256)] = 4


def upgrade_1_to_2(old: TagParamsV1) -> TagParams:
    """The same job as version 2, with version 1's defaults. Raises Contradiction for an unknown name."""
    try:
        model = TaggerModel(**model_reference(old.model))
    except ValueError as error:
        raise Contradiction(("model", str(error))) from None
    return TagParams(
        job_id=old.job_id,
        v=2,
        attempt=old.attempt,
        inputs=ImageInputs(images=old.images),
        settings=TagSettings(
            model=model,
            general_threshold=old.general_threshold,
            character_threshold=old.character_threshold,
            exclude=[tag for each in old.blacklist_tags.split(",") if (tag := each.strip())],
            remove_underscores=old.remove_underscore,
            batch_size=old.batch_size,
        ),
    )
