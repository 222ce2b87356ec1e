"""Text on one CPU thread: merged adapters against adapters applied at every forward, packing against padding.

    python -m benchmarks.text_cpu [--layers N] [--rounds N]

The weights are random, in v2's full size; vectors are compared before any time is taken. Texts are rows of random
token ids, so no side pays for a tokenizer. Their characters, by which the reference sorts, follow the token counts at
the rate of their language, with 15 % of noise.
"""

import argparse
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import interleave, print_table
from core_encoder.batching import length_batches
from core_encoder.config import TextConfig
from core_encoder.tokenization import pack
from core_encoder.torch.text_tower import TextLayer, TextMlp, TextTower, rotary_table, rotate_halves

PAD = 1
RANK, SCALING = 4, 1.0
CHARACTERS_PER_TOKEN = {"english": 4.4, "german": 4.0, "chinese": 1.6}  # of the published tokenizer, roughly


def v2_text_tower(num_layers: int) -> TextTower:
    """A tower of v2's width with random weights of a plausible size."""
    config = TextConfig(
        base="jinaai/jina-embeddings-v3",
        vocab_size=250002,
        width=1024,
        num_layers=num_layers,
        num_heads=16,
        mlp_width=4096,
        layer_norm_eps=1e-5,
        type_vocab_size=1,
        pad_token_id=PAD,
        position="rotary",
        rotary_base=20000.0,
    )
    with torch.device("meta"):
        tower = TextTower(config)
    tower = tower.to_empty(device="cpu").requires_grad_(requires_grad=False).eval()
    for name, parameter in tower.named_parameters():
        parameter.uniform_(-0.04, 0.04)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)
    return tower


class ReferenceText:
    """The reference's way: padded batches, and, where asked for, adapters added to every matrix at every forward."""

    def __init__(self, tower: TextTower) -> None:
        """Share the tower's weights."""
        self.tower = tower
        self.adapters: dict[str, tuple[Tensor, Tensor]] = {}

    def add_adapters(self) -> None:
        """Give every matrix and both embeddings a random adapter."""
        for name, weight in self.tower.named_parameters():
            if weight.dim() == 2:
                self.adapters[name] = (torch.randn(weight.shape[0], RANK), torch.randn(RANK, weight.shape[1]) * 0.005)

    def merged(self) -> TextTower:
        """A tower of its own with the adapters merged into the weights, as loading does."""
        tower = v2_text_tower(self.tower.config.num_layers)
        tower.load_state_dict(self.tower.state_dict())
        for name, weight in tower.named_parameters():
            if name in self.adapters:
                left, right = self.adapters[name]
                weight.addmm_(left, right, alpha=SCALING)
        return tower

    def weight(self, name: str, weight: Tensor) -> Tensor:
        """The matrix as the forward sees it: recomputed each time where it has an adapter."""
        if name not in self.adapters:
            return weight
        left, right = self.adapters[name]
        return weight + SCALING * (left @ right)

    @torch.inference_mode()
    def __call__(self, rows: list[list[int]]) -> Tensor:
        """Token ids of B texts -> (B, D) raw features, through one padded batch."""
        tower, config = self.tower, self.tower.config
        longest = max(map(len, rows))
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])  # (B, L)
        mask = ids != PAD
        words = F.embedding(ids, self.weight("word_embedding", tower.word_embedding))
        x = tower.embedding_norm(words + self.weight("token_type", tower.token_type)[0])
        head_width = config.width // config.num_heads
        cos, sin = rotary_table(torch.arange(longest), head_width, float(config.rotary_base or 0))
        bias = torch.zeros(mask.shape).masked_fill(~mask, -10000.0)[:, None, None]  # (B, 1, 1, L)
        for i, module in enumerate(tower.layers):
            layer, mlp = cast("TextLayer", module), cast("TextMlp", cast("TextLayer", module).mlp)
            qkv = self._linear(x, f"layers.{i}.qkv", layer.qkv)
            qkv = qkv.view(*ids.shape, 3, config.num_heads, head_width)  # (B, L, 3, H, d)
            q, k = rotate_halves(qkv[:, :, :2], cos, sin).permute(2, 0, 3, 1, 4)  # (B, H, L, d)
            v = qkv[:, :, 2].transpose(1, 2)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
            x = layer.norm_1(x + self._linear(attended, f"layers.{i}.out", layer.out))
            hidden = F.gelu(self._linear(x, f"layers.{i}.mlp.fc_in", mlp.fc_in))
            x = layer.norm_2(x + self._linear(hidden, f"layers.{i}.mlp.fc_out", mlp.fc_out))
        kept = mask[..., None].float()
        pooled: Tensor = (x * kept).sum(1) / kept.sum(1)
        return pooled

    def _linear(self, x: Tensor, name: str, layer: torch.nn.Linear) -> Tensor:
        return F.linear(x, self.weight(f"{name}.weight", layer.weight), layer.bias)

    def sorted_by_characters(self, rows: list[list[int]], characters: list[int]) -> Tensor:
        """Padded batches of 32, longest texts by characters first."""
        order = sorted(range(len(rows)), key=lambda i: -characters[i])
        out = torch.empty(len(rows), self.tower.config.width)
        for start in range(0, len(order), 32):
            batch = order[start : start + 32]
            out[batch] = self([rows[i] for i in batch])
        return out


