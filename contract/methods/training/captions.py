"""`[data.captions]`: where the texts of the pictures are found, and what becomes of them in each epoch."""

from typing import Annotated, Literal

from contract.base import Strict
from contract.fields import field
from contract.validation import Contradiction

#: Tokens beside the beginning and the end of each chunk of 75.
MaxTokens = Literal[75, 150, 225]


class Captions(Strict, frozen=True, kw_only=True):
    """Where the texts of the pictures are found, and what becomes of them in each epoch.

    In this order: shuffle, tag dropout, prefix and suffix, caption dropout. The first `keep_tokens` tags, or
    all before `keep_separator` where a caption has it, keep their place and are never dropped, and so
    do those behind a second one.
    """

    files: Annotated[
        tuple[str, ...],
        field(
            "Caption files",
            "Endings of the files beside the pictures, or names of files with a line for each picture; the "
            "first that is there counts.",
            detail="advanced",
            min_length=1,
        ),
    ] = (".txt", ".caption", "metadata.jsonl")
    missing: Annotated[
        Literal["refuse", "empty", "skip"],
        field(
            "Without a caption",
            "What becomes of a picture that has neither a caption nor class tokens: refuse the job, train it "
            "with an empty caption, or leave it out.",
        ),
    ] = "refuse"
    separator: Annotated[
        str, field("Separator", "What stands between two tags.", detail="advanced", min_length=1)
    ] = ","
    shuffle: Annotated[
        bool,
        field(
            "Shuffle tags",
            "Another order of the tags each time. Good for tags, wrong for sentences.",
        ),
    ] = False
    keep_tokens: Annotated[
        int,
        field(
            "Keep first tags",
            "So many tags at the beginning, such as a trigger word, are neither moved nor dropped.",
            unit="tags",
            ge=0,
            le=1000,
        ),
    ] = 0
    keep_separator: Annotated[
        str,
        field(
            "Keep separator",
            "Where a caption has this text, the tags before it are kept instead; it is taken out itself. "
            "Empty: there is none.",
            detail="expert",
        ),
    ] = "|||"
    tag_dropout: Annotated[
        float,
        field("Tag dropout", "Chance of each tag to be left out in an epoch.", detail="advanced", ge=0, le=1),
    ] = 0.0
    caption_dropout: Annotated[
        float,
        field(
            "Caption dropout",
            "Chance of a picture to be trained with an empty caption in an epoch.",
            detail="advanced",
            ge=0,
            le=1,
        ),
    ] = 0.0
    prefix: Annotated[str, field("Prefix", "Text before every caption, such as a trigger word and `, `.")] = (
        ""
    )
    suffix: Annotated[str, field("Suffix", "Text after every caption.", detail="advanced")] = ""
    max_tokens: Annotated[
        MaxTokens,
        field(
            "Longest caption",
            "What is longer is cut. Each 75 more cost a little speed and memory.",
            unit="tokens",
            detail="advanced",
        ),
    ] = 225

    def __post_init__(self) -> None:
        wrong = [each for each in self.files if not each.strip(".") or "/" in each or "\\" in each]
        problems = [("files", f"`{each}` is neither an ending nor a name") for each in wrong]
        if self.keep_separator and self.keep_separator == self.separator:
            problems.append(("keep_separator", "is the same as `separator`"))
        if problems:
            raise Contradiction(*problems)

    @property
    def vary(self) -> bool:
        """Whether a picture has other texts in other epochs, an empty one apart."""
        return self.shuffle or self.tag_dropout > 0
