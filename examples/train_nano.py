"""Train `nano`, the small model that ships with the package, from nothing: under 45 minutes on two CPU cores.

    python examples/train_nano.py my-nano
    python examples/evaluate_nano.py my-nano

Everything is drawn and written by this script: scenes of coloured shapes, and captions in five languages. The seed and
the number of steps are fixed. The towers are those of the product, so the checkpoint runs on the same code as v2's.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nano_training.caption_batches import CaptionBatch, caption_batch
from nano_training.checkpoint_files import PATCH_PX, PREFIXES, build_tokenizer, model_config, write_checkpoint
from nano_training.losses import Heads, contrastive_loss, language_loss
from nano_training.optimiser import MuonAndAdamW, rate_at
from nano_training.scene_groups import GROUP_SIZE, Pictures, batches, draw_pictures
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from core_encoder.torch.model import JinaClip

_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers of a training run; the defaults made the weights that ship."""

    seed: int = 7
    steps: int = 2300
    groups: int = 20_000  # of four scenes, drawn before the training
    batch_size: int = 128
    muon_rate: float = 0.02
    adamw_rate: float = 3e-3
    weight_decay: float = 0.01
    warm_up: int = 100
    decay_share: float = 0.7
    # One weight for each of PREFIXES. With equal ones the loss of 16 values outweighs the others, and 32 lag behind.
    prefix_weights: tuple[float, ...] = (1.0, 4.0, 1.0, 1.0)
    language_weight: float = 0.3
    patch_weight: float = 0.5
    scene_weight: float = 0.3
    max_scale: float = 60.0


@dataclass(eq=False)
class Trainer:
    """What one training step needs and changes."""

    recipe: Recipe
    model: JinaClip
    heads: Heads
    optimiser: MuonAndAdamW

    def step(
        self, step: int, pixels: Tensor, objects: Tensor, owners: Tensor, captions: CaptionBatch
    ) -> dict[str, float]:
        """Learn from one batch and return its losses."""
        recipe, model = self.recipe, self.model
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            tokens = model.vision.tokens(pixels).float()  # (B, 1 + P, D)
            texts = model.text(captions.input_ids, captions.lengths)[captions.order]  # (T, D)
        images = tokens[:, 0]
        scale = model.logit_scale.exp().clamp(max=recipe.max_scale)
        prefixes = dict(zip(PREFIXES, recipe.prefix_weights, strict=True))
        losses = {
            "contrast": contrastive_loss(images, texts, captions.fits.repeat(2, 1), scale, prefixes),
            "language": language_loss(texts, captions.same, scale, prefixes),
            "patch": self.heads.patch_loss(tokens[:, 1:], objects, owners),
            "scene": self.heads.scene_loss(images, objects),
        }
        rate = rate_at(step, recipe.steps, warm_up=recipe.warm_up, decay_share=recipe.decay_share)
        total = (
            losses["contrast"]
            + recipe.language_weight * losses["language"]
            + recipe.patch_weight * losses["patch"]
            + recipe.scene_weight * losses["scene"]
        )
        total.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimiser.step(rate)
        return {name: float(loss.detach()) for name, loss in losses.items()}


def new_trainer(recipe: Recipe, tokenizer: Tokenizer) -> Trainer:
    """Build the model with its initial values."""
    torch.manual_seed(recipe.seed)
    model = JinaClip(model_config(tokenizer))
    torch.nn.init.normal_(model.text.word_embedding, std=0.1)
    torch.nn.init.normal_(model.vision.position_embedding, std=0.02)
    torch.nn.init.normal_(model.vision.class_token, std=0.02)
    torch.nn.init.constant_(model.logit_scale, 2.6592)
    heads = Heads(model.config.embedding_dim)
    optimiser = MuonAndAdamW(
        [*model.named_parameters(), *heads.named_parameters()],
        muon_rate=recipe.muon_rate,
        adamw_rate=recipe.adamw_rate,
        weight_decay=recipe.weight_decay,
    )
    return Trainer(recipe, model, heads, optimiser)


def train(recipe: Recipe, pictures: Pictures, trainer: Trainer, tokenizer: Tokenizer) -> Iterator[dict[str, float]]:
    """Run the training; yield the losses of every step."""
    # The fused CPU kernel's backward pass takes half of a step; plain matrix products in bfloat16 do not.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(enabled=True)
    rng = np.random.default_rng(recipe.seed)
    order = batches(len(pictures.scenes), recipe.batch_size, rng)
    for step in range(recipe.steps):
        chosen = next(order)
        objects = pictures.objects[chosen]
        captions = caption_batch([pictures.scenes[index] for index in chosen], objects, tokenizer, rng)
        yield trainer.step(
            step,
            normalised(pictures.pixels[chosen]),
            torch.from_numpy(objects),
            torch.from_numpy(pictures.owners[chosen]),
            captions,
        )


def normalised(pixels: np.ndarray) -> Tensor:
    """Turn (B, S, S, 3) uint8 into the (B, 3, S, S) float32 that the checkpoint's preprocessing gives."""
    return ((torch.from_numpy(pixels).float() / 255 - _MEAN) / _STD).permute(0, 3, 1, 2)


def main() -> None:
    """Draw the scenes, train, and write the checkpoint; show progress on the way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    folder = parser.parse_args().folder
    recipe, start = Recipe(), time.monotonic()
    processes = os.cpu_count() or 1
    print(f"Drawing {recipe.groups * GROUP_SIZE} scenes on {processes} processes ...", flush=True)
    pictures = draw_pictures(recipe.groups, patch_px=PATCH_PX, seed=recipe.seed, processes=processes)
    tokenizer = build_tokenizer()
    trainer = new_trainer(recipe, tokenizer)
    mean: dict[str, float] = {}
    for step, losses in enumerate(train(recipe, pictures, trainer, tokenizer), start=1):
        mean = {name: 0.98 * mean.get(name, loss) + 0.02 * loss for name, loss in losses.items()}
        if step % 50 == 0 or step == recipe.steps:
            elapsed_s = time.monotonic() - start
            shown = "  ".join(f"{name} {value:.3f}" for name, value in mean.items())
            print(f"step {step}/{recipe.steps}  {elapsed_s / 60:.1f} min  {shown}", flush=True)
    write_checkpoint(folder, trainer.model, tokenizer)
    print(f"Wrote {folder} after {(time.monotonic() - start) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
