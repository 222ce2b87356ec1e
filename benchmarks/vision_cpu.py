"""Our image blocks against timm's `Eva` with the same weights: throughput on one CPU thread, and the time to import.

    python -m benchmarks.vision_cpu [--layers N] [--rounds N]

Needs the extra `dev` (timm). Random weights of v2's width; outputs are compared first.
"""

import argparse
import subprocess
import sys
from functools import partial

import timm.models.eva
import torch
from torch import Tensor, nn

from benchmarks.timing import interleave, print_table
from core_encoder.config import VisionConfig
from core_encoder.torch.vision_tower import VisionTower

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


def timm_tower(ours: VisionTower, mlp_ratio: float, span: int) -> nn.Module:
    """Timm's model with our weights."""
    config = ours.config
    theirs = timm.models.eva.Eva(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.num_layers,
        num_heads=config.num_heads,
        mlp_ratio=mlp_ratio,
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
    return theirs.eval()


def import_seconds(module: str) -> None:
    """Import a module in a new process."""
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603 - our own code


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = VisionConfig(
        image_size=512,
        patch_size=14,
        width=1024,
        num_layers=options.layers,
        num_heads=16,
        mlp_width=2730,
        rope_span=16.0,
    )
    ours = VisionTower(config).requires_grad_(requires_grad=False).eval()
    theirs = timm_tower(ours, 2.6667, 16)
    pixels = torch.randn(1, 3, 512, 512)
    with torch.inference_mode():
        difference = float((ours(pixels) - theirs(pixels)).abs().max())
        print(f"the raw features differ by at most {difference:.1e}")
        if difference > 1e-4:
            raise SystemExit("the outputs do not agree: no times are taken")
        seconds = interleave({"timm": partial(theirs, pixels), "ours": partial(ours, pixels)}, rounds=options.rounds)
    imports = interleave(
        {
            "timm": partial(import_seconds, "timm.models.eva"),
            "ours": partial(import_seconds, "core_encoder.torch.vision_tower"),
        },
        rounds=options.rounds,
    )
    print_table(
        "Image tower of v2's width, fp32, one CPU thread",
        [
            (f"one image, {options.layers} blocks / timm's Eva", seconds["timm"], seconds["ours"], None),
            ("import, whole process / timm.models.eva", imports["timm"], imports["ours"], None),
        ],
    )


if __name__ == "__main__":
    main()
