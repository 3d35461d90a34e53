"""Models from the hub, through its own library and its own cache: what is cached needs no network."""

import os
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache
from tqdm.auto import tqdm

from contract.errors import DownloadFailed, LorakeetError, ModelIncomplete, ModelNotFound
from kernel.trace import report


class Snapshot(NamedTuple):
    """Files of one commit. `folder` holds links into `root`, the repository's own folder in the cache."""

    folder: str
    root: str


class Stopped(Exception):
    """Raised when the download was no longer wanted."""


#: The service whose key opens private and gated repositories.
SERVICE: Final = "huggingface"

#: Called with bytes done and bytes in all (0 while unknown); raises Stopped to end the download.
Progress = Callable[[int, int], None]


def fetch(
    repo: str, names: list[str], revision: str | None, progress: Progress, token: str | None = None
) -> Snapshot:
    """The files `names` of `repo`, all of the same commit.

    Without a `token`, the hub's library looks for one itself: `HF_TOKEN`, or a login on this machine.
    Raises ModelNotFound, ModelIncomplete, DownloadFailed, and Stopped where `progress` did.
    """
    paths = _cached(repo, names, revision) or _downloaded(repo, names, revision, progress, token)
    folder = os.path.dirname(paths[0])
    return Snapshot(folder, os.path.realpath(os.path.join(folder, os.pardir, os.pardir)))


def _cached(repo: str, names: list[str], revision: str | None) -> list[str] | None:
    try:
        found = [try_to_load_from_cache(repo, name, revision=revision) for name in names]
    except errors.HFValidationError as error:
        raise ModelNotFound(f"`{repo}` is not the name of a repository.", where=repo) from error
    paths = [path for path in found if isinstance(path, str)]
    return paths if len(paths) == len(names) else None


def _downloaded(
    repo: str, names: list[str], revision: str | None, progress: Progress, token: str | None
) -> list[str]:
    bar = _bar(progress)
    try:
        paths = []
        for name in names:
            paths.append(hf_hub_download(repo, name, revision=revision, tqdm_class=bar, token=token))
            # The first file settles the commit: a push in between must not mix two versions.
            revision = os.path.basename(os.path.dirname(paths[0]))
        return paths
    except Stopped:
        raise
    except Exception as error:
        raise _explained(error, repo, revision) from error


def _explained(error: Exception, repo: str, revision: str | None) -> LorakeetError:
    match error:
        case errors.GatedRepoError():
            return ModelNotFound(
                f"`{repo}` is gated.",
                where=repo,
                hint="Accept its terms on the hub, then give its key in the settings, or `hf auth login`.",
            )
        case errors.RepositoryNotFoundError():
            return ModelNotFound(f"The hub has no repository `{repo}`, or it is private.", where=repo)
        case errors.RevisionNotFoundError():
            return ModelNotFound(f"`{repo}` has no revision `{revision}`.", where=repo)
        case errors.LocalEntryNotFoundError():
            return DownloadFailed(
                f"`{repo}` is not in the cache and the hub cannot be reached.",
                where=repo,
                hint="Connect to the network once, or give a local folder.",
            )
        case errors.EntryNotFoundError():
            return ModelIncomplete(f"`{repo}` is not a tagger of this kind: a file is missing.", where=repo)
        case _:
            return DownloadFailed(f"`{repo}` could not be fetched (trace {report(error)}).", where=repo)


def _bar(progress: Progress) -> Any:
    """The hub reports through a tqdm class; this one draws nothing and passes the figures on."""

    class Bar(tqdm):  # type: ignore[misc]  # tqdm ships no types
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **{**options, "disable": True})
            self.done, self.whole = int(options.get("initial") or 0), int(options.get("total") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self.done += int(n or 0)
            progress(self.done, self.whole)
            return None

    return Bar
