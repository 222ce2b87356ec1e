"""Both towers on one GPU in bfloat16: throughput as a share of the GPU's matrix products, and the latency of a query.

    python -m benchmarks.gpu --full       # under 4 minutes on a GPU; without one, rows say "not measured"
    python -m benchmarks.gpu --quick      # the same program on tiny sizes, on a CPU where there is no GPU

Everything is held against float32 before a time is taken. The baselines are those of a careful user: eager layers and
torch's fused attention, texts sorted into padded batches of 256, pictures that are normalised and uploaded before. Ours
starts from token ids and from squares of bytes in the memory of the CPU, and ends with float32 there.
"""

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.comparison import Bench, cosine_distance, main, unit_difference
from benchmarks.full_size_checkpoint import MEAN, STD, V2, raw_config
from benchmarks.text_sides import PaddedText, Rows, mixed_texts
from core_encoder.config import ModelConfig, TextConfig, VisionConfig, parse_config, read_config
from core_encoder.image_preprocess import PreprocessConfig, pixel_values
from core_encoder.tokenization import pack
from core_encoder.torch.attention import choose_backend
from core_encoder.torch.gpu import GpuTowers
from core_encoder.torch.model import JinaClip
from core_encoder.torch.recorded import record_graph
from core_encoder.torch.runtime import packed_features

_NANO = Path(__file__).parents[1] / "core_encoder" / "nano"
_NEVER = 10**18
_SECONDS = 20.0  # of the rounds of one comparison, so that the whole run stays below 4 minutes
_TOLERANCE = 0.002  # one minus the cosine to float32; a few layers of this width are at 5e-5
_QUERY_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A row of the table before it is measured."""

    what: str
    unit: str = "x"
    bar: float | None = None
    hope: float | None = None
    at_most: bool = False


_FIGURES = {
    "peak": Figure(what="matrix products of 8192 in bf16 (the peak below)", unit="GFLOP/s"),
    "image share": Figure(what="pictures, bf16, compiled: of the peak", unit="%", bar=50, hope=60),
    "image rate": Figure(what="the same", unit="pictures/s"),
    "image eager": Figure(what="pictures, bf16, before a long job compiles", unit="pictures/s"),
    "image ratio": Figure(what="pictures, compiled / eager layers and pixels uploaded before"),
    "text share": Figure(what="packed texts, bf16, compiled: of the peak", unit="%", bar=45, hope=58),
    "text rate": Figure(what="the same", unit="tokens/s"),
    "text eager": Figure(what="packed texts, bf16, before a long job compiles", unit="tokens/s"),
    "text ratio": Figure(what="packed texts, compiled / eager layers, padded batches of 256"),
    "text query": Figure(what="query of 16 tokens, p50", unit="ms", bar=2, hope=0.8, at_most=True),
    "text query ratio": Figure(what="query of 16 tokens, replayed / eager layers"),
    "image query": Figure(what="query of one picture, p50", unit="ms", bar=6, hope=4, at_most=True),
    "image query ratio": Figure(what="query of one picture, replayed / eager layers and pixels uploaded before"),
}


def text_flops(config: TextConfig, lengths: Sequence[int]) -> int:
    """Floating-point operations of texts of these lengths; a multiplication and an addition are two.

    Each of N tokens meets, in each layer, D x 3D weights for queries, keys and values, D x D behind attention, and the
    MLP: D x M and M x D, or D x 2M and M x D where it is gated. Attention multiplies L x d with d x L and L x L with
    L x d in each head, which is 4 * L * L * D for a text of L tokens.
    """
    width, hidden = config.width, config.mlp_width
    weights = 4 * width * width + (3 if config.gated_mlp else 2) * width * hidden
    attention = sum(4 * length * length * width for length in lengths)
    return config.num_layers * (2 * sum(lengths) * weights + attention)


def image_flops(config: VisionConfig) -> int:
    """Floating-point operations of one picture.

    P patches of p * p * 3 values meet D columns. Then the class token and the patches, N = 1 + P, meet in each layer
    D x 3D, D x D, D x 2M and M x D weights, and attention is 4 * N * N * D. M is the hidden width of the configuration:
    the zeros that ours adds to it are not counted.
    """
    width, tokens = config.width, 1 + config.grid**2
    embedding = 2 * config.grid**2 * config.patch_size**2 * 3 * width
    weights = 4 * width * width + 3 * width * config.mlp_width
    return embedding + config.num_layers * (2 * tokens * weights + 4 * tokens * tokens * width)


def random_model(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> JinaClip:
    """Both towers with uniform weights; the scales of norms are around 1."""
    with torch.device("meta"):
        empty = JinaClip(config)
    model = empty.to(dtype).to_empty(device=device).requires_grad_(requires_grad=False).eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.uniform_(-0.04, 0.04)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)
    text = config.text
    model.text.backend = choose_backend(
        "auto", device, dtype, biased=text.position == "alibi", head_width=text.width // text.num_heads
    )
    return model


def products_per_second(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """The best of 5 times 10 products of two square matrices, in floating-point operations per second."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    best = 0.0
    for _ in range(6):  # the first one warms up, and is never the best
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(left, right, out=out)
        float(out[0, 0])  # waits
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - start))
    return best


