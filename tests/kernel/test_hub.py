"""Models from the hub: through its real library, from a hub that this test plays on this machine."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.builders.demo_tagger import FILES, FOLDER
from tests.builders.pictures import ZOO, write
from tests.kernel_process import KernelProcess

Message = dict[str, Any]
REPO = "someone/a-tagger"
COMMIT, OLD_COMMIT = "a" * 40, "b" * 40


class Hub(ThreadingHTTPServer):
    """A hub with one repository. `files` are by commit and name, `revisions` name commits.

    `before_get` runs before a file is sent, `refuse` answers every request with (status, code) instead.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        current = {name: (FOLDER / name).read_bytes() for name in FILES}
        self.files = {COMMIT: current}
        self.revisions = {"main": COMMIT}
        self.before_get: Callable[[str], object] = lambda name: None
        self.refuse: tuple[int, str] | None = None
        self.gets: list[str] = []
        #: The `Authorization` of every request that came.
        self.authorizations: list[str | None] = []
        #: Set to let a slow download go on.
        self.go_on = threading.Event()
        self.slow = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        hub = self.server
        hub.authorizations.append(self.headers.get("Authorization"))
        owner, name, _, revision, file = (self.path.split("?")[0].strip("/").split("/", 4) + [""] * 5)[:5]
        if hub.refuse is not None:
            return self._refuse(*hub.refuse)
        if f"{owner}/{name}" != REPO:
            return self._refuse(404, "RepoNotFound")
        commit = hub.revisions.get(revision, revision)
        if commit not in hub.files:
            return self._refuse(404, "RevisionNotFound")
        if (content := hub.files[commit].get(file)) is None:
            return self._refuse(404, "EntryNotFound", commit)
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            hub.gets.append(file)
            hub.before_get(file)
            self._send(content)

    def _send(self, content: bytes) -> None:
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if self.server.slow:
            self.server.go_on.wait(30)
        self.wfile.write(content[half:])

    def _refuse(self, status: int, code: str, commit: str = COMMIT) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", "secret words of the server")
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def hub_and_kernel(
    tmp_path: Path, *, keys: Mapping[str, str] | None = None, **env: str
) -> Iterator[tuple[Hub, KernelProcess]]:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        with kernel_for(f"http://127.0.0.1:{hub.server_port}", tmp_path, keys=keys, **env) as kernel:
            yield hub, kernel
    finally:
        hub.go_on.set()
        hub.shutdown()
        hub.server_close()


@contextmanager
def kernel_for(
    endpoint: str, tmp_path: Path, *, keys: Mapping[str, str] | None = None, **env: str
) -> Iterator[KernelProcess]:
    settings = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "5",
        "HF_TOKEN": "",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    (tmp_path / "pictures").mkdir(exist_ok=True)
    with KernelProcess(settings | env) as kernel:
        kernel.initialize(roots=[tmp_path / "pictures"], keys=keys)
        yield kernel


def tag(tmp_path: Path, job_id: str = "a", repo: str = REPO, **model: str) -> Message:
    (image,) = write(tmp_path / "pictures", ZOO[:1])
    return {
        "job_id": job_id,
        "v": 2,
        "inputs": {"images": [str(image)]},
        "settings": {"model": {"repo": repo, **model}},
    }


def phases(kernel: KernelProcess) -> list[str]:
    progress = [each["params"] for each in kernel.notifications if each["method"] == "progress"]
    return list(dict.fromkeys(each["phase"] for each in progress))


