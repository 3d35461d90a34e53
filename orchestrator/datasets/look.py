"""What caption files hold, against what the journal says. Reads only; blocks.

A file is in line with the journal, behind it (a write that did not happen), or was changed by somebody else,
whose text is then news for the journal. A file that cannot be read as text is never touched.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from contract.errors import CaptionUnreadable, LorakeetError
from orchestrator.datasets.captions import MAX_BYTES, Caption, FileState
from orchestrator.datasets.names import caption_parts, parts_of
from orchestrator.datasets.place import Place
from orchestrator.files.beneath import READ, Folder, Linked

#: `unknown`: the folder or the image is not there, so the file says nothing.
Verdict = Literal["in_line", "behind", "outside", "unreadable", "unknown"]


class Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    mtime_ns: int


class Seen(NamedTuple):
    """A caption and its file. `stamp` is None where there is none, `content` and `sha256` are of one that was
    read; `is_news`: the file is not as it was when the journal last knew it."""

    caption: Caption
    verdict: Verdict
    stamp: Stamp | None = None
    content: str | None = None
    sha256: str | None = None
    error: LorakeetError | None = None
    is_news: bool = False

    def state(self, version: int) -> FileState:
        """How the file is, if it says what `version` of the caption does."""
        return FileState(
            key=self.caption.key,
            version=version,
            sha256=self.sha256,
            size=None if self.stamp is None else self.stamp.size,
            mtime_ns=None if self.stamp is None else self.stamp.mtime_ns,
            problem=None if self.error is None else self.error.to_wire(),
        )


def look(
    place: Place, captions: Iterable[Caption], *, closely: bool, may_be_torn: bool = False
) -> list[Seen]:
    """Look at the files of `captions`: into each (`closely`), or only into those that seem to have changed.

    `may_be_torn`: there may have been a power cut since they were written.
    """
    looker = _Looker(closely, may_be_torn)
    return [seen for folder in _by_folder(captions) for seen in _seen_in(place, folder, looker)]


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)


def digest(content: str | None) -> str | None:
    """Of a file that holds `content`; None for no file."""
    return None if content is None else hashlib.sha256(content.encode()).hexdigest()


class _InFolder(NamedTuple):
    parts: tuple[str, ...]
    captions: list[Caption]


def _by_folder(captions: Iterable[Caption]) -> Iterator[_InFolder]:
    folders: dict[tuple[str, ...], list[Caption]] = {}
    for caption in captions:
        folders.setdefault(tuple(parts_of(caption.path)[:-1]), []).append(caption)
    yield from (_InFolder(parts, some) for parts, some in folders.items())


def _seen_in(place: Place, folder: _InFolder, looker: "_Looker") -> list[Seen]:
    try:
        with place.opened(folder.parts) as opened:
            return [looker.seen(opened, caption) for caption in folder.captions]
    except OSError:
        return [Seen(caption, "unknown") for caption in folder.captions]


class _Looker:
    def __init__(self, closely: bool, may_be_torn: bool) -> None:
        self._closely = closely
        self._may_be_torn = may_be_torn

    def seen(self, folder: Folder, caption: Caption) -> Seen:
        """One caption."""
        name = caption_parts(caption.path, caption.key.kind)[-1]
        try:
            status = folder.stat(name)
        except FileNotFoundError:
            return self._without_file(folder, caption)
        except OSError:
            # Such as a name that is too long with this ending.
            return Seen(caption, "unknown")
        if not self._closely and caption.is_written and _is_same(caption, status):
            verdict: Verdict = "in_line" if caption.problem is None else "unreadable"
            return Seen(caption, verdict, stamp_of(status), sha256=caption.file_sha256, error=caption.problem)
        return self._judged(caption, *_read(folder, name, status))

    def _without_file(self, folder: Folder, caption: Caption) -> Seen:
        if caption.content is None:
            return Seen(caption, "in_line", is_news=not caption.is_written or caption.file_bytes is not None)
        if not folder.has(parts_of(caption.path)[-1]):
            # The disk may be another one, or the image moved away with its caption.
            return Seen(caption, "unknown")
        if not caption.is_written and caption.file_sha256 is None:
            return Seen(caption, "behind")
        return Seen(caption, "outside")

    def _judged(self, caption: Caption, stamp: Stamp, content: str | LorakeetError) -> Seen:
        if isinstance(content, LorakeetError):
            is_news = caption.file_mtime_ns != stamp.mtime_ns or caption.file_bytes != stamp.size
            return Seen(caption, "unreadable", stamp, error=content, is_news=is_news or not caption.problem)
        found = digest(content)
        if found == digest(caption.content):
            is_news = not caption.is_written or not _is_as_recorded(caption, stamp)
            return Seen(caption, "in_line", stamp, content, found, is_news=is_news)
        if not caption.is_written and (found == caption.file_sha256 or self._is_torn(content)):
            return Seen(caption, "behind", stamp, content, found)
        return Seen(caption, "outside", stamp, content, found)

    def _is_torn(self, content: str) -> bool:
        """A file that was renamed, but not yet on the disk, when the power went."""
        return self._may_be_torn and not content.strip("\0")


def _read(folder: Folder, name: str, status: os.stat_result) -> tuple[Stamp, str | LorakeetError]:
    try:
        with open(folder.open(name, READ), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return stamp_of(status), _unreadable(name, "is no file")
            if status.st_size > MAX_BYTES:
                return stamp_of(status), _unreadable(name, f"has more than {MAX_BYTES} bytes")
            return stamp_of(status), file.read().decode("utf-8")
    except Linked:
        return stamp_of(status), _unreadable(name, "is a link, and links are not followed")
    except UnicodeDecodeError:
        return stamp_of(status), _unreadable(name, "is not text in UTF-8", "Convert it to UTF-8")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        return stamp_of(status), _unreadable(name, f"cannot be read: {why}")


def _is_same(caption: Caption, status: os.stat_result) -> bool:
    return (status.st_size, status.st_mtime_ns) == (caption.file_bytes, caption.file_mtime_ns)


def _is_as_recorded(caption: Caption, stamp: Stamp) -> bool:
    is_same = (stamp.size, stamp.mtime_ns) == (caption.file_bytes, caption.file_mtime_ns)
    return is_same and caption.problem is None


def _unreadable(name: str, why: str, what_to_do: str = "Look at it with an editor") -> CaptionUnreadable:
    shown = name.encode("utf-8", "replace").decode()
    return CaptionUnreadable(
        f"The caption {shown} {why}.", where=shown, hint=f"{what_to_do}; nothing of it was changed."
    )