class Run:
    """One model with all sides, and what they are given."""

    def __init__(self, bench: Bench, device: torch.device) -> None:
        """Build the model: v2's size, or nano's for a quick run."""
        self.bench, self.device = bench, device
        self.gpu = device.type == "cuda"
        self.dtype = torch.bfloat16 if self.gpu else torch.float32
        config = read_config(_NANO) if bench.quick else parse_config(raw_config(V2))
        self.config, side = config, config.vision.image_size
        self.preprocessing = PreprocessConfig(size=side, mean=_triple(MEAN), std=_triple(STD))
        self.model = random_model(config, device, self.dtype)
        self.batch_tokens = 64 if bench.quick else 65536
        self.eager, self.compiled = self._towers(_NEVER), self._towers(0)
        self.padded = PaddedText(self.model.text, {}, 1.0)

        languages = ["chinese", "english", "german"]
        rows, characters = mixed_texts(languages, 4 if bench.quick else 2000, config.text.vocab_size)
        kept = int(np.searchsorted(np.cumsum([len(row) for row in rows]), self.batch_tokens, side="right"))
        order = sorted(range(max(2, kept)), key=lambda i: -characters[i])  # as a user of padded batches sorts
        self.texts: Rows = [rows[i] for i in order]
        self.query: Rows = [self.texts[0][:_QUERY_TOKENS]]
        tokens = 1 + config.vision.grid**2
        count = 2 if bench.quick else self.batch_tokens // tokens
        self.squares = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)

    def _towers(self, before_compiling: int) -> GpuTowers:
        return GpuTowers(
            self.model,
            self.preprocessing,
            tokens_per_batch=self.batch_tokens,
            record=record_graph if self.gpu else lambda compute, _device: compute,
            backend="inductor" if self.gpu else "eager",
            before_compiling=before_compiling,
        )

    def pixels(self, squares: NDArray[np.uint8], dtype: torch.dtype) -> Tensor:
        """Normalised pictures on the device."""
        return torch.from_numpy(pixel_values(squares, self.preprocessing)).to(self.device, dtype)

    def in_float32(self) -> dict[str, NDArray[np.float32]]:
        """What the same weights give in float32: texts, pictures and the two queries."""
        reference = random_model(self.config, self.device, torch.float32)
        reference.load_state_dict(self.model.state_dict())
        pad = self.config.text.pad_token_id
        with torch.inference_mode():
            found = {
                name: packed_features(reference, pack(rows, pad_token_id=pad)).cpu().numpy()
                for name, rows in (("texts", self.texts), ("text query", self.query))
            }
            images = [
                reference.vision(self.pixels(self.squares[start : start + 10], torch.float32)).cpu().numpy()
                for start in range(0, len(self.squares), 10)
            ]
        return found | {"pictures": np.concatenate(images), "image query": images[0][:1]}

    def sides(self) -> dict[str, dict[str, Callable[[], NDArray[np.float32]]]]:
        """The ways to compute each of the four."""
        pad = self.config.text.pad_token_id
        pixels = self.pixels(self.squares, self.dtype)

        def text(towers: GpuTowers, rows: Rows) -> NDArray[np.float32]:
            return towers.text_features(pack(rows, pad_token_id=pad))

        def padded(rows: Rows) -> NDArray[np.float32]:
            return np.concatenate(
                [self.padded.one_batch(rows[start : start + 256]) for start in range(0, len(rows), 256)]
            )

        @torch.inference_mode()
        def plain(given: Tensor) -> NDArray[np.float32]:
            return np.asarray(self.model.vision(given).cpu().numpy())

        return {
            "texts": {
                "plain": partial(padded, self.texts),
                "eager": partial(text, self.eager, self.texts),
                "ours": partial(text, self.compiled, self.texts),
            },
            "pictures": {
                "plain": partial(plain, pixels),
                "eager": partial(self.eager.image_features, self.squares),
                "ours": partial(self.compiled.image_features, self.squares),
            },
            "text query": {"plain": partial(padded, self.query), "ours": partial(text, self.eager, self.query)},
            "image query": {
                "plain": partial(plain, pixels[:1]),
                "ours": partial(self.eager.image_features, self.squares[:1]),
            },
        }


