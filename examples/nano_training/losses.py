"""What the training minimises: contrast at every prefix, agreement between languages, and small heads."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core_encoder.nano.scenes import COLOURS, PLACES, SHAPES, SIZES

_BACKGROUND_WEIGHT = 0.1  # most patches show nothing


def contrastive_loss(
    images: Tensor, texts: Tensor, fits: Tensor, scale: Tensor, prefixes: Mapping[int, float]
) -> Tensor:
    """InfoNCE in both directions, averaged over prefixes; a text that fits another picture is no negative for it.

    Args:
        images: (B, D) raw features.
        texts: (T, D) raw features; text t describes picture t mod B.
        fits: (T, B) bool, whether a text is true of a picture.
        scale: what cosines are multiplied with.
        prefixes: lengths of the prefixes that must work by themselves, and the weight of each.
    """
    rows = torch.arange(len(texts))
    columns = rows % len(images)
    total = images.new_zeros(())
    for length, weight in prefixes.items():
        logits = scale * F.normalize(texts[:, :length], dim=1) @ F.normalize(images[:, :length], dim=1).T  # (T, B)
        positive = logits[rows, columns]
        negative = logits.masked_fill(fits, -torch.inf)
        # -log(e^p / (e^p + sum e^n)) = softplus(logsumexp(n) - p)
        of_picture = F.softplus(negative.logsumexp(dim=1) - positive).mean()
        of_text = F.softplus(negative.logsumexp(dim=0)[columns] - positive).mean()
        total = total + weight * (of_picture + of_text) / 2
    return total / sum(prefixes.values())


def language_loss(texts: Tensor, same: Tensor, scale: Tensor, prefixes: Mapping[int, float]) -> Tensor:
    """InfoNCE between the first and the second half of `texts`: the same descriptions in other languages."""
    first, second = texts.chunk(2)
    total = texts.new_zeros(())
    for length, weight in prefixes.items():
        logits = scale * F.normalize(first[:, :length], dim=1) @ F.normalize(second[:, :length], dim=1).T
        negative = logits.masked_fill(same, -torch.inf)
        sides = [F.softplus(negative.logsumexp(dim=dim) - logits.diagonal()).mean() for dim in (0, 1)]
        total = total + weight * (sides[0] + sides[1]) / 2
    return total / sum(prefixes.values())


class Heads(nn.Module):
    """Linear heads that ask each patch, and the whole picture place by place, what is there; for training only."""

    def __init__(self, width: int) -> None:
        """Start from torch's default initial values."""
        super().__init__()
        self.sizes = [len(SHAPES) + 1, len(COLOURS) + 1, len(SIZES) + 1]  # the last class is "nothing"
        self.patch = nn.Linear(width, sum(self.sizes))
        self.scene = nn.Linear(width, len(PLACES) * sum(self.sizes))

    def patch_loss(self, patches: Tensor, objects: Tensor, owners: Tensor) -> Tensor:
        """Cross-entropy of shape, colour and size of each patch: (B, P, D), (B, 3, 4), (B, P)."""
        shown = objects.gather(1, owners.clamp(min=0)[..., None].expand(-1, -1, 4))  # (B, P, 4)
        shown = torch.where(owners[..., None] < 0, -1, shown)
        return self._loss(self.patch(patches), shown)

    def scene_loss(self, features: Tensor, objects: Tensor) -> Tensor:
        """Cross-entropy of shape, colour and size at each of the nine places: (B, D), (B, 3, 4)."""
        at_place = torch.full((len(objects), len(PLACES), 4), -1)
        picture, index = (objects[..., 0] >= 0).nonzero(as_tuple=True)
        at_place[picture, objects[picture, index, 3]] = objects[picture, index]
        return self._loss(self.scene(features).view(len(objects), len(PLACES), -1), at_place)

    def _loss(self, logits: Tensor, coded: Tensor) -> Tensor:
        total = logits.new_zeros(())
        for attribute, part in enumerate(torch.split(logits.float(), self.sizes, dim=-1)):
            nothing = self.sizes[attribute] - 1
            target = torch.where(coded[..., attribute] < 0, nothing, coded[..., attribute])
            weight = torch.ones(nothing + 1)
            weight[nothing] = _BACKGROUND_WEIGHT
            total = total + F.cross_entropy(part.flatten(0, 1), target.flatten(), weight=weight)
        return total
