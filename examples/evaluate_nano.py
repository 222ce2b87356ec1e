"""Measure `nano` on shape-colour pairs and scenes that it was never trained on, and print each figure beside its bar.

    python examples/evaluate_nano.py [folder]

The weights are measured as they ship, in half precision on disk and through the encoder's own preprocessing. Exits
with 1 when a figure that must be reached is not.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nano_training.probes import (
    ATTRIBUTES,
    Gallery,
    attribute_probe,
    gallery,
    order_probe,
    pair_search,
    swap_probe,
    tile_search,
)

from core_encoder import JinaClipEncoder
from core_encoder.nano.wording import LANGUAGES, Language

SEED = 2024
_SHORT = 32  # values of a shortened vector
_ATTRIBUTE_BARS = {"colour": 0.95, "size": 0.95, "place": 0.95, "shape": 0.80}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What is asked of a figure."""

    kind: Literal["must", "hope"]
    value: float
    at_most: bool = False
    languages: tuple[Language, ...] = LANGUAGES

    def reached(self, values: dict[Language, float]) -> bool:
        """Whether the figure of every language concerned is good enough."""
        asked = [values[language] for language in self.languages]
        return max(asked) <= self.value if self.at_most else min(asked) >= self.value

    def __str__(self) -> str:
        """Return, say, "must >= 0.90 (en)"."""
        scope = "" if self.languages == LANGUAGES else f" ({', '.join(self.languages)})"
        return f"{self.kind} {'<=' if self.at_most else '>='} {self.value:.2f}{scope}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing measured in every language, as a share in 0..1."""

    name: str
    values: dict[Language, float]
    bars: tuple[Bar, ...]

    def missed(self) -> list[Bar]:
        """Return the bars that are not reached."""
        return [bar for bar in self.bars if not bar.reached(self.values)]

    def row(self) -> str:
        """Return the figure as a row of a Markdown table."""
        values = " | ".join(f"{self.values[language]:.3f}" for language in LANGUAGES)
        verdicts = ", ".join("**missed**" if bar in self.missed() else "reached" for bar in self.bars)
        return f"| {self.name} | {values} | {', '.join(map(str, self.bars))} | {verdicts} |"


def figures(encoder: JinaClipEncoder) -> Iterator[Figure]:
    """Measure everything; this takes a few minutes."""
    yield from _gallery_figures(gallery(encoder, SEED))

    tiles = tile_search(encoder, SEED)
    reach, blind = Bar(kind="must", value=0.9), Bar(kind="must", value=0.25, at_most=True)
    yield _figure("16-tile canvases, recall@5, tiles", {x: tiles[x].tiles for x in LANGUAGES}, reach)
    yield _figure(
        "16-tile canvases, recall@5, tiles, pairs never trained",
        {x: tiles[x].tiles_never_trained for x in LANGUAGES},
        reach,
    )
    yield _figure("16-tile canvases, recall@5, overview alone", {x: tiles[x].overview for x in LANGUAGES}, blind)

    probes = {
        f"{name} ({len(values)}-way)": (
            attribute_probe(encoder, name, SEED),
            [Bar(kind="must", value=_ATTRIBUTE_BARS[name])],
        )
        for name, values in ATTRIBUTES.items()
    }
    probes[f"shape ({len(ATTRIBUTES['shape'])}-way)"][1].append(Bar(kind="hope", value=0.9))
    probes["swapped colours (2-way)"] = swap_probe(encoder, SEED), [Bar(kind="must", value=0.85)]
    probes["relation order (2-way)"] = order_probe(encoder, SEED), [Bar(kind="hope", value=0.85)]
    for name, (found, bars) in probes.items():
        yield _figure(f"{name}, picture by caption", {x: found[x].of_picture for x in LANGUAGES}, *bars)
        yield _figure(f"{name}, caption by picture", {x: found[x].of_text for x in LANGUAGES}, *bars)

    pairs = pair_search(encoder, SEED)
    top = Bar(kind="hope", value=0.85)
    yield _figure('"a red circle", first hit of 500, all pairs', {x: pairs[x][0] for x in LANGUAGES}, top)
    yield _figure('"a red circle", first hit of 500, pairs never trained', {x: pairs[x][1] for x in LANGUAGES}, top)


def _gallery_figures(found: Gallery) -> Iterator[Figure]:
    english = Bar(kind="must", value=0.9, languages=("en",))
    for from_text, direction in ((True, "picture by caption"), (False, "caption by picture")):
        full = {language: found.recall(language, from_text=from_text) for language in LANGUAGES}
        short = {language: found.recall(language, from_text=from_text, dims=_SHORT) for language in LANGUAGES}
        yield _figure(f"gallery of 500, {direction}, recall@1", {x: full[x].at_1 for x in LANGUAGES}, english)
        yield _figure(
            f"gallery of 500, {direction}, recall@5", {x: full[x].at_5 for x in LANGUAGES}, Bar(kind="must", value=0.97)
        )
        yield _figure(
            f"gallery of 500, {direction}, recall@1 kept by {_SHORT} values",
            {x: short[x].at_1 / full[x].at_1 for x in LANGUAGES},
            Bar(kind="must", value=0.95),
        )


def _figure(name: str, values: dict[Language, float], *bars: Bar) -> Figure:
    return Figure(name=name, values=values, bars=bars)


def main() -> int:
    """Print the table; return 1 if something that must be reached is not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", nargs="?", default="nano", help="checkpoint folder; the bundled weights if left out")
    encoder = JinaClipEncoder.load(parser.parse_args().folder, device="cpu", precision="fp32")
    start = time.monotonic()
    print(f"| figure | {' | '.join(LANGUAGES)} | bar | |\n|{'---|' * (len(LANGUAGES) + 3)}")
    missed: list[tuple[str, Bar]] = []
    for figure in figures(encoder):
        print(figure.row(), flush=True)
        missed += [(figure.name, bar) for bar in figure.missed()]
    print(f"\nMeasured in {(time.monotonic() - start) / 60:.1f} minutes.")
    for name, bar in missed:
        print(f"Missed: {name}: {bar}")
    return int(any(bar.kind == "must" for _, bar in missed))


if __name__ == "__main__":
    sys.exit(main())
