"""Run benchmarks and print their figures; exit with 1 if a target was missed.

`python -m tests.bench [NAME ...] [--quick] [--list]`
"""

import argparse
import sys
from collections.abc import Sequence

from tests.bench import (
    cancel,
    checkpoints,
    idle,
    initialize,
    lora_merge,
    pages,
    ping,
    resize,
    serve,
    streams,
    tagging,
    train_full,
    train_scale,
    train_sdxl,
    train_start,
    train_step,
    writes,
)
from tests.bench.child import load
from tests.bench.figures import Benchmark

BENCHMARKS = {
    each.name: each
    for each in (
        Benchmark("ping", "round trip of a ping against a raw echo", ping.run),
        Benchmark("initialize", "start to handshake against importing two libraries", initialize.run),
        Benchmark("idle", "memory of an idle kernel", idle.run),
        Benchmark("cancel", "cancel to terminal while the host reads slowly", cancel.run),
        Benchmark("tag-tiny", "tagging with a tiny model: bound by decoding", tagging.run_tiny),
        Benchmark("tag-vit", "tagging with a model of ViT-B size: bound by the model", tagging.run_vit),
        Benchmark("resize", "a LoRA of SDXL's and of FLUX's size to a lower rank", resize.run),
        Benchmark("lora_merge", "two LoRAs of SDXL's size into one", lora_merge.run),
        Benchmark(
            "checkpoint_merge", "two checkpoints of 2.13 GB into one against cp", checkpoints.run_merge
        ),
        Benchmark("bake", "a LoRA into a checkpoint of 2.13 GB, against cp", checkpoints.run_bake),
        Benchmark("train_step", "a step of a small model against bare steps", train_step.run_step),
        Benchmark("train_wait", "waiting for data with caches", train_step.run_wait),
        Benchmark("train_start", "to the end of the first step, by phase", train_start.run),
        Benchmark("train_full", "SD1.5 at its full size in bf16 on the processor", train_full.run),
        Benchmark("train_memory", "memory of such a training by phase", train_full.run_memory),
        Benchmark("train_scale", "a step with 10 and with 10,000 pictures", train_scale.run),
        Benchmark("train_sdxl", "SDXL at 1024 pixels on a GPU", train_sdxl.run),
        Benchmark("serve", "start of the studio against one Starlette route; its memory", serve.run),
        Benchmark("writes", "acknowledged writes against raw commits of SQLite", writes.run),
        Benchmark("pages", "thumbnails and pages beside a job that takes every core", pages.run),
        Benchmark("streams", "100 readers of the events at 10 Hz", streams.run_100),
        Benchmark("streams-1000", "1,000 readers of the events at 10 Hz", streams.run_1000),
        Benchmark("streams-stalled", "readers of the events beside 200 that stall", streams.run_stalled),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Lorakeet's benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--quick", action="store_true", help="see that they run; the figures mean nothing")
    parser.add_argument("--list", action="store_true", help="what there is")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    chosen = [BENCHMARKS[name] for name in options.names or BENCHMARKS]
    if options.list:
        print("\n".join(f"{each.name:16} {each.summary}" for each in chosen))
        return 0
    met = [_run(each, options.quick) for each in chosen]
    return 0 if options.quick or all(met) else 1


def _run(benchmark: Benchmark, quick: bool) -> bool:
    """Print what it found; whether every target was met."""
    before = load()
    report = benchmark.run(quick)
    print(f"{benchmark.name} (load before: {before})")
    print("\n".join(f"  {line}" for line in report.lines()), flush=True)
    return all(figure.met for figure in report.figures)


if __name__ == "__main__":
    sys.exit(main())
