"""The pictures of a dataset as a training takes them: with the journal's captions, frozen at its start."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from anyio import to_thread

from contract.errors import FileMissing, LorakeetError, NoImages
from contract.methods.job import ManifestItem
from contract.methods.train import TrainSettings
from contract.rules.paths import to_wire
from orchestrator.datasets import images
from orchestrator.datasets.captions import Caption, Key
from orchestrator.datasets.images import Image
from orchestrator.datasets.manifest import Manifest, freeze, frozen
from orchestrator.datasets.names import ENDINGS, CaptionKind, kept, parts_of
from orchestrator.datasets.place import Place
from orchestrator.datasets.table import Dataset
from orchestrator.jobs.sources import JobSource
from orchestrator.jobs.work import Run
from orchestrator.training.subset_names import subset_of


class Pictures(msgspec.Struct, frozen=True, kw_only=True):
    """The file with the manifest, and the folder that the pictures lie in."""

    manifest: Path
    folder: Path


async def pictures_of(run: Run, source: JobSource, settings: TrainSettings) -> Pictures:
    """Freeze what the dataset has now, or take what an earlier attempt has frozen.

    A job that goes on from a checkpoint has the pictures of the job that made it. Raises NotFound,
    FileMissing, NoImages, what is wrong with a caption that is wanted, DiskFull and StoreDamaged.
    """
    library = run.studio.datasets
    dataset = await library.table.get(source.dataset or "")
    place = await library.place(dataset)
    manifest = await to_thread.run_sync(frozen, run.folder)
    if manifest is None:
        manifest = await _of_checkpoint(run, source) or await _now(run, dataset, place, settings)
    file = await to_thread.run_sync(freeze, run.folder, manifest)
    return Pictures(manifest=file, folder=place.folder)


async def _of_checkpoint(run: Run, source: JobSource) -> Manifest | None:
    if source.checkpoint is None:
        return None
    return await to_thread.run_sync(frozen, run.studio.jobs.folder(source.checkpoint.job))


async def _now(run: Run, dataset: Dataset, place: Place, settings: TrainSettings) -> Manifest:
    """What the dataset has, after a look at its folder."""
    studio = run.studio
    library = studio.datasets
    await library.index.refresh(
        dataset, lambda phase, step, total: run.progress(phase, step, total, unit="files")
    )
    everything = await studio.control.read(lambda db: images.all_images(db, dataset.id))
    there = sorted((each for each in everything if each.removed_ms is None), key=lambda each: each.path)
    captions = await library.captioning.read([each.id for each in there])
    refused = await library.captioning.refused(dataset, captions)
    kinds = _kinds(settings)
    named = {subset.name for subset in settings.subsets}
    items = []
    for image in there:
        subset = subset_of(parts_of(image.path)[:-1], named, place.folder.name)
        if subset is not None:
            text = _caption(image, kinds, captions, refused)
            items.append(_item(place, image, text, subset))
    _require(dataset, items, named)
    return Manifest(items=items)


def _item(place: Place, image: Image, caption: str | None, subset: str) -> ManifestItem:
    """An image that cannot be decoded is among them: what becomes of it, the settings say."""
    path = to_wire(str(place.path(image.path)))
    return ManifestItem(path=path, sha256=image.sha256, caption=caption, subset=kept(subset))


def _kinds(settings: TrainSettings) -> list[CaptionKind]:
    """The kinds of captions, that first which is taken first."""
    by_ending = {ending: kind for kind, ending in ENDINGS.items()}
    return [by_ending[each] for each in settings.data.captions.files if each in by_ending]


def _caption(
    image: Image,
    kinds: Sequence[CaptionKind],
    captions: Mapping[Key, Caption],
    refused: Mapping[Key, LorakeetError],
) -> str | None:
    """Raises what is wrong with the caption."""
    for kind in kinds:
        key = Key(image.id, kind)
        if key in refused:
            raise refused[key]
        if (text := captions[key].text) is not None:
            return text
    return None


def _require(dataset: Dataset, items: Sequence[ManifestItem], named: set[str]) -> None:
    if not items:
        raise NoImages(f"The dataset {dataset.name} has no pictures.", where=dataset.id)
    if unknown := named - {item.subset for item in items}:
        raise FileMissing(
            f"The dataset {dataset.name} has no pictures in a folder `{min(unknown)}`.",
            where="$.settings.subsets",
            hint="A subset is named by its path from the dataset's folder on.",
        )
