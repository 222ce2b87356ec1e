"""The image tower as a careful user runs it: timm's `Eva`, with torch's fused attention and q, k and v of their own."""

from collections.abc import Sequence

import numpy as np
import timm.models.eva
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core_encoder.runtime import Runtime
from core_encoder.torch.runtime import TorchRuntime
from core_encoder.torch.vision_tower import VisionTower

_MLP_RATIO = 2.6667
_RENAMES = {
    "class_token": "cls_token",
    "position_embedding": "pos_embed",
    "patch_embedding.": "patch_embed.proj.",
    "norm_1.": "norm1.",
    "norm_2.": "norm2.",
    "attention_norm.": "attn.norm.",
    ".out.": ".attn.proj.",
    "q_bias": "attn.q_proj.bias",
    "v_bias": "attn.v_proj.bias",
    "mlp_norm.": "mlp.norm.",
    "mlp_out.": "mlp.fc2.",
}


class TimmImages:
    """Pictures in, raw features out, through timm's model with our weights."""

    def __init__(self, ours: Runtime, mean: Sequence[float], std: Sequence[float]) -> None:
        """Build timm's model.

        Args:
            ours: on torch; its weights are shared.
            mean: of the three channels.
            std: of the three channels.
        """
        if not isinstance(ours, TorchRuntime):
            raise TypeError(f"{ours!r} is not on torch")
        self.model = _timm_tower(ours.model.vision)
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))

    @torch.inference_mode()
    def __call__(self, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(B, S, S, 3) -> (B, D)."""
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S)
        features: Tensor = self.model((pixels - self.mean) / self.std)
        return np.asarray(features.numpy())


def _timm_tower(ours: VisionTower) -> nn.Module:
    config = ours.config
    span = int(config.rope_span)
    theirs = timm.models.eva.Eva(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.num_layers,
        num_heads=config.num_heads,
        mlp_ratio=_MLP_RATIO,
        num_classes=0,
        global_pool="token",
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(span, span),
    )
    state: dict[str, Tensor] = {}
    for name, tensor in ours.state_dict().items():
        if "qkv.weight" in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[name.replace("qkv.", f"attn.{letter}_proj.")] = part
        elif "mlp_in." in name:
            for side, part in zip("gx", tensor.chunk(2), strict=True):
                state[name.replace("mlp_in.", f"mlp.fc1_{side}.")] = part
        else:
            for old, new in _RENAMES.items():
                name = name.replace(old, new)
            state[name] = tensor
    theirs.load_state_dict(state, strict=True)
    eva: nn.Module = theirs.eval().requires_grad_(requires_grad=False)
    return eva


def pictures(count: int, side: int) -> NDArray[np.uint8]:
    """(B, S, S, 3) of smooth random colours, as photographs are."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, side // 8, side // 8, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, axis=1).repeat(8, axis=2))
