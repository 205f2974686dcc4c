"""DP-SGD with Opacus, exact to the bit: the only module that imports torch.

Opacus gives each customer's own gradient and the order of a private step. What it leaves to floats
is done in whole numbers here, so that the sensitivity is a fact of integers and not of rounding:
the forward pass is that of `kesit_privacy.network` (float64 on whole numbers), gradients are
truncated to a lattice, clipped there with the norm checked in integers, summed exactly, and the
noise is the node's own discrete Gaussian. So another customer's gradient is the same to the bit
whoever else is in the batch, and a sum of gradients the same in any order.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray
from kesit_privacy.network import LARGEST_HIDDEN, LARGEST_WEIGHT, WEIGHT, Network
from kesit_privacy.noise import NoiseSource
from kesit_privacy.scorecard import CHANCE, LARGEST, LOGIT, chances
from kesit_privacy.training import NOISE_PARTS, Training

CLIP_UNITS = 1 << 16
"""Lattice units of the clip: a gradient's truncation loses 2^-16 of it in each coordinate."""

LARGEST_UNITS = CLIP_UNITS << 1
"""No coordinate counts as longer before the clip, so that squared norms are exact."""

_INWARD = 1 - 2.0**-40
"""Shrinks a clipped gradient by far more than the few ulps that its scale may be off."""

NUMBERS = 1 << 18
"""Gradients' coordinates that are held at a time; no result depends on it. Inputs are made anew for
each such part, too: memory that grew with the rows would tell a client of very many by its fall."""


def trained(
    model: Network, training: Training, rows: CodeArray, labels: IntArray, noise: NoiseSource
) -> IntArray:
    """The weights of `model` after one training, (weights,), in steps of 2^-16.

    Args:
        rows: (n, columns) codes; labels: (n,) classes, as training counts them.
        noise: draws who is counted, and what is added.
    """
    module = GradSampleModule(_Module(model), loss_reduction="sum")
    optimizer = _Optimizer(module, training, noise)
    event = training.event
    chunk = max(1, NUMBERS // len(model.weights))
    for _ in range(training.steps):
        counted = np.flatnonzero(noise.words(len(rows)).astype(np.int64) < event.rate)
        starts = range(0, max(len(counted), 1), chunk)  # one empty batch where nobody is counted
        for start in starts:
            part = counted[start : start + chunk]
            optimizer.signal_skip_step(start != starts[-1])
            _backward(module, model.inputs.of(rows[part]), labels[part])
            optimizer.step()
            optimizer.zero_grad()
    flat = np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])
    weights: IntArray = np.rint(flat * WEIGHT).astype(np.int64)
    return weights


def lattice(gradients: FloatArray, largest: float) -> FloatArray:
    """Each row's gradient (n, d) in units of largest / 2^16, whole, of norm 2^16 at most.

    A gradient that is not finite becomes 0 first: clipping would leave a NaN as it is. A coordinate
    longer than 2·largest is cut to that, so squared norms are at most d·2^34, exact in float64 for
    d up to 2^19. The last check is in integers, so that the clip rests on no rounding; as in
    `queries.clusters.clip`, no row fails it.
    """
    found = gradients * (CLIP_UNITS / largest)
    found[~np.isfinite(found).all(axis=1)] = 0
    np.clip(found, -LARGEST_UNITS, LARGEST_UNITS, out=found)
    np.trunc(found, out=found)
    norms_sq = np.einsum("ij,ij->i", found, found)
    shrunk = CLIP_UNITS / np.sqrt(np.maximum(norms_sq, 1)) * _INWARD
    found *= np.where(norms_sq > CLIP_UNITS**2, shrunk, 1)[:, None]
    np.trunc(found, out=found)
    found[np.einsum("ij,ij->i", found, found) > CLIP_UNITS**2] = 0
    return found