def snapshots(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub" / f"models--{REPO.replace('/', '--')}" / "snapshots"


def test_a_model_is_fetched_once_and_then_works_without_a_network(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        result = kernel.request("tag", tag(tmp_path), timeout=40)["result"]
        assert result["tagged"] == 1
        assert "download" in phases(kernel) and phases(kernel)[-1] == "tag"
        downloads = [
            each["params"]
            for each in kernel.notifications
            if each["method"] == "progress" and each["params"]["phase"] == "download"
        ]
        sizes = {(FOLDER / name).stat().st_size for name in FILES}
        assert {each["unit"] for each in downloads} == {"bytes"}
        assert {each["message"] for each in downloads} == {REPO}
        assert {each["total"] for each in downloads if each["step"] == each["total"]} <= sizes
        assert sorted(hub.gets) == sorted(FILES)
        assert kernel.request("status")["result"]["state"]["loaded"] == [f"tagger:{REPO}"]
        assert kernel.stray == []
        # The cache holds links from the snapshot to blobs beside it; the check of external data lets them.
        assert (snapshots(tmp_path) / COMMIT / "model.onnx").is_symlink()

    with kernel_for("http://127.0.0.1:9", tmp_path) as kernel:
        again = kernel.request("tag", tag(tmp_path), timeout=40)["result"]
        assert again["tag_counts"] == result["tag_counts"]
        assert phases(kernel) == ["load", "tag"]


def test_both_files_come_from_one_commit_though_somebody_pushes_in_between(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.files[OLD_COMMIT] = dict(hub.files[COMMIT])
        hub.revisions["main"] = OLD_COMMIT

        def push(name: str) -> None:
            hub.revisions["main"] = COMMIT

        hub.files[COMMIT] = {name: b"new" for name in FILES}
        hub.before_get = push
        assert kernel.request("tag", tag(tmp_path), timeout=40)["result"]["tagged"] == 1
        assert [each.name for each in snapshots(tmp_path).iterdir()] == [OLD_COMMIT]
        assert {each.name for each in (snapshots(tmp_path) / OLD_COMMIT).iterdir()} == set(FILES)


def test_a_revision_is_a_branch_or_a_commit(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.files[OLD_COMMIT] = dict(hub.files[COMMIT])
        hub.files[COMMIT] = {}
        hub.revisions["v1"] = OLD_COMMIT
        for number, revision in enumerate(("v1", OLD_COMMIT)):
            params = tag(tmp_path, f"job_{number}", revision=revision)
            assert kernel.request("tag", params, timeout=40)["result"]["tagged"] == 1
        assert [each.name for each in snapshots(tmp_path).iterdir()] == [OLD_COMMIT]
        assert sorted(hub.gets) == sorted(FILES), "the second one was in the cache"


def test_what_the_hub_does_not_have_is_said_in_our_words(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        incomplete = dict(hub.files[COMMIT])
        del incomplete["selected_tags.csv"]
        hub.files["c" * 40] = incomplete
        cases = [
            ({"repo": "someone/else"}, "model_not_found", "no repository `someone/else`"),
            ({"revision": "v9"}, "model_not_found", "no revision `v9`"),
            ({"revision": "c" * 40}, "model_incomplete", "a file is missing"),
            ({"repo": "not a name"}, "model_not_found", "`not a name`"),
            ({"repo": "a/b/c"}, "model_not_found", "`a/b/c`"),
            ({"repo": "../../etc"}, "model_not_found", "`../../etc`"),
        ]
        for number, (model, kind, words) in enumerate(cases):
            error = kernel.request("tag", tag(tmp_path, f"job_{number}", **model), timeout=40)["error"]
            assert error["data"]["kind"] == kind, error
            assert words in error["message"] and "secret" not in str(error)
            assert error["data"]["where"] == model.get("repo", REPO)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_says_how_to_get_in(status: int, tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.refuse = (status, "GatedRepo")
        error = kernel.request("tag", tag(tmp_path), timeout=40)["error"]
        assert (error["code"], error["data"]["kind"]) == (2206, "model_not_found")
        assert "gated" in error["message"] and "hf auth login" in error["data"]["hint"]


# The hub's library tries for 24 seconds before it gives up.
@pytest.mark.slow
def test_a_hub_that_fails_is_a_failed_download_that_may_be_tried_again(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.refuse = (500, "")
        error = kernel.request("tag", tag(tmp_path), timeout=40)["error"]
        assert (error["code"], error["data"]["kind"]) == (4005, "download_failed")
        assert error["data"]["retryable"] is True and "secret" not in str(error)
        hub.refuse = None
        again = kernel.request("tag", {**tag(tmp_path), "attempt": 2}, timeout=40)
        assert again["result"]["tagged"] == 1


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_a_failed_download(tmp_path: Path) -> None:
    with kernel_for("http://127.0.0.1:9", tmp_path) as kernel:
        error = kernel.request("tag", tag(tmp_path), timeout=40)["error"]
        assert (error["code"], error["data"]["kind"]) == (4005, "download_failed")
        assert "cannot be reached" in error["message"] and error["data"]["hint"]


def test_without_a_network_and_a_cached_model_the_download_fails_at_once_where_asked_to(
    tmp_path: Path,
) -> None:
    with kernel_for("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1") as kernel:
        error = kernel.request("tag", tag(tmp_path))["error"]
        assert (error["code"], error["data"]["kind"]) == (4005, "download_failed")


def test_a_cancel_while_the_hub_is_tried_again_and_again_answers_at_once(tmp_path: Path) -> None:
    with kernel_for("http://127.0.0.1:9", tmp_path) as kernel:
        job = kernel.call("tag", tag(tmp_path))
        while not kernel.request("status")["result"]["jobs"]:
            pass
        kernel.request("cancel", {"job_id": "a"})
        assert kernel.answer(job, timeout=5)["error"]["code"] == -32800


def test_a_cancel_during_a_slow_download_answers_at_once_and_once(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.slow = True
        started = threading.Event()
        hub.before_get = lambda name: started.set()
        job = kernel.call("tag", tag(tmp_path))
        assert started.wait(20)
        assert kernel.request("cancel", {"job_id": "a"})["result"]["state"] == "canceling"
        # The hub has still not sent the rest, and does not before this is answered.
        error = kernel.answer(job)["error"]
        assert (error["code"], error["data"]["partial"]["tagged"]) == (-32800, 0)
        hub.slow = False
        hub.go_on.set()
        again = kernel.request("tag", {**tag(tmp_path), "attempt": 2}, timeout=40)
        assert again["result"]["tagged"] == 1
        assert [each.get("id") for each in kernel.messages].count(job) == 1
        kernel.close_stdin()
        assert kernel.wait() == 0


def test_the_end_of_stdin_during_a_slow_download_ends_the_kernel(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.slow = True
        started = threading.Event()
        hub.before_get = lambda name: started.set()
        job = kernel.call("tag", tag(tmp_path))
        assert started.wait(20)
        kernel.close_stdin()
        assert kernel.answer(job)["error"]["code"] == -32800
        assert kernel.wait(5) == 0
        assert not list(snapshots(tmp_path).glob("*/*")), "no half file has a name"


#: Nothing else looks like it, so it is found wherever it went.
CANARY = "hf_CanaryInTheCoalMine7531"


def said_by(kernel: KernelProcess) -> str:
    """Everything that a kernel has let out."""
    return json.dumps(kernel.messages) + kernel.stderr + repr(kernel.stray)


def test_the_key_of_the_hub_comes_through_the_pipe_and_goes_to_the_hub_alone(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path, keys={"huggingface": CANARY}) as (hub, kernel):
        assert kernel.request("tag", tag(tmp_path), timeout=40)["result"]["tagged"] == 1
        assert set(hub.authorizations) == {f"Bearer {CANARY}"}
        kernel.request("status")
        kernel.close_stdin()
        assert kernel.wait() == 0
        assert CANARY not in said_by(kernel)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY in _text(path)]


def test_a_kernel_that_was_given_no_key_sends_none(tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path, keys={"civitai": CANARY}) as (hub, kernel):
        assert kernel.request("tag", tag(tmp_path), timeout=40)["result"]["tagged"] == 1
        assert set(hub.authorizations) == {None}


@pytest.mark.parametrize("refusal", [(401, "RepoNotFound"), (403, "GatedRepo"), (418, "")])
def test_no_error_says_the_key(refusal: tuple[int, str], tmp_path: Path) -> None:
    with hub_and_kernel(tmp_path, keys={"huggingface": CANARY}) as (hub, kernel):
        hub.refuse = refusal
        assert "error" in kernel.request("tag", tag(tmp_path), timeout=40)
        assert f"Bearer {CANARY}" in hub.authorizations
        assert CANARY not in said_by(kernel)


@pytest.mark.parametrize("value", [f"{CANARY}\n", f"{CANARY} x", f"{CANARY}\u00e9", f"\x7f{CANARY}"])
def test_a_key_that_no_header_takes_is_refused_and_not_repeated(value: str) -> None:
    with KernelProcess() as kernel:
        params = {"contract": {"levels": [1]}, "client": {"name": "t"}, "keys": {"huggingface": value}}
        error = kernel.request("initialize", params)["error"]
        assert (error["code"], error["data"]["where"]) == (-32602, '$.params.keys["huggingface"]')
        assert CANARY not in said_by(kernel)


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


def test_a_repository_is_no_way_around_the_check_of_external_data(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto

    model = onnx.load(str(FOLDER / "model.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../../secret.bin")
    with hub_and_kernel(tmp_path) as (hub, kernel):
        hub.files[COMMIT]["model.onnx"] = model.SerializeToString()
        error = kernel.request("tag", tag(tmp_path), timeout=40)["error"]
        assert (error["code"], error["data"]["kind"]) == (2203, "model_external_data")
