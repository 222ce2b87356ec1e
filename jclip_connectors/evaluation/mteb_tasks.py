"""Tasks of mteb over data in a folder, which remember the values of single queries."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import datasets
import mteb
import numpy as np
from datasets.exceptions import DatasetNotFoundError
from mteb.abstasks import AbsTask, AbsTaskRetrieval, AbsTaskSTS, AbsTaskZeroShotClassification
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from numpy.typing import NDArray

from jclip_connectors.errors import EmbedInputError, EvaluationError

# mteb's names of metrics and those of pytrec_eval, which computes them for single queries.
_PER_QUERY = {"ndcg": "ndcg_cut_", "recall": "recall_", "hit_rate": "success_", "map": "map_cut_", "precision": "P_"}
_AT_K = re.compile(r"(\w+)_at_(\d+)")


@dataclass(frozen=True, kw_only=True)
class Values:
    """What was found for each query of a task, pair of texts, or picture.

    Attributes:
        query_ids: (Q,) unique.
        clusters: (Q,) queries of the same name here are not independent: the captions of one picture.
        metrics: for each metric its values, (Q,).
        golds: (Q,) of a similarity task: the similarity that people gave.
    """

    query_ids: Sequence[str]
    clusters: Sequence[str]
    metrics: Mapping[str, Sequence[float]]
    golds: Sequence[float] | None = None

    def of(self, metrics: Iterable[str]) -> Mapping[str, Sequence[float]]:
        """The values of metrics by mteb's names, without those that single queries do not have."""
        own = {metric: _of_one_query(metric) for metric in metrics}
        return {metric: self.metrics[name] for metric, name in own.items() if name in self.metrics}


class Remembering(AbsTask):
    """A task that keeps the values of the last evaluation."""

    values: Values | None = None


class _Retrieval(Remembering, AbsTaskRetrieval):
    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: Mapping[str, Mapping[str, int]],
        *args: Any,  # noqa: ANN401 (passed on)
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, float]:
        ids = sorted(scores)
        # Captions of one picture have the same right answer. Two questions may have too, and are independent.
        is_captions = "image" in self.metadata.modalities and self.metadata.category == "t2i"
        self.values = Values(
            query_ids=ids,
            clusters=[" ".join(sorted(qrels[one])) if is_captions else one for one in ids],
            metrics={name: [scores[one][name] for one in ids] for name in scores[ids[0]]},
        )
        return super().task_specific_scores(scores, cast("Any", qrels), *args, **kwargs)


class _Pairs(Remembering, AbsTaskSTS):
    def _calculate_scores(self, scores: Any, normalized_scores: list[float]) -> Any:  # noqa: ANN401 (mteb's own types)
        ids = [str(position) for position in range(len(normalized_scores))]
        similarities = {"cosine_spearman": scores["cosine_scores"], "cosine_pearson": scores["cosine_scores"]}
        self.values = Values(query_ids=ids, clusters=ids, metrics=similarities, golds=normalized_scores)
        return super()._calculate_scores(scores, normalized_scores)


class _ZeroShot(Remembering, AbsTaskZeroShotClassification):
    def _calculate_scores(self, labels: list[int], probs: Any) -> Any:  # noqa: ANN401 (a tensor or an array)
        right: NDArray[np.bool_] = np.asarray(probs).argmax(1) == np.asarray(labels)
        ids = [str(position) for position in range(len(labels))]
        self.values = Values(query_ids=ids, clusters=ids, metrics={"accuracy": right.astype(float).tolist()})
        return super()._calculate_scores(labels, probs)


_KINDS: tuple[tuple[type[AbsTask], type[Remembering]], ...] = (
    (AbsTaskRetrieval, _Retrieval),
    (AbsTaskSTS, _Pairs),
    (AbsTaskZeroShotClassification, _ZeroShot),
)


def find_task(name: str) -> AbsTask:
    """A task of mteb by name.

    Raises:
        EmbedInputError: mteb has none of this name.
    """
    try:
        return mteb.get_task(name)
    except KeyError as error:
        raise EmbedInputError(f"mteb has no task {name!r}: {error.args[0]}") from error


def parts(task: AbsTask) -> list[AbsTask]:
    """The tasks that an aggregate of mteb is the mean of, or the task itself."""
    return list(task.metadata.tasks) if isinstance(task, AbsTaskAggregate) else [task]


def task_over(task: AbsTask, folder: Path | None, *, revision: str, split: str, language: str) -> Remembering:
    """Make a task that reads one split and one language of its data from a folder.

    mteb reads a task's folder from its class: an attribute of one task would be lost when its data are unloaded.

    Args:
        task: of mteb.
        folder: in the form of the task's repository on the hub; `None` leaves the repository.
        revision: of the data.
        split: one of the task's.
        language: one of the task's subsets.

    Raises:
        EmbedInputError: the task has no such split or language, or is of a kind that has no metrics here.
    """
    metadata = task.metadata
    for what, wanted, known in (("split", split, metadata.eval_splits), ("language", language, metadata.hf_subsets)):
        if wanted not in known:
            raise EmbedInputError(f"{metadata.name} has no {what} {wanted!r}: it has {', '.join(known)}")
    kind = next((remembering for general, remembering in _KINDS if isinstance(task, general)), None)
    if kind is None:
        raise EmbedInputError(f"{metadata.name} is a task of {metadata.type}, which is not evaluated here")
    attributes: dict[str, Any] = {}
    if folder is not None:
        dataset = {**metadata.dataset, "path": str(folder), "revision": revision}
        attributes["metadata"] = metadata.model_copy(update={"dataset": dataset})
    made: Remembering = type(type(task).__name__, (kind, type(task)), attributes)()
    made.hf_subsets = [language]
    made.filter_eval_splits([split])
    return made


