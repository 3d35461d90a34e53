"""`[metadata]`: what the files of weights say of themselves."""

from typing import Annotated

from contract.base import Strict
from contract.fields import field


class TrainMetadata(Strict, frozen=True, kw_only=True):
    """What the files of weights say of themselves, beside what the training writes. Never paths."""

    title: Annotated[str, field("Title", "Left out: the name of the output.", min_length=1)] | None = None
    author: Annotated[str, field("Author", "Who made it.", min_length=1)] | None = None
    description: Annotated[str, field("Description", "What it is for.", min_length=1)] | None = None
    license: (
        Annotated[str, field("License", "Under which it may be used.", detail="advanced", min_length=1)]
        | None
    ) = None
    usage_hint: (
        Annotated[str, field("Usage", "How it is used best.", detail="advanced", min_length=1)] | None
    ) = None
    trigger_phrase: (
        Annotated[str, field("Trigger words", "What a prompt needs to bring it out.", min_length=1)] | None
    ) = None
    tags: Annotated[
        list[str], field("Tags", "Of the LoRA, for those who look for it.", detail="advanced")
    ] = []
    comment: (
        Annotated[str, field("Comment", "A note on the training.", detail="advanced", min_length=1)] | None
    ) = None
    tag_counts: Annotated[
        bool,
        field(
            "Tags of the pictures",
            "Write how often each tag stands in the captions, as other programs show it.",
            detail="advanced",
        ),
    ] = True
    recipe: Annotated[
        bool,
        field(
            "Recipe",
            "Write the settings and the hashes of what was used, so that the training can be repeated.",
            detail="advanced",
        ),
    ] = True
