"""The job `import`: what lies in a dataset's folder becomes known, its captions included."""

from contract.base import Strict
from orchestrator.datasets.index import Indexed
from orchestrator.datasets.journal import Action, Edit
from orchestrator.ids import derived_id
from orchestrator.jobs.work import Run


class ImportSettings(Strict, frozen=True, kw_only=True):
    """There is nothing to choose about an import."""


class ImportWork:
    """One import. A later attempt begins anew, and finds what is known already."""

    async def run(self, run: Run) -> Indexed:
        """Look at the whole folder. Raises FileMissing, FileUnreadable, NotFound, DiskFull."""
        library = run.studio.datasets
        dataset = await library.table.get(run.job.dataset_id or "")

        def edit_for(action: Action) -> Edit:
            number = ("import", "outside").index(action) + 1
            id = derived_id("edit", run.job.id.partition("_")[2], number)
            return Edit(id=id, dataset_id=dataset.id, action=action, author="outside", job_id=run.job.id)

        def progress(phase: str, step: int, total: int) -> None:
            run.progress(phase, step, total, unit="files")

        indexed = await library.index.refresh(dataset, progress, edit_for)
        said = {"id": dataset.id, "added": indexed.added, "removed": indexed.removed}
        run.studio.events.publish(("datasets", f"dataset:{dataset.id}"), "dataset.images_changed", said)
        return indexed