def load(task: AbsTask, *, where: str, cache: Path) -> None:
    """Load the data of a task that `task_over` made, and look whether they are whole.

    Args:
        task: its data stay loaded.
        where: the folder or repository, for the message.
        cache: a folder for these data alone: `datasets` knows a folder by its name and its README.md, and would give
            data that were once in another folder of this name, or that were changed since.

    Raises:
        EvaluationError: data are missing or not in the form that the task reads.
    """
    name, [language] = task.metadata.name, task.hf_subsets
    datasets.config.HF_DATASETS_CACHE = cache
    try:
        task.load_data()
        if isinstance(task, AbsTaskRetrieval):
            task.convert_v1_dataset_format_to_v2(None)
    except (DatasetNotFoundError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise EvaluationError(f"the data of {name} ({language}) in {where!r} cannot be read: {reason}") from error
    problem = _problem(task, split(task))
    if problem is not None:
        raise EvaluationError(f"the data of {name} ({language}) in {where!r} are not complete: {problem}")


def split(task: AbsTask) -> Any:  # noqa: ANN401 (a dataset, or a retrieval task's dict)
    """The loaded data of the one split and language of a task."""
    data: Any = task.dataset
    [language], [name] = task.hf_subsets, task.eval_splits
    for key in (language, name) if language in data else (name,):
        if key not in data:
            raise EvaluationError(f"the data of {task.metadata.name} have no split {name!r}: they have {list(data)}")
        data = data[key]
    return data


def limit(task: AbsTask, count: int) -> None:
    """Keep the first queries, pairs or pictures of loaded data.

    Of the documents, those that answer the queries stay, and as many others from the beginning.
    """
    data = split(task)
    if not isinstance(task, AbsTaskRetrieval):
        _replace(task, data.select(range(min(count, len(data)))))
        return
    queries = data["queries"].select(range(min(count, len(data["queries"]))))
    relevant = {query: data["relevant_docs"][query] for query in queries["id"]}
    answers = {document for found in relevant.values() for document in found}
    kept, others = [], count
    for position, document in enumerate(data["corpus"]["id"]):
        if document in answers or others > 0:
            kept.append(position)
            others -= document not in answers
    data.update(queries=queries, relevant_docs=relevant, corpus=data["corpus"].select(kept))


def count(task: AbsTask) -> int:
    """How many queries, pairs or pictures the loaded data have."""
    data = split(task)
    return len(data["queries"]) if isinstance(task, AbsTaskRetrieval) else len(data)


def _of_one_query(metric: str) -> str:
    """The name of a metric for single queries: that of pytrec_eval, where mteb takes it from there."""
    match = _AT_K.fullmatch(metric)
    return metric if match is None else f"{_PER_QUERY.get(match[1])}{match[2]}"


def _replace(task: AbsTask, data: Any) -> None:  # noqa: ANN401 (a dataset)
    dataset: Any = task.dataset
    [language], [name] = task.hf_subsets, task.eval_splits
    if language in dataset:
        dataset[language] = {**dataset[language], name: data}
    else:
        dataset[name] = data


def _problem(task: AbsTask, data: Any) -> str | None:  # noqa: ANN401 (of `split`)
    """What loaded data lack, or `None`."""
    if isinstance(task, AbsTaskRetrieval):
        return _retrieval_problem(task, data)
    if isinstance(task, AbsTaskZeroShotClassification):
        columns = [str(task.input_column_name), task.label_column_name]
    else:
        columns = [*map(str, cast("AbsTaskSTS", task).column_names), "score"]
    absent = [column for column in columns if column not in data.column_names]
    if absent:
        return f"the columns {absent} are missing; there are {data.column_names}"
    return "there is no row" if len(data) == 0 else None


def _retrieval_problem(task: AbsTask, data: Any) -> str | None:  # noqa: ANN401 (a dict of datasets)
    queries, corpus, relevant = data["queries"], data["corpus"], data["relevant_docs"]
    for name, table, kind in (("queries", queries, "query"), ("corpus", corpus, "document")):
        columns = {"id", *task.metadata.get_modalities(mteb.types.PromptType(kind))}
        if absent := sorted(columns - set(table.column_names)):
            return f"the columns {absent} of the {name} are missing; there are {table.column_names}"
        if len(table) == 0:
            return f"there are no {name}"
    known = set(corpus["id"])
    for query in queries["id"]:
        if query not in relevant:
            return f"no document is right for the query {query!r}"
        if unknown := sorted(set(relevant[query]) - known):
            return f"the document {unknown[0]!r}, which is right for the query {query!r}, is not in the corpus"
    return None