class _Truncate(torch.autograd.Function):
    """Down to a whole number of `step`, within bounds; gradients pass where it is within."""

    @staticmethod
    def forward(ctx: Any, values: Any, step: float, low: float, high: float) -> Any:
        found = torch.floor(values / step) * step
        ctx.save_for_backward((found > low) & (found < high))
        return torch.clamp(found, low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


class _CrossEntropy(torch.autograd.Function):
    """Nothing, with the gradient of Σ -log p[label] for logits: p - y, of the table of chances."""

    @staticmethod
    def forward(ctx: Any, logits: Any, labels: Any) -> Any:
        ctx.save_for_backward(logits, labels)
        return logits.sum() * 0

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        logits, labels = ctx.saved_tensors
        found = chances(np.rint(logits.numpy() * LOGIT).astype(np.int64)) / CHANCE
        found[np.arange(len(found)), labels.numpy()] -= 1
        return torch.from_numpy(found[:, -logits.shape[1] :].copy()), None


class _Module(nn.Module):
    """A network for torch, in float64: the same numbers to the bit as `Network.points`."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.first = nn.Linear(model.inputs.count, model.hidden, dtype=torch.float64)
        self.second = nn.Linear(model.hidden, model.logits, dtype=torch.float64)
        for parameter, layer in zip(self.parameters(), model.layers, strict=True):
            parameter.data.copy_(torch.from_numpy(layer / WEIGHT))

    def forward(self, inputs: Any) -> Any:
        hidden = _Truncate.apply(self.first(inputs), 1 / GRID, 0.0, LARGEST_HIDDEN / GRID)
        largest = LARGEST / LOGIT
        return _Truncate.apply(self.second(hidden), 1 / LOGIT, -largest, largest)


class _Optimizer(DPOptimizer):
    """Opacus' optimiser, with sums and noise in whole numbers."""

    def __init__(self, module: Any, training: Training, noise: NoiseSource) -> None:
        assert training.batch is not None
        assert training.learning_rate is not None
        self._source, self._event = noise, training.event
        super().__init__(
            torch.optim.SGD(module.parameters(), lr=training.learning_rate),
            noise_multiplier=self._event.noise / NOISE_PARTS,
            max_grad_norm=training.clip,
            expected_batch_size=training.batch,
            loss_reduction="mean",
        )

    def clip_and_accumulate(self) -> None:
        flat = [p.grad_sample.reshape(len(p.grad_sample), p.numel()) for p in self.params]
        gradients = torch.cat(flat, dim=1).numpy()
        total = lattice(gradients, self.max_grad_norm).sum(axis=0)  # whole numbers: any order
        sizes = [p.numel() for p in self.params]
        for p, part in zip(self.params, np.split(total, np.cumsum(sizes)[:-1]), strict=True):
            before = 0 if p.summed_grad is None else p.summed_grad
            p.summed_grad = before + torch.from_numpy(part).reshape(p.shape)

    def add_noise(self) -> None:
        # One call over all parameters, of variance (noise_multiplier·clip)² in lattice units.
        sizes = [p.numel() for p in self.params]
        variance = Fraction(self._event.noise * CLIP_UNITS, NOISE_PARTS) ** 2
        drawn = self._source.sample(variance, sum(sizes))
        for p, part in zip(self.params, np.split(drawn, np.cumsum(sizes)[:-1]), strict=True):
            noisy = p.summed_grad + torch.from_numpy(part).reshape(p.shape)
            p.grad = noisy * (self.max_grad_norm / CLIP_UNITS)

    def step(self, closure: Any = None) -> None:
        if self.pre_step(closure):
            self.original_optimizer.step()
            bound = LARGEST_WEIGHT / WEIGHT
            for p in self.params:  # back to the grid, so that the next step is exact
                p.data.copy_(torch.clamp(torch.round(p.data * WEIGHT) / WEIGHT, -bound, bound))


def _backward(module: Any, inputs: FloatArray, labels: IntArray) -> None:
    """Fill in each parameter's gradients of these rows, one by one; zero rows give none."""
    if len(inputs) == 0:
        for p in module.parameters():
            p.grad_sample = torch.zeros((0, *p.shape), dtype=torch.float64)
        return
    # Inputs that need a gradient: torch would warn of hooks on a layer without one.
    logits = module(torch.from_numpy(inputs / GRID).requires_grad_())
    _CrossEntropy.apply(logits, torch.from_numpy(labels)).backward()
