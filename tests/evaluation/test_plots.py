"""The plots of an evaluation."""

import xml.etree.ElementTree as ET

from jclip_connectors.evaluation import plots
from jclip_connectors.evaluation.figures import write_results
from jclip_connectors.evaluation.plots import recall_plot, write_plots
from jclip_connectors.evaluation.report import report, write_report
from jclip_connectors.evaluation.store_recall import RecallPoint
from tests.evaluation.test_means import figure, results

SEVERAL = results(
    figure(value=0.9),
    figure(value=0.8, dimensions=64),
    figure(value=0.7, variant="binary_rescored"),
    figure(value=None, metric="image_retrieval_recall@5"),
)
NAMES = ["dimensions-flickr30k.svg", "bytes-flickr30k.svg"]


def point(candidates, recall):
    return RecallPoint(
        setting={"candidates": candidates},
        recall_mean=recall,
        recall_p5=recall,
        recall_min=recall / 2,
        p50_ms=1.0,
        p95_ms=2.0,
        queries_per_second=100_000 / candidates,
        disk_bytes=None,
    )


def test_lengths_and_variants_are_drawn_and_equal_figures_give_equal_files(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, SEVERAL)
        assert write_plots(tmp_path / name) == NAMES
        recall_plot([point(200, 0.95), point(400, 0.99)], tmp_path / name / "store.svg")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.svg")})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {*NAMES, "store.svg"}
    for content in contents[0].values():
        assert ET.fromstring(content).tag.endswith("svg")  # noqa: S314 (our own file)
    write_report(tmp_path / "a")
    text = (tmp_path / "a" / "report.md").read_text()
    assert [text.count(f"]({name})") for name in (*NAMES, "store.svg")] == [1, 1, 0]


def test_one_length_and_one_variant_need_no_plot_and_earlier_ones_go(tmp_path):
    for name in (*NAMES, "mine.svg"):
        (tmp_path / name).write_text("of earlier results")
    write_results(tmp_path, results(figure()))
    assert write_plots(tmp_path) == []
    assert [path.name for path in tmp_path.glob("*.svg")] == ["mine.svg"]


def test_without_matplotlib_the_report_says_what_plots_need(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda _name: None)
    write_results(tmp_path, SEVERAL)
    assert write_plots(tmp_path) == []
    write_report(tmp_path)
    assert "matplotlib" in (tmp_path / "report.md").read_text()


def test_what_needs_no_plot_asks_for_nothing():
    assert "matplotlib" not in report(results(figure()), {})