@torch.inference_mode()
def ours(tower: TextTower, rows: list[list[int]]) -> Tensor:
    """Token ids of B texts -> (B, D) raw features, as the encoder computes them."""
    out = torch.empty(len(rows), tower.config.width)
    for batch in length_batches([len(row) for row in rows], max_tokens=4096):
        packed = pack([rows[i] for i in batch], pad_token_id=PAD)
        ids, positions = torch.from_numpy(packed.input_ids), torch.from_numpy(packed.positions)
        out[batch] = tower(ids, packed.lengths, positions)
    return out


def mixed_texts(languages: list[str], count: int, seed: int) -> tuple[list[list[int]], list[int]]:
    """Rows of random ids and their characters: log-normal lengths of mean 60, at most 512."""
    rng = np.random.default_rng(seed)
    sigma = 0.9
    lengths = np.clip(rng.lognormal(np.log(60) - sigma**2 / 2, sigma, count), 3, 512).astype(int)
    rows = [rng.integers(5, 250002, length).tolist() for length in lengths]
    rates = [CHARACTERS_PER_TOKEN[languages[i % len(languages)]] for i in range(count)]
    return rows, [int(length * rate * rng.normal(1, 0.15)) for length, rate in zip(lengths, rates, strict=True)]


def check(name: str, expected: Tensor, actual: Tensor) -> None:
    """Stop where two sides do not compute the same unit rows."""
    difference = float((F.normalize(expected, dim=-1) - F.normalize(actual, dim=-1)).abs().max())
    print(f"{name}: the outputs differ by at most {difference:.1e} on unit rows")
    if difference > 3e-5:
        raise SystemExit("the outputs do not agree: no times are taken")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24, help="layers of the query comparison")
    parser.add_argument("--batch-layers", type=int, default=3, help="layers of the batch comparisons; ratios hold")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    reference = ReferenceText(v2_text_tower(options.layers))
    reference.add_adapters()
    merged = reference.merged()
    query = [np.random.default_rng(1).integers(5, 250002, 16).tolist()]
    check("query", reference(query), ours(merged, query))
    seconds = interleave({"r": partial(reference, query), "o": partial(ours, merged, query)}, rounds=options.rounds)
    rows: list[tuple[str, list[float], list[float], float | None]] = [
        ("a 16-token query / adapters at every forward", seconds["r"], seconds["o"], 9.0)
    ]
    del reference, merged  # 7 GB

    plain = ReferenceText(v2_text_tower(options.batch_layers))
    for name, languages, claimed in (
        ("English", ["english"], 1.15),
        ("Chinese, English, German", ["chinese", "english", "german"], 1.8),
    ):
        texts, characters = mixed_texts(languages, 64, seed=2)
        expected = plain(texts)
        check(f"64 texts, {name}, one padded batch", expected, ours(plain.tower, texts))
        check(f"64 texts, {name}, sorted by characters", plain.sorted_by_characters(texts, characters), expected)
        seconds = interleave(
            {
                "padded": partial(plain, texts),
                "sorted": partial(plain.sorted_by_characters, texts, characters),
                "ours": partial(ours, plain.tower, texts),
            },
            rounds=options.rounds,
        )
        rows.append((f"64 texts, {name} / one padded batch", seconds["padded"], seconds["ours"], 4.0))
        rows.append((f"64 texts, {name} / batches of 32 by characters", seconds["sorted"], seconds["ours"], claimed))
    print_table("Text tower of v2's width, fp32, one CPU thread", rows)


if __name__ == "__main__":
    main()
