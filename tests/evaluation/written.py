"""Evaluations that a test writes itself, with values of its choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jclip_connectors.evaluation.bootstrap import spearman
from jclip_connectors.evaluation.figures import Figure, QueryScores, Results, write_results, write_run


@dataclass(frozen=True, kw_only=True)
class Part:
    """The values of one metric."""

    values: Any
    table: Any = "flickr30k"
    harness: Any = "clip_benchmark"
    task: Any = "flickr30k"
    split: Any = "test"
    metric: Any = "text_retrieval_recall@5"
    language: Any = "en"
    dimensions: Any = 128
    variant: Any = "float32"
    data_revision: Any = "aaaa1111"
    query_ids: Any = None
    clusters: Any = None
    golds: Any = None

    def scores(self) -> QueryScores:
        count = len(self.values)
        queries = [f"q{at}" for at in range(count)] if self.query_ids is None else self.query_ids
        return QueryScores(
            harness=self.harness,
            task=self.task,
            split=self.split,
            metric=self.metric,
            language=self.language,
            dimensions=self.dimensions,
            variant=self.variant,
            data_revision=self.data_revision,
            query_ids=queries,
            clusters=queries if self.clusters is None else self.clusters,
            values=[float(value) for value in self.values],
            golds=None if self.golds is None else [float(gold) for gold in self.golds],
        )


def write_evaluation(out: Path, parts: Sequence[Part], *, model: str = "nano", **options: Any) -> Path:
    """Write `results.json` and `runs/` into `out`, as `jclip eval` does."""
    together: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        place = part.task, part.split, part.language, part.dimensions, part.variant
        together.setdefault(place, []).append(part)
    figures = []
    for of_file in together.values():
        name = write_run(out, [part.scores() for part in of_file])
        figures += [_figure(part, name) for part in of_file]
    fields: dict[str, Any] = {
        "model": {"name": model, "embedding_dim": 128, "asked": {"kind": "jclip", "source": model, "revision": None}},
        "tables": list(dict.fromkeys(part.table for part in parts)),
        "data": "local",
        "limit": None,
        "options": {},
        "unfinished": [],
        "seconds": {},
        **options,
    }
    write_results(out, Results(**fields, figures=figures))
    return out


def _figure(part: Part, run: str) -> Figure:
    if part.golds is None:
        value = float(np.mean(part.values))
    else:
        value = float(spearman(np.ones((1, len(part.golds))), part.values, part.golds)[0])
    return Figure(
        table=part.table,
        harness=part.harness,
        task=part.task,
        split=part.split,
        metric=part.metric,
        language=part.language,
        dimensions=part.dimensions,
        variant=part.variant,
        value=value,
        queries=len(part.values),
        data_revision=part.data_revision,
        run=run,
    )
