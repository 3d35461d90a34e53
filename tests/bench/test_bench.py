"""Every benchmark runs. No figure is looked at: a test machine is never calm."""

import sys

import pytest

from tests.bench import __main__ as bench
from tests.bench.figures import Benchmark, Figure, Report, interleaved

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")


#: They train through a kernel of their own, or at full size; the others that do stand for them.
_SLOW = {"train_full", "train_memory", "train_scale", "train_sdxl", "train_start", "train_step"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[pytest.mark.slow] if each in _SLOW else []) for each in bench.BENCHMARKS],
)
def test_a_benchmark_prints_its_figure_its_floor_and_their_ratio(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main([name, "--quick"]) == 0
    said, figure, *_ = capsys.readouterr().out.splitlines()
    assert said.startswith(name)
    for part in (", floor ", ", ratio ", "; target "):
        assert part in figure


def test_the_list_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bench.BENCHMARKS)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit):
        bench.main(["pong"])


def test_a_missed_target_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Report([Figure("slow", 2.0, 1.0, "s", target=1.5)])
    monkeypatch.setattr(bench, "BENCHMARKS", {"slow": Benchmark("slow", "", lambda _: slow)})
    assert bench.main(["slow"]) == 1
    assert bench.main(["slow", "--quick"]) == 0


def test_a_target_limits_the_ratio_or_the_value_from_above_or_below() -> None:
    assert Figure("ping", 20.0, 2.0, "µs", target=12).met
    assert not Figure("ping", 26.0, 2.0, "µs", target=12).met
    assert Figure("idle", 39.0, 1.0, "MB", target=40, limits="value").met
    assert Figure("rate", 96.0, 100.0, "/s", target=0.95, at_least=True).met
    assert not Figure("rate", 94.0, 100.0, "/s", target=0.95, at_least=True).met


def test_measures_are_taken_in_turn() -> None:
    order: list[str] = []

    def a() -> float:
        order.append("a")
        return 1.0

    def b() -> float:
        order.append("b")
        return 2.0

    assert interleaved(2, {"a": a, "b": b}) == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    assert order == ["a", "b", "a", "b"]
