"""Muon for the matrices inside the blocks, AdamW for everything else."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_NEWTON_SCHULZ_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
# Weights that hold several matrices one below the other: each is made orthogonal by itself.
_STACKED: Mapping[str, int] = {"qkv.weight": 3, "mlp_in.weight": 2}


def orthogonalised(matrices: Tensor) -> Tensor:
    """Push all singular values of (K, m, n) matrices towards 1, m <= n.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", the quintic iteration.
    """
    a, b, c = _COEFFICIENTS
    x: Tensor = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT  # (K, m, m)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.float()


class MuonAndAdamW:
    """Both optimisers behind one `step`; each parameter belongs to exactly one of them."""

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        muon_rate: float,
        adamw_rate: float,
        weight_decay: float,
    ) -> None:
        """Sort the parameters: matrices of layers and blocks go to Muon."""
        self._muon_rate, self._weight_decay, self._rate = muon_rate, weight_decay, adamw_rate
        self._by_shape: dict[tuple[int, ...], list[tuple[nn.Parameter, int]]] = defaultdict(list)
        others = []
        for name, parameter in named_parameters:
            if parameter.ndim == 2 and (".layers." in name or ".blocks." in name):
                parts = next((count for suffix, count in _STACKED.items() if name.endswith(suffix)), 1)
                self._by_shape[parts, *parameter.shape].append((parameter, parts))
            else:
                others.append(parameter)
        self._momenta = {
            parameter: torch.zeros_like(parameter) for group in self._by_shape.values() for parameter, _ in group
        }
        self._adamw = torch.optim.AdamW(others, lr=adamw_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def step(self, rate: float) -> None:
        """Take one step with both learning rates multiplied by `rate`, and clear the gradients."""
        for group in self._adamw.param_groups:
            group["lr"] = self._rate * rate
        self._adamw.step()
        self._adamw.zero_grad()
        with torch.no_grad():
            for alike in self._by_shape.values():
                self._muon_step(alike, self._muon_rate * rate)

    def _muon_step(self, group: list[tuple[nn.Parameter, int]], rate: float) -> None:
        updates = []
        for parameter, parts in group:
            if parameter.grad is None:
                raise RuntimeError("a parameter got no gradient: it takes no part in the loss")
            momentum = self._momenta[parameter].lerp_(parameter.grad, 1 - _MOMENTUM)
            update = parameter.grad.lerp(momentum, _MOMENTUM)  # Nesterov's look ahead
            updates.append(update.view(parts, -1, update.shape[1]))
            parameter.grad = None
        stacked = torch.cat(updates)  # (K, m, n)
        tall = stacked.shape[1] > stacked.shape[2]
        direction = orthogonalised(stacked.mT).mT if tall else orthogonalised(stacked)
        direction = direction * max(1.0, stacked.shape[1] / stacked.shape[2]) ** 0.5
        start = 0
        for parameter, parts in group:
            parameter.mul_(1 - rate * self._weight_decay)
            parameter.sub_(direction[start : start + parts].reshape(parameter.shape), alpha=rate)
            start += parts


def rate_at(step: int, steps: int, *, warm_up: int, decay_share: float) -> float:
    """Rise linearly, stay at 1, and fall linearly to 0 over the last `decay_share` of the steps."""
    left = (steps - step) / (steps * decay_share)
    return min(1.0, (step + 1) / warm_up, left)
