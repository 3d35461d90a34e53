"""However much a job has to say, no line is longer than agreed."""

import json
from pathlib import Path
from typing import Any

from tests.builders.pictures import NASTY, write
from tests.kernel.test_backpressure import MIB, talkative_tagger
from tests.kernel_process import KernelProcess


def longest(kernel: KernelProcess) -> int:
    messages = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in kernel.messages]
    return max(len(each.encode()) for each in messages)


def job(model: Path, manifest: Path, **settings: Any) -> dict[str, Any]:
    return {
        "job_id": "a",
        "v": 2,
        "inputs": {"manifest": str(manifest)},
        "settings": {"model": {"path": str(model)}, **settings},
    }


def test_thousands_of_failures_with_long_names_fit_into_lines(tmp_path: Path, demo_tagger: Path) -> None:
    folder = "/".join(["ä" * 100] * 10)
    count = 3000
    manifest = tmp_path / "manifest.jsonl"
    rows = [json.dumps({"path": f"{tmp_path}/{folder}/{index}.png"}) for index in range(count)]
    rows.append(json.dumps({"path": f"{tmp_path}/{'x' * 2 * MIB}.png"}))
    manifest.write_text("\n".join(rows), encoding="utf-8")
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path, demo_tagger], max_message_bytes=MIB)
        result = kernel.request("tag", job(demo_tagger, manifest), timeout=50)["result"]
        told = [
            each
            for message in kernel.notifications
            if message["method"] == "partial"
            for each in message["params"]["failed"]
        ]
        assert [each["index"] for each in told] == list(range(count + 1))
        assert result["failed_count"] == count + 1
        assert 0 < len(result["failed"]) < 1000 and result["failed"] == told[: len(result["failed"])]
        assert longest(kernel) <= MIB
        kernel.kill()
        assert kernel.stderr == ""


def test_counts_and_results_of_talkative_taggers_fit_into_lines(tmp_path: Path) -> None:
    (image,) = write(tmp_path, NASTY[:1])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"path": str(image)}), encoding="utf-8")
    model = talkative_tagger(tmp_path / "model", 3000)
    replace = {f"a_rather_long_tag_{index}": f"{index} {'y' * 200}" for index in range(3000)}
    with KernelProcess() as kernel:
        kernel.initialize(roots=[tmp_path], max_message_bytes=MIB)
        result = kernel.request("tag", job(model, manifest, replace=replace), timeout=50)["result"]
        assert result["tagged"] == 1 and 500 < len(result["tag_counts"]) < 3000
        assert longest(kernel) <= MIB

        # What does not fit into a line at all is a failure of that picture.
        long = {**job(model, manifest, always_first=["z" * 900_000]), "job_id": "b"}
        result = kernel.request("tag", long, timeout=50)["result"]
        assert (result["tagged"], result["failed_count"], result["tag_counts"]) == (0, 1, {})
        assert result["failed"][0]["error"]["data"]["kind"] == "line_too_long"
        assert longest(kernel) <= MIB
        kernel.kill()
        assert kernel.stderr == ""
