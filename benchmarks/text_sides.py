"""The text tower as others run it, in torch, and as the encoder runs it: sides of the text benchmarks.

B0 is the published code's way: adapters are added to every matrix at every forward. B1 is a careful user's: adapters
merged once, torch's fused attention, texts sorted by characters into padded batches of 16. Texts are rows of random
token ids, so that no side pays for a tokenizer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from core_encoder.config import read_config
from core_encoder.features import text_features
from core_encoder.models import WEIGHTS_FILE
from core_encoder.runtime import Runtime
from core_encoder.tokenization import TokenizedText
from core_encoder.torch.runtime import TorchRuntime
from core_encoder.torch.text_tower import TextLayer, TextMlp, TextTower, rotary_table, rotate_halves
from core_encoder.weights import weight_table

Rows = Sequence[Sequence[int]]  # token ids of each text

_CHARACTERS_PER_TOKEN = {"english": 4.4, "german": 4.0, "chinese": 1.6}  # of the published tokenizer, roughly
_COLLECTION, _BATCH, _BATCHES = 4096, 16, 4


class PaddedText:
    """v2's text tower on padded batches; adapters, where there are any, are added at every forward."""

    def __init__(self, tower: TextTower, adapters: Mapping[str, tuple[Tensor, Tensor]], scaling: float) -> None:
        """Share the tower's weights.

        Args:
            tower: v2's.
            adapters: two factors for each weight that has an adapter, by the weight's name in the tower.
            scaling: of the product of the two.
        """
        self.tower, self.adapters, self.scaling = tower, adapters, scaling

    @classmethod
    def published(cls, folder: Path) -> "PaddedText":
        """B0: the weights of a v2 checkpoint as they are in the file, in float32."""
        model_config = read_config(folder)
        config = model_config.text
        if config.lora is None:
            raise SystemExit(f"{folder} has no adapters: it is no checkpoint of v2")
        with torch.device("meta"):
            tower = TextTower(config)
        tower = tower.to_empty(device="cpu").requires_grad_(requires_grad=False).eval()
        parameters = {f"text.{name}": parameter for name, parameter in tower.named_parameters()}
        adapters: dict[str, tuple[Tensor, Tensor]] = {}
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            for weight in weight_table(model_config):
                if weight.target not in parameters:
                    continue
                adapted = weight.adapter is not None
                parameters[weight.target].copy_(file.get_tensor(f"{weight.key}.original" if adapted else weight.key))
                if adapted:
                    a, b = (file.get_tensor(f"{weight.key}.0.lora_{x}")[config.lora.active].float() for x in "AB")
                    pair = (b, a) if weight.adapter == "linear" else (a, b)
                    adapters[weight.target.removeprefix("text.")] = pair
        return cls(tower, adapters, config.lora.scaling)

    @classmethod
    def merged(cls, runtime: Runtime) -> "PaddedText":
        """B1: the weights of a loaded model, in which the adapters are merged."""
        if not isinstance(runtime, TorchRuntime):
            raise TypeError(f"{runtime!r} is not on torch")
        return cls(runtime.model.text, {}, 1.0)

    @torch.inference_mode()
    def one_batch(self, rows: Rows) -> NDArray[np.float32]:
        """Token ids of B texts -> (B, D) raw features, through one padded batch."""
        tower, config = self.tower, self.tower.config
        longest = max(map(len, rows))
        device = tower.word_embedding.device
        ids = torch.tensor(
            [[*row, *[config.pad_token_id] * (longest - len(row))] for row in rows], device=device
        )  # (B, L)
        mask = ids != config.pad_token_id
        words = F.embedding(ids, self._weight("word_embedding", tower.word_embedding))
        x = tower.embedding_norm(words + self._weight("token_type", tower.token_type)[0])  # (B, L, D)
        head_width = config.width // config.num_heads
        cos, sin = rotary_table(torch.arange(longest, device=device), head_width, float(config.rotary_base or 0))
        seen = None if mask.all() else mask[:, None, None]  # (B, 1, 1, L)
        for i, module in enumerate(tower.layers):
            layer, mlp = cast("TextLayer", module), cast("TextMlp", cast("TextLayer", module).mlp)
            qkv = self._linear(x, f"layers.{i}.qkv", layer.qkv)
            qkv = qkv.view(*ids.shape, 3, config.num_heads, head_width)  # (B, L, 3, H, d)
            q, k = rotate_halves(qkv[:, :, :2], cos, sin).permute(2, 0, 3, 1, 4)  # (B, H, L, d)
            v = qkv[:, :, 2].transpose(1, 2)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)
            x = layer.norm_1(x + self._linear(attended, f"layers.{i}.out", layer.out))
            hidden = F.gelu(self._linear(x, f"layers.{i}.mlp.fc_in", mlp.fc_in))
            x = layer.norm_2(x + self._linear(hidden, f"layers.{i}.mlp.fc_out", mlp.fc_out))
        kept = mask[..., None].float()
        return np.asarray(((x * kept).sum(1) / kept.sum(1)).cpu().numpy())

    def batches(self, batches: Sequence[Rows]) -> NDArray[np.float32]:
        """The same through one padded batch after another."""
        return np.concatenate([self.one_batch(rows) for rows in batches])

    def _weight(self, name: str, weight: Tensor) -> Tensor:
        """The matrix as the forward sees it: computed each time where it has an adapter."""
        if name not in self.adapters:
            return weight
        left, right = self.adapters[name]
        return weight + self.scaling * (left @ right)

    def _linear(self, x: Tensor, name: str, layer: torch.nn.Linear) -> Tensor:
        return F.linear(x, self._weight(f"{name}.weight", layer.weight), layer.bias)


def encode(runtime: Runtime, rows: Rows) -> NDArray[np.float32]:
    """Token ids of B texts -> (B, D) raw features, in the batches that the encoder makes."""
    out = np.empty((len(rows), runtime.config.embedding_dim), np.float32)
    for batch, features in text_features(runtime, [TokenizedText(list(row), len(row)) for row in rows]):
        out[batch] = features
    return out


def query(tokens: int, vocab_size: int) -> list[list[int]]:
    """One text of random ids."""
    return [np.random.default_rng(1).integers(5, vocab_size, tokens).tolist()]


def mixed_texts(languages: Sequence[str], count: int, vocab_size: int) -> tuple[list[list[int]], list[int]]:
    """Rows of random ids and their characters: log-normal lengths of mean 60, at most 512.

    Characters, by which others sort, follow the token counts at the rate of their language, with 15 % of noise.
    """
    rng = np.random.default_rng(2)
    sigma = 0.9
    lengths = np.clip(rng.lognormal(np.log(60) - sigma**2 / 2, sigma, count), 3, 512).astype(int)
    rows = [rng.integers(5, vocab_size, length).tolist() for length in lengths]
    rates = [_CHARACTERS_PER_TOKEN[languages[i % len(languages)]] for i in range(count)]
    return rows, [int(length * rate * rng.normal(1, 0.15)) for length, rate in zip(lengths, rates, strict=True)]


def sorted_batches(languages: Sequence[str], vocab_size: int) -> list[list[list[int]]]:
    """Four batches of 16 of 4096 mixed texts that are sorted by characters, evenly spaced; all pad more."""
    rows, characters = mixed_texts(languages, _COLLECTION, vocab_size)
    order = np.argsort(-np.array(characters)).reshape(-1, _BATCH)  # (batches, 16)
    chosen = order[((np.arange(_BATCHES) + 0.5) * len(order) / _BATCHES).astype(int)]  # (4, 16)
    return [[rows[i] for i in batch] for batch in chosen]