def check(
    expected: Mapping[str, NDArray[np.float32]], sides: Mapping[str, Mapping[str, Callable[[], NDArray[np.float32]]]]
) -> None:
    """Stop where a side is far from float32; the compiler and the recordings run here for the first time."""
    for job, ways in sides.items():
        for name, compute in ways.items():
            start = time.perf_counter()
            found = compute()
            passed = time.perf_counter() - start
            distance, most = cosine_distance(expected[job], found), unit_difference(expected[job], found)
            print(
                f"{job}, {name}, against float32: smallest cosine {1 - distance:.6f}, unit rows differ by at most "
                f"{most:.1e}; the first run took {passed:.1f} s"
            )
            if not distance <= _TOLERANCE:
                raise SystemExit(f"{job}, {name}: the outputs do not agree with float32: no times are taken")


def median_s(compute: Callable[[], object], runs: int) -> float:
    """The median of some runs in a row, in seconds."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        compute()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


class _Warnings(logging.Handler):
    """Keeps what the towers say when a compiler or a recording fails."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())
        print(f"WARNING: {record.getMessage()}")


def run(bench: Bench) -> None:
    """Check, then measure; without a GPU a full run has rows without figures."""
    bench.seconds = min(bench.seconds, _SECONDS)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not bench.quick:
        print("there is no GPU here: nothing is measured")
        for key in _FIGURES:
            _record(bench, key, [])
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"gpu: {name}, CUDA {torch.version.cuda}")
    torch.set_num_threads(max(bench.threads, 1))
    warnings = _Warnings()
    logging.getLogger("core_encoder.torch").addHandler(warnings)
    measure(Run(bench, device), {"gpu": name, "cuda": torch.version.cuda, "warnings": warnings.told})


def measure(all_sides: Run, details: dict[str, object]) -> None:
    """Add every row to the run's `Bench`."""
    bench, config = all_sides.bench, all_sides.config
    sides = all_sides.sides()
    check(all_sides.in_float32(), sides)

    matrix_side = 256 if bench.quick else 8192
    peaks = [products_per_second(all_sides.device, all_sides.dtype, matrix_side)]
    seconds = {job: bench.interleave(sides[job]) for job in ("pictures", "texts")}
    for job in ("text query", "image query"):
        runs = 2 if bench.quick else 25
        ways: dict[str, list[float]] = {name: [] for name in sides[job]}
        for _ in range(2 if bench.quick else 20):
            for name, compute in sides[job].items():
                ways[name].append(median_s(compute, runs))
        seconds[job] = ways
    peaks.append(products_per_second(all_sides.device, all_sides.dtype, matrix_side))
    peak = max(peaks)

    _record(bench, "peak", [peak / 1e9], details | {"before_and_after": peaks})
    lengths = [len(row) for row in all_sides.texts]
    for job, short, work, amount in (
        ("pictures", "image", len(all_sides.squares) * image_flops(config.vision), len(all_sides.squares)),
        ("texts", "text", text_flops(config.text, lengths), sum(lengths)),
    ):
        found = seconds[job]
        flops = details | {"flop": work, "seconds": found}
        _record(bench, f"{short} share", [100 * work / s / peak for s in found["ours"]], flops)
        _record(bench, f"{short} rate", [amount / s for s in found["ours"]])
        _record(bench, f"{short} eager", [amount / s for s in found["eager"]])
        _record(bench, f"{short} ratio", _ratios(found))
        _record(bench, f"{short} query", [1000 * s for s in seconds[f"{short} query"]["ours"]], details)
        _record(bench, f"{short} query ratio", _ratios(seconds[f"{short} query"]))


def _ratios(seconds: Mapping[str, Sequence[float]]) -> list[float]:
    return [plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"], strict=True)]


def _record(bench: Bench, key: str, values: Sequence[float], details: dict[str, object] | None = None) -> None:
    figure = _FIGURES[key]
    bench.record(
        figure.what,
        values,
        unit=figure.unit,
        bar=figure.bar,
        hope=figure.hope,
        at_most=figure.at_most,
        **(details or {}),
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


if __name__ == "__main__":
    main("gpu", __doc__, run)
