"""The GPU's benchmark: its counts of operations, and what it says where there is no GPU."""

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.comparison import Bench
from benchmarks.report import write_json
from core_encoder.config import read_config
from core_encoder.tokenization import pack
from core_encoder.torch.runtime import packed_features
from tests.checkpoints import V1_TINY, V2_TINY
from tests.late import late

gpu = late("benchmarks.gpu")


@pytest.fixture(params=[V1_TINY, V2_TINY], ids=["v1", "v2"])
def model(request):
    return gpu().random_model(read_config(request.param), torch.device("cpu"), torch.float32)


def counted(compute):
    """Operations of matrix products and of attention in a run, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        compute()
    return counter.get_total_flops()


@pytest.mark.slow
def test_operations_of_texts_are_what_torch_counts(model):
    lengths = [9, 9, 30]
    rows = [np.random.default_rng(n).integers(5, 300, n).tolist() for n in lengths]
    packed = pack(rows, pad_token_id=model.config.text.pad_token_id)
    found = counted(lambda: packed_features(model, packed))
    assert found == gpu().text_flops(model.config.text, lengths)


@pytest.mark.slow
def test_operations_of_a_picture_are_what_torch_counts(model):
    side = model.config.vision.image_size
    found = counted(lambda: model.vision(torch.zeros(2, 3, side, side)))
    assert found == 2 * gpu().image_flops(model.config.vision)


def test_without_a_gpu_a_full_run_says_that_nothing_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    bench = Bench(name="gpu", quick=False)
    gpu().run(bench)
    assert {row.measured for row in bench.rows} == {"not measured"}
    verdicts = {row.what: (row.verdict(row.bar), row.verdict(row.hope)) for row in bench.rows if row.bar is not None}
    assert list(verdicts.values()) == [
        (">= 50 %", ">= 60 %"),
        (">= 45 %", ">= 58 %"),
        ("<= 2 ms", "<= 0.8 ms"),
        ("<= 6 ms", "<= 4 ms"),
    ]
    write_json(tmp_path / "it.json", name="gpu", quick=False, found={}, rows=bench.rows)
    assert json.loads((tmp_path / "it.json").read_text())["rows"][0]["median"] is None


def test_a_side_that_is_far_from_float32_is_not_timed():
    right = np.eye(3, dtype=np.float32)
    with pytest.raises(SystemExit, match="texts, ours: the outputs do not agree"):
        gpu().check({"texts": right}, {"texts": {"plain": lambda: right, "ours": lambda: right[::-1].copy()}})
