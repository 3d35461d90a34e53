"""What the metadata of a file says of its training. Whatever it says, it is only read, and may be nonsense.

Keys as kohya-ss writes them; every value is a text, some of them JSON.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from kernel.engines.inspection.bounds import ALL_CHARS, LISTED, NAME_CHARS, TEXT_CHARS, cut

PREFIX: Final = "ss_"
SPEC: Final = "modelspec."
_TAG_FREQUENCY: Final = "ss_tag_frequency"
_DATASETS: Final = "ss_datasets"
_DATASET_DIRS: Final = "ss_dataset_dirs"
_TRIGGER: Final = f"{SPEC}trigger_phrase"
_OUTPUT_NAME: Final = "ss_output_name"
#: A tag that has at least this part of the images is one that the LoRA listens to.
_NEARLY_EVERY: Final = 0.95
#: A few images say nothing about what is in every one of them.
_MIN_IMAGES: Final = 4
_TRIGGERS: Final = 20
#: Characters of JSON beyond which a decoded value is cut to a text: data sets list every bucket and tag.
_JSON_CHARS: Final = 1 << 16


class Trigger(NamedTuple):
    """A word to write into a prompt, and where it is from."""

    word: str
    source: str


class Tags(NamedTuple):
    """Tags and how often each was trained, the commonest first; `images` is how many there were, None where
    the file does not say."""

    counts: Counter[str]
    images: int | None


def decoded(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The `ss_*` values: texts, and what they are in JSON where they begin like an object or a list."""
    kept: dict[str, Any] = {}
    left = ALL_CHARS
    for key, text in metadata.items():
        if key.startswith(PREFIX) and len(kept) < LISTED:
            left -= min(len(text), _JSON_CHARS)
            kept[cut(key, NAME_CHARS)] = _value(text) if left > 0 else cut(text, NAME_CHARS)
    return kept


def damaged(metadata: Mapping[str, str]) -> list[str]:
    """Keys of values that begin like JSON and are none."""
    return [
        key
        for key, text in metadata.items()
        if key.startswith(PREFIX) and text[:1] in ("{", "[") and _json(text) is None
    ]


def _value(text: str) -> Any:
    if text[:1] not in ("{", "[") or len(text) > _JSON_CHARS:
        return cut(text, TEXT_CHARS)
    value = _json(text)
    return cut(text, TEXT_CHARS) if value is None else value


def _json(text: str) -> Any:
    """None where it is none."""
    try:
        return msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def tags(metadata: Mapping[str, str]) -> Tags:
    """How often each tag was trained, over all folders; of a file that has several data sets, all of them."""
    found: Counter[str] = Counter()
    for folders in _frequencies(metadata):
        for each in folders.values():
            if isinstance(each, dict):
                _add(found, each)
    return Tags(found, _images(metadata))


def _frequencies(metadata: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if isinstance(stated := _json(metadata.get(_TAG_FREQUENCY, "")), dict):
        yield stated
        return
    datasets = _json(metadata.get(_DATASETS, ""))
    for dataset in datasets if isinstance(datasets, list) else []:
        if isinstance(dataset, dict) and isinstance(stated := dataset.get("tag_frequency"), dict):
            yield stated


def _add(found: Counter[str], folder: Mapping[str, Any]) -> None:
    for tag, count in folder.items():
        if _is_count(count):
            # Tags are written as they stood between commas.
            found[tag.strip()] += count


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 53


def _images(metadata: Mapping[str, str]) -> int | None:
    """How many images there were, without their repeats, by which tags are counted."""
    folders = _json(metadata.get(_DATASET_DIRS, ""))
    if isinstance(folders, dict):
        counted = [each.get("img_count") for each in folders.values() if isinstance(each, dict)]
        if (images := _sum(counted)) is not None:
            return images
    return _images_of_datasets(metadata)


def _images_of_datasets(metadata: Mapping[str, str]) -> int | None:
    datasets = _json(metadata.get(_DATASETS, ""))
    if not isinstance(datasets, list):
        return None
    counted = [
        subset.get("img_count")
        for dataset in datasets
        if isinstance(dataset, dict) and isinstance(dataset.get("subsets"), list)
        for subset in dataset["subsets"]
        if isinstance(subset, dict)
    ]
    return _sum(counted)


def _sum(counted: list[Any]) -> int | None:
    """None where some of them are no counts."""
    return sum(counted) if counted and all(map(_is_count, counted)) else None


def triggers(metadata: Mapping[str, str], found: Tags) -> list[Trigger]:
    """Words that this LoRA listens to, with where each is from; the surest first."""
    words: dict[str, str] = {}
    if phrase := metadata.get(_TRIGGER, "").strip():
        words[cut(phrase, NAME_CHARS)] = "modelspec.trigger_phrase"
    for tag, share in _in_nearly_every(found):
        words.setdefault(tag, f"in {share:.0%} of the images")
    for word in _of_folders(metadata):
        words.setdefault(word, "name of the image folder")
    if not words and (name := metadata.get(_OUTPUT_NAME, "").strip()) not in ("", "None"):
        words[cut(name, NAME_CHARS)] = "ss_output_name, perhaps"
    return [Trigger(word, source) for word, source in list(words.items())[:_TRIGGERS]]


def _in_nearly_every(found: Tags) -> Iterator[tuple[str, float]]:
    images = found.images
    if images is None or images < _MIN_IMAGES:
        return
    for tag, count in found.counts.most_common(_TRIGGERS):
        # More than every image: counted in another way than the images were.
        if tag and _NEARLY_EVERY * images <= count <= images:
            yield cut(tag, NAME_CHARS), count / images


def _of_folders(metadata: Mapping[str, str]) -> Iterator[str]:
    """Folders are called `10_ohwx woman`: repeats, then the caption of images that have no other."""
    folders = _json(metadata.get(_DATASET_DIRS, ""))
    for folder in folders if isinstance(folders, dict) else ():
        repeats, underscore, words = str(folder).rpartition("/")[2].partition("_")
        if underscore and repeats.isdecimal() and words.strip():
            yield cut(words.strip(), NAME_CHARS)
