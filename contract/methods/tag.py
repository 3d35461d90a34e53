"""`tag`, version 2: pictures in; scored tags and assembled captions out."""

from typing import Annotated, Literal

from msgspec import Meta

from contract.base import Reply, Strict
from contract.fields import field, one_of
from contract.methods.job import FailedImage, ImageInputs, JobParams, Outcome
from contract.validation import Contradiction

Category = Literal["general", "character"]


class TaggerModel(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """A tagger: a repository on the hub, or a folder with `model.onnx` and `selected_tags.csv`."""

    repo: (
        Annotated[str, field("Repository", "Repository on the hub, such as `SmilingWolf/wd-vit-tagger-v3`.")]
        | None
    ) = None
    revision: (
        Annotated[str, field("Revision", "Branch, tag or commit of `repo`.", detail="expert")] | None
    ) = None
    path: (
        Annotated[
            str, field("Folder", "Absolute path of a folder with `model.onnx` and `selected_tags.csv`.")
        ]
        | None
    ) = None

    def __post_init__(self) -> None:
        if (self.repo is None) == (self.path is None):
            raise Contradiction(("repo", "give exactly one of `repo` and `path`"))
        if self.path is not None and self.revision is not None:
            raise Contradiction(("revision", "only a `repo` has revisions"))


class TagSettings(Strict, frozen=True, kw_only=True):
    """Everything that a user chooses about tagging."""

    model: Annotated[
        TaggerModel,
        field(
            "Model", "The tagger: a repository on the hub or a local folder.", schema=one_of("repo", "path")
        ),
    ]
    general_threshold: Annotated[
        float, field("General threshold", "Lowest score of a general tag in the caption.", ge=0, le=1)
    ] = 0.35
    character_threshold: Annotated[
        float, field("Character threshold", "Lowest score of a character tag in the caption.", ge=0, le=1)
    ] = 0.85
    ratings: Annotated[
        Literal["none", "first", "last"],
        field("Rating tag", "Where the likeliest rating stands in the caption."),
    ] = "none"
    exclude: Annotated[
        list[str],
        field(
            "Exclude",
            "Tags that never enter a caption; blanks and underscores are alike.",
        ),
    ] = []
    replace: Annotated[
        dict[str, str],
        field("Replace", "Tag → text written in its place, exactly as given; an empty text drops the tag."),
    ] = {}
    always_first: Annotated[
        list[str],
        field("Always first", "Texts that open every caption in this order, such as a trigger word."),
    ] = []
    character_tags_first: Annotated[
        bool, field("Character tags first", "Put character tags before general tags.")
    ] = False
    expand_character_tags: Annotated[
        bool,
        field(
            "Expand character tags", "Write `name_(series)` as two tags, name and series.", detail="advanced"
        ),
    ] = False
    remove_underscores: Annotated[
        bool,
        field(
            "Remove underscores",
            "Write blanks for underscores in tags of more than three characters (`^_^` stays).",
        ),
    ] = True
    escape_brackets: Annotated[
        bool,
        field("Escape brackets", "Write \\( and \\) for ( and ), as prompts need them.", detail="advanced"),
    ] = False
    order: Annotated[
        Literal["confidence", "model"],
        field("Order", "Order of the tags: by falling score, or as in the model's list.", detail="advanced"),
    ] = "confidence"
    separator: Annotated[
        str, field("Separator", "Text between two tags.", detail="advanced", min_length=1)
    ] = ", "
    batch_size: Annotated[
        int,
        field(
            "Batch size",
            "Pictures in one run of the model.",
            unit="pictures",
            detail="advanced",
            ge=1,
            le=256,
        ),
    ] = 8
    score_floor: Annotated[
        float,
        field(
            "Score floor",
            "Lowest score that is reported and kept, so that other thresholds need no model later; "
            "a lower threshold lowers it.",
            detail="expert",
            ge=0,
            le=1,
        ),
    ] = 0.05
    decode: Annotated[
        Literal["fast", "exact"],
        field(
            "Decoding",
            "`fast` decodes a JPEG at the smallest scale of at least twice the model's size, and shrinks "
            "with a quicker filter.",
            detail="expert",
        ),
    ] = "fast"


class TagParams(JobParams, frozen=True, kw_only=True):
    """The request of `tag`."""

    v: Literal[2]
    inputs: Annotated[ImageInputs, Meta(extra_json_schema=one_of("images", "manifest"))]
    settings: TagSettings


class ScoredTag(Reply, kw_only=True):
    """A tag as named in the model's csv; `index` is its row there, so that `order: model` needs no model."""

    name: str
    category: Category
    score: float
    index: int


class TaggedImage(Reply, kw_only=True):
    """One item of `partial`. `index` counts from 0 in the job's inputs; width and height are upright pixels.

    `tags` has every tag from the score floor up, by falling score.
    """

    index: int
    image: str
    width: int
    height: int
    caption: str
    rating: dict[str, float]
    tags: list[ScoredTag]


class TagOutcome(Outcome, kw_only=True):
    """How a tagging job ended.

    `failed` has the first of the `failed_count` failures: at most a thousand, and at most a quarter of the
    longest message; each was also reported by `partial`. `tag_counts` counts captions by tag, by falling
    count, as many as fit into another quarter. `provider` is what the session really ran on.
    `timings`: load_s, decode_s and run_s (summed over threads), wall_s.
    """

    tagged: int
    failed: list[FailedImage] = []
    failed_count: int = 0
    tag_counts: dict[str, int] = {}
    provider: str | None = None
