"""What every benchmark shares: outputs compared first, sides run in interleaved rounds, ratios with an interval.

A benchmark is a module of this folder with a function `run(bench: Bench) -> None` that ends with

    if __name__ == "__main__":
        main("NAME", __doc__, run)

and is then started as `python -m benchmarks.NAME --quick` (seconds, tiny sizes, to see that it runs) or `--full`
(the sizes that are claimed), with `--json FILE` for all figures. `python -m benchmarks` runs all of them in turn.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.environment import environment, load_average
from benchmarks.report import print_environment, print_rows, write_json
from benchmarks.rows import Row

Clock = Literal["wall", "process"] | Callable[[], float]
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "process": time.process_time}
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 40
_QUICK_ROUNDS = 2


def unit_difference(expected: ArrayLike, actual: ArrayLike) -> float:
    """The largest difference of two (B, E) arrays of which each row is first brought to unit length."""
    return float(np.abs(_unit(expected) - _unit(actual)).max())


def cosine_distance(expected: ArrayLike, actual: ArrayLike) -> float:
    """One minus the smallest cosine between rows of the same number in two (B, E) arrays."""
    return 1 - float((_unit(expected) * _unit(actual)).sum(axis=1).min())


def _unit(rows: ArrayLike) -> NDArray[np.float64]:
    values = np.atleast_2d(np.asarray(rows, np.float64))
    if not np.isfinite(values).all():
        raise SystemExit("an output is not finite: no times are taken")
    unit: NDArray[np.float64] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That one side takes so many times less time than another, and computes the same.

    Attributes:
        what: the row's name, such as "a 16-token query, int8 / B0".
        baseline: the name of the side that is divided.
        ours: the name of the side that it is divided by.
        bar: the ratio that the lower end of the interval must reach, or `None`.
        hope: the ratio that would be better still, or `None`.
        difference: what two outputs differ by.
        tolerance: the largest difference with which times are taken.
    """

    what: str
    baseline: str
    ours: str
    bar: float | None = None
    hope: float | None = None
    difference: Callable[..., float] = unit_difference
    tolerance: float = 3e-5


@dataclass(kw_only=True)
class Bench:
    """One run of one benchmark.

    Attributes:
        name: the benchmark, as in `python -m benchmarks.NAME`.
        quick: whether only to see that it runs: take tiny sizes.
        threads: how many threads each side may take; the benchmark hands it to its libraries.
        seconds: how long the rounds of one comparison may go on for; there are at least 5 of them.
        rows: the results so far.
    """

    name: str
    quick: bool
    threads: int = 1
    seconds: float = 30.0
    rows: list[Row] = field(default_factory=list)

    def compare(
        self, sides: Mapping[str, Callable[[], object]], claims: Sequence[Claim], *, clock: Clock = "wall"
    ) -> dict[str, list[float]]:
        """Compare the outputs of the sides, then time them in rounds and keep a row for each claim.

        Args:
            sides: a call for each name; what it returns is what `Claim.difference` takes.
            claims: pairs of sides.
            clock: "process" counts processor time of all threads of this process: right for claims about one thread
                on a machine that has other work. "wall" counts seconds. A function that gives seconds can count those
                of other processes too.

        Returns:
            The seconds of every round for each side.

        Raises:
            SystemExit: two sides do not compute the same. No times were taken.
        """
        outputs = {name: run() for name, run in sides.items()}
        differences = [self._difference(claim, outputs) for claim in claims]
        del outputs
        for run in sides.values():  # a second time: ours in int8 copies its weights then
            run()
        seconds = self.interleave(sides, clock=clock)
        for claim, difference in zip(claims, differences, strict=True):
            baseline, ours = seconds[claim.baseline], seconds[claim.ours]
            self.record(
                claim.what,
                [theirs / mine for theirs, mine in zip(baseline, ours, strict=True)],
                bar=claim.bar,
                hope=claim.hope,
                baseline=claim.baseline,
                ours=claim.ours,
                baseline_s=baseline,
                ours_s=ours,
                clock=clock if isinstance(clock, str) else clock.__name__,
                difference=difference,
                tolerance=claim.tolerance,
            )
        return seconds

    def interleave(self, sides: Mapping[str, Callable[[], object]], *, clock: Clock = "wall") -> dict[str, list[float]]:
        """Run every side once a round, in an order that changes; seconds of each round by side.

        Every side should have run before.
        """
        now = _CLOCKS[clock] if isinstance(clock, str) else clock
        order = random.Random(0)  # noqa: S311 - no secret
        names = list(sides)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        started, rounds = time.perf_counter(), 0
        while self._another_round(rounds, time.perf_counter() - started):
            order.shuffle(names)
            for name in names:
                before = now()
                sides[name]()
                seconds[name].append(now() - before)
            rounds += 1
        return seconds

    def record(
        self,
        what: str,
        values: Sequence[float],
        *,
        unit: str = "x",
        bar: float | None = None,
        hope: float | None = None,
        at_most: bool = False,
        **details: object,
    ) -> None:
        """Keep a row of figures that are not a plain ratio of times: one value, or one for each round.

        Args:
            what: the row's name.
            values: the figure of each round.
            unit: what is printed behind it, such as "x" or "files/s".
            bar: what the worse end of the interval must reach, or `None`.
            hope: what would be better still, or `None`.
            at_most: whether the figure shall be small, not large.
            **details: whatever else the JSON shall hold.
        """
        judged = not self.quick
        row = Row(
            what=what,
            values=list(values),
            unit=unit,
            bar=bar,
            hope=hope,
            at_most=at_most,
            judged=judged,
            details=details,
        )
        self.rows.append(row)
        print(f"{what}: {row.measured} {row.verdict(bar)}", flush=True)  # at once: the table comes at the end

    def _difference(self, claim: Claim, outputs: Mapping[str, object]) -> float:
        found = claim.difference(outputs[claim.baseline], outputs[claim.ours])
        print(f"{claim.what}: the outputs differ by {found:.1e} ({claim.difference.__name__}, <= {claim.tolerance:g})")
        if not found <= claim.tolerance:
            raise SystemExit(f"{claim.what}: the outputs do not agree: no times are taken")
        return found

    def _another_round(self, rounds: int, passed_s: float) -> bool:
        if self.quick:
            return rounds < _QUICK_ROUNDS
        return rounds < _LEAST_ROUNDS or (passed_s < self.seconds and rounds < _MOST_ROUNDS)


def main(name: str, description: str | None, run: Callable[[Bench], None]) -> None:
    """Run one benchmark as the command line says, and print its table.

    Args:
        name: the module's name in this folder.
        description: what `--help` says: `__doc__`.
        run: adds rows to the `Bench`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; no bar is judged")
    size.add_argument("--full", action="store_true", help="the sizes that are claimed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows, environment and times of every round")
    parser.add_argument("--threads", type=int, default=1, help="of each side (default: 1)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the rounds of one comparison (default: 30)")
    options = parser.parse_args()
    bench = Bench(name=name, quick=options.quick, threads=options.threads, seconds=options.seconds)
    found = environment(threads=bench.threads)
    print_environment(found)
    run(bench)
    found["load_after"] = load_average()
    print_rows(name, bench.rows)
    print(f"load average {found['load_before']} before, {found['load_after']} after")
    if options.json is not None:
        write_json(options.json, name=name, quick=bench.quick, found=found, rows=bench.rows)
