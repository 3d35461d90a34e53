"""Users, jobs, an editor, full disks and restarts, in any order: no text is lost without a trace, and in the
end the files say what the journal does."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio.from_thread
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contract.rules.captions import Existing, combine
from orchestrator.datasets.captioning import Scene
from orchestrator.datasets.captions import Caption, captions_of, content_of
from orchestrator.datasets.images import Image, put
from orchestrator.datasets.journal import Change, Edit, apply
from orchestrator.datasets.names import stem_of
from orchestrator.files.beneath import CREATE, Folder
from orchestrator.ids import new_id
from tests.orchestrator.datasets.shelf import Shelf, open_shelf

NAMES = ("a.png", "b.png")
names = st.sampled_from(NAMES)
#: Few, so that texts come again, and of one length, so that a file does not give itself away by its size.
texts = st.sampled_from(("one", "two", "six", "ten"))
contents = st.sampled_from((b"one\n", b"two", b"six\r\n", b"ten\n", b"", b"\xef\xbb\xbfone"))


class Captions(RuleBasedStateMachine):
    """Everything that can happen to two captions."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._home = Path(self._stack.enter_context(TemporaryDirectory()))
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        self._opened: AbstractContextManager[Shelf] | None = None
        self._is_full = False

    def teardown(self) -> None:
        if self._opened is not None:
            self._is_full = False
            self.everything_settles()
        self._close()
        self._stack.close()

    @initialize()
    def begin(self) -> None:
        """Two images that nobody decodes."""
        self._open()
        for name in NAMES:
            (self._shelf.folder / name).write_bytes(b"a picture")
        images = [_image(self._shelf.dataset.id, name) for name in NAMES]
        self._do(lambda: self._shelf.studio.control.write(lambda db: put(db, images)))
        self._ids = {each.path: each.id for each in images}

    @rule(name=names, text=texts)
    def user_writes(self, name: str, text: str) -> None:
        """Whatever is there."""
        self._keeping(lambda: self._shelf.put(name, text))

    @rule(name=names)
    def user_removes(self, name: str) -> None:
        """Whatever is there."""
        self._keeping(lambda: self._shelf.put(name, None))

    @rule(
        chosen=st.sets(names, min_size=1),
        text=texts,
        existing=st.sampled_from(("skip", "append", "overwrite")),
    )
    def job_tags(self, chosen: set[str], text: str, existing: Existing) -> None:
        """As a batch of a tagging job."""
        ids = [self._ids[name] for name in sorted(chosen)]
        edit = Edit(id=new_id("edit"), dataset_id=self._shelf.dataset.id, action="tagging", author="job")

        def transact(db: Any, scene: Scene) -> list[Caption]:
            now = captions_of(db, ids, ["tags"])
            combined = {key: combine(each.text, text, existing, ", ") for key, each in now.items()}
            return apply(db, edit, [Change(key, content_of(new)) for key, new in combined.items() if new])

        captioning = self._shelf.studio.datasets.captioning
        self._keeping(lambda: captioning.change(self._shelf.dataset, ids, ["tags"], transact))

    @rule(place=st.integers(0, 5))
    def user_undoes(self, place: int) -> None:
        """One of the last edits."""
        history = self._do(self._shelf.edits)
        if place < len(history):
            self._keeping(lambda: self._shelf.revert(history[place]))

    @rule(name=names, content=contents)
    def editor_writes(self, name: str, content: bytes) -> None:
        """In place, as simple editors do."""
        self._file(name).write_bytes(content)

    @rule(name=names, content=contents)
    def editor_replaces(self, name: str, content: bytes) -> None:
        """By renaming, as careful ones do."""
        beside = self._file(name).with_suffix(".new")
        beside.write_bytes(content)
        beside.replace(self._file(name))

    @rule(name=names)
    def editor_removes(self, name: str) -> None:
        """The file is gone."""
        self._file(name).unlink(missing_ok=True)

    @rule()
    def somebody_looks(self) -> None:
        """As a list does."""
        captioning = self._shelf.studio.datasets.captioning
        self._keeping(lambda: captioning.refresh(self._shelf.dataset, list(self._ids.values())))

    @rule()
    def disk_fills(self) -> None:
        """No caption file can be written."""
        self._is_full = True

    @rule()
    def disk_is_freed(self) -> None:
        """They can again."""
        self._is_full = False

    @rule()
    def studio_restarts(self) -> None:
        """In order; files that wait are written."""
        self._close()
        self._open()
        self._keeping(lambda: self._shelf.studio.datasets.settle(everything=True))

    @precondition(lambda self: not self._is_full)
    @rule()
    def everything_settles(self) -> None:
        """Then files and journal agree."""
        self._keeping(self._settle)
        for name in NAMES:
            caption = self._do(lambda name=name: self._shelf.caption(name))  # type: ignore[misc]
            file = self._file(name)
            content = None if caption.content is None else caption.content.encode()
            assert content == (file.read_bytes() if file.exists() else None)
            assert caption.is_written

    async def _settle(self) -> None:
        captioning = self._shelf.studio.datasets.captioning
        await captioning.refresh(self._shelf.dataset, list(self._ids.values()), closely=True)

    def _keeping(self, action: Callable[[], Any]) -> None:
        """Do something; what was in a file before and is not after has to be in the journal."""
        before = {name: self._content(name) for name in NAMES}
        with pytest.MonkeyPatch.context() as patched:
            if self._is_full:
                _fill(patched)
            self._do(action)
        for name, content in before.items():
            if content is not None and content != self._content(name):
                assert content.decode() in self._told(name), (name, content)

    def _told(self, name: str) -> set[str | None]:
        """Every content of a caption that the journal knows."""
        query = "SELECT before, after FROM journal WHERE image_id = ?"
        control, id = self._shelf.studio.control, self._ids[name]
        rows = self._do(lambda: control.read(lambda db: db.execute(query, (id,)).fetchall()))
        return {text for row in rows for text in row}

    def _content(self, name: str) -> bytes | None:
        file = self._file(name)
        return file.read_bytes() if file.exists() else None

    def _file(self, name: str) -> Path:
        return (self._shelf.folder / name).with_suffix(".txt")

    def _do(self, action: Callable[[], Any]) -> Any:
        return self._portal.call(action)

    def _open(self) -> None:
        self._opened = self._portal.wrap_async_context_manager(open_shelf(self._home))
        self._shelf = self._opened.__enter__()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.__exit__(None, None, None)
            self._opened = None


def _fill(patched: pytest.MonkeyPatch) -> None:
    import errno

    real = Folder.open

    def refuse(self: Folder, name: str, flags: int, mode: int = 0o666) -> int:
        if flags == CREATE:
            raise OSError(errno.ENOSPC, "no space")
        return real(self, name, flags, mode)

    patched.setattr(Folder, "open", refuse)


def _image(dataset_id: str, path: str) -> Image:
    return Image(
        id=new_id("img"),
        dataset_id=dataset_id,
        path=path,
        stem=stem_of(path),
        size_bytes=9,
        mtime_ns=1,
        sha256=None,
        width=None,
        height=None,
        format=None,
        problem=None,
        added_ms=1,
        removed_ms=None,
    )


_SHORT = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
_LONG = settings(_SHORT, max_examples=300, stateful_step_count=40)


def test_no_text_is_lost_without_a_trace() -> None:
    run_state_machine_as_test(Captions, settings=_SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_text_is_lost_without_a_trace_in_many_ways() -> None:
    run_state_machine_as_test(Captions, settings=_LONG)
