"""What it was trained on, in the keys of the reference trainer (kohya-ss/sd-scripts, `train_network.py`).

It writes either what a file of datasets says, as one list, or a key for each option. Here are both: programs
look for one or the other. Folders are called by their last name.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.data.subset import Subset
from trainer.output.facts import TrainingFacts
from trainer.output.readable import readable
from trainer.output.tags import tag_counts


def of_pictures(facts: TrainingFacts) -> dict[str, str]:
    """The keys, each beginning with `ss_`. An option that subsets have in different ways is said of the run
    as it is of any of them; `ss_datasets` has each."""
    names = folder_names(facts.subsets)
    counts = dict(zip(names, tag_counts(facts), strict=True)) if facts.settings.metadata.tag_counts else None
    said = {
        **_of_all(facts),
        **_of_options(facts),
        "dataset_dirs": _json(_folders(facts, names)),
        "reg_dataset_dirs": _json({}),
        "bucket_info": _json(_buckets(facts)),
        "datasets": _json([_dataset(facts, names, counts)]),
    }
    if counts is not None:
        said["tag_frequency"] = _json(counts)
    return {f"ss_{key}": str(value) for key, value in said.items()}


def folder_names(subsets: Sequence[Subset]) -> list[str]:
    """The last name of each folder, with a number where another has it already."""
    names: list[str] = []
    for subset in subsets:
        name = last = subset_name(subset).rpartition("/")[2]
        count = 1
        while name in names:
            count += 1
            name = f"{last}_{count}"
        names.append(name)
    return names


def subset_name(subset: Subset) -> str:
    """What it is called, as text; by its folder where nobody has called it anything."""
    folder = subset.folder.rstrip("/\\").replace("\\", "/")
    name = subset.name or folder.rpartition("/")[2]
    return readable(name)


def _of_all(facts: TrainingFacts) -> dict[str, object]:
    training = facts.settings.training
    return {
        "num_train_images": facts.plan.samples,
        "num_batches_per_epoch": facts.plan.batches,
        "batch_size_per_device": training.batch_size,
        "total_batch_size": training.batch_size * training.accumulation,
        "resolution": (facts.size, facts.size),
    }


def _of_options(facts: TrainingFacts) -> dict[str, object]:
    subsets, buckets = facts.subsets, facts.settings.data.buckets
    shortest, longest = _sides(facts)
    return {
        "color_aug": False,
        "flip_aug": any(each.flip for each in subsets),
        "random_crop": any(each.random_crop for each in subsets),
        "shuffle_caption": any(each.captions.shuffle for each in subsets),
        "keep_tokens": max(each.captions.keep_tokens for each in subsets),
        "enable_bucket": buckets.enabled,
        "bucket_no_upscale": not buckets.upscale,
        "min_bucket_reso": shortest,
        "max_bucket_reso": longest,
    }


def _sides(facts: TrainingFacts) -> tuple[int, int] | tuple[None, None]:
    """The shortest and the longest of buckets; nothing where there are no buckets."""
    buckets = facts.settings.data.buckets
    return (buckets.min_side, buckets.max_side) if buckets.enabled else (None, None)


def _folders(facts: TrainingFacts, names: Sequence[str]) -> dict[str, Any]:
    counts = Counter(picture.subset for picture in facts.pictures)
    return {
        name: {"n_repeats": subset.repeats, "img_count": counts[number]}
        for number, (name, subset) in enumerate(zip(names, facts.subsets, strict=True))
    }


def _buckets(facts: TrainingFacts) -> dict[str, Any] | None:
    """The buckets with the pictures in them, repeats and all."""
    if not facts.settings.data.buckets.enabled:
        return None
    return {
        "buckets": {
            str(number): {"resolution": [row.width, row.height], "count": row.samples}
            for number, row in enumerate(facts.plan.buckets)
        },
        "mean_img_ar_error": facts.plan.aspect_error,
    }


def _dataset(
    facts: TrainingFacts, names: Sequence[str], counts: Mapping[str, Mapping[str, int]] | None
) -> dict[str, Any]:
    pictures = Counter(picture.subset for picture in facts.pictures)
    shortest, longest = _sides(facts)
    return {
        "is_dreambooth": True,
        "batch_size_per_device": facts.settings.training.batch_size,
        "num_train_images": facts.plan.samples,
        "num_reg_images": 0,
        "resolution": [facts.size, facts.size],
        "enable_bucket": facts.settings.data.buckets.enabled,
        "min_bucket_reso": shortest,
        "max_bucket_reso": longest,
        **({} if counts is None else {"tag_frequency": counts}),
        "bucket_info": _buckets(facts),
        "resize_interpolation": None,
        "subsets": [
            _subset(subset, names[number], pictures[number]) for number, subset in enumerate(facts.subsets)
        ],
    }


def _subset(subset: Subset, name: str, count: int) -> dict[str, Any]:
    captions = subset.captions
    return {
        "img_count": count,
        "num_repeats": subset.repeats,
        "color_aug": False,
        "flip_aug": subset.flip,
        "random_crop": subset.random_crop,
        "shuffle_caption": captions.shuffle,
        "keep_tokens": captions.keep_tokens,
        "keep_tokens_separator": captions.keep_separator,
        "secondary_separator": None,
        "enable_wildcard": False,
        "caption_prefix": captions.prefix or None,
        "caption_suffix": captions.suffix or None,
        "resize_interpolation": None,
        "image_dir": name,
        "class_tokens": subset.class_tokens,
        "is_reg": False,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
