"""The framework of the benchmarks, and that each of them runs."""

import json
import math
import os
from pathlib import Path

import pytest

from benchmarks import names
from benchmarks.comparison import Bench, Claim, cosine_distance, unit_difference
from benchmarks.rows import Row, interval_of_median
from tests.forked import Program
from tests.late import late

benchmarks_main = late("benchmarks.__main__")


def row(values, **options):
    return Row(**{"what": "it", "values": values, "unit": "x", "bar": None, "hope": None, "judged": True} | options)


def test_the_interval_holds_the_median_and_narrows_with_equal_rounds():
    median, low, high = interval_of_median([2.0, 2.1, 1.9, 2.0, 5.0, 2.0, 1.95])
    assert median == 2.0
    assert 1.9 <= low <= 2.0 <= high < 5.0
    assert interval_of_median([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("values", "at_most", "verdict"),
    [
        ([2.0, 2.1, 2.2], False, ">= 2 x (met)"),
        ([1.9, 2.1, 2.2], False, ">= 2 x (MISSED)"),  # the median would do, the lower end does not
        ([1.8, 1.9, 2.0], True, "<= 2 x (met)"),
        ([1.8, 1.9, 2.1], True, "<= 2 x (MISSED)"),
    ],
)
def test_the_worse_end_of_the_interval_is_held_against_the_bar(values, at_most, verdict):
    assert row(values, at_most=at_most).verdict(2.0) == verdict


def test_a_quick_run_judges_nothing():
    assert row([1.0], judged=False).verdict(2.0) == ">= 2 x (not judged)"
    assert row([1.0]).verdict(None) == ""


def test_differences_are_those_of_unit_rows():
    assert unit_difference([[2.0, 0.0]], [[5.0, 0.0]]) == 0
    assert unit_difference([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 3.0]]) == 1
    assert math.isclose(cosine_distance([[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]), 1 - math.sqrt(0.5))


def test_no_time_is_taken_where_the_outputs_differ_or_are_not_finite():
    calls = []

    def side(value):
        def run():
            calls.append(value)
            return [[1.0, value]]

        return run

    bench = Bench(name="it", quick=True)
    claim = Claim(what="a / b", baseline="a", ours="b")
    for other, words in ((0.5, "do not agree"), (math.nan, "not finite")):
        calls.clear()
        with pytest.raises(SystemExit, match=words):
            bench.compare({"a": side(0.0), "b": side(other)}, [claim])
        assert len(calls) == 2
    assert bench.rows == []


def test_a_row_keeps_the_ratio_of_every_round():
    bench = Bench(name="it", quick=True)
    sides = {"slow": lambda: [[sum(i * 1.0 for i in range(20000)), 1.0]], "fast": lambda: [[199990000.0, 1.0]]}
    seconds = bench.compare(sides, [Claim(what="slow / fast", baseline="slow", ours="fast")], clock="process")
    [found] = bench.rows
    assert found.values == [a / b for a, b in zip(seconds["slow"], seconds["fast"], strict=True)]
    assert min(found.values) > 1
    assert found.details["difference"] == 0


def test_all_benchmarks_run_in_turn_and_give_rows_for_the_table(tmp_path, monkeypatch, capfd):
    """The table's rows come from what each wrote; a benchmark that fails is named at the end."""
    main = benchmarks_main()

    def run_one(name, _, folder):
        if name == "broken":
            return None
        bench = Bench(name=name, quick=False)
        bench.record("peak memory", [0.25], bar=0.5, hope=0.2, at_most=True)
        late("benchmarks.report")().write_json(folder / "it.json", name=name, quick=False, found={}, rows=bench.rows)
        return json.loads((folder / "it.json").read_text())

    monkeypatch.setattr(main, "run_one", run_one)
    monkeypatch.setattr(main, "names", lambda: ["good", "broken"])
    monkeypatch.setattr("sys.argv", ["benchmarks", "--full", "--json", str(tmp_path / "all.json")])
    with pytest.raises(SystemExit, match="failed: broken"):
        main.main()
    line = "| peak memory | <= 0.5 x (met) | <= 0.2 x (MISSED) | 0.25 x | `python -m benchmarks.good --full` |"
    assert line in capfd.readouterr().out
    [document] = json.loads((tmp_path / "all.json").read_text())
    assert document["rows"][0]["median"] == 0.25


# They import timm or a compiler, start several processes, or build an environment; the others take seconds.
SLOW = {
    "batch_invariance",
    "conversion",
    "gpu",
    "images_cpu",
    "indexing",
    "load",
    "sentence_transformers_cpu",
    "startup",
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names()])
def test_a_benchmark_runs_on_tiny_sizes(name, tmp_path):
    """The bounds are loose: that outputs agree is what the benchmark itself checks before it takes a time."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    path = tmp_path / "found.json"
    with Program("-m", f"benchmarks.{name}", "--quick", "--json", path, environment=environment) as program:
        code = program.wait(timeout_s=1100)
        assert code == 0, program.stdout + program.stderr
    found = json.loads(path.read_text())
    assert (found["benchmark"], found["mode"]) == (name, "quick")
    assert found["environment"]["versions"]["numpy"]
    assert found["rows"]
    for row in found["rows"]:
        assert row["median"] >= (0 if row["at_most"] else 0.2), row["what"]


def test_every_benchmark_has_a_row_with_its_command():
    written = Path(__file__).parents[1].joinpath("benchmarks", "README.md").read_text()
    assert [name for name in names() if f"`python -m benchmarks.{name} --full`" not in written] == []
