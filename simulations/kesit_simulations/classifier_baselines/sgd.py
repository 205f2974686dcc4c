"""DP-SGD: logistic regression by noisy, clipped gradients, with a trusted curator (Opacus).

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, of Opacus' parts: Poisson
sampling, each row's gradient clipped, Gaussian noise on their sum, and the noise that its PRV
accountant finds for (ε, δ). Neighbours differ by adding or removing a row; the sampling rate and
the number of steps are public, and so is the number of training rows, which scales a step.

Opacus has no default for a learning rate or a number of steps, and a poor choice costs more than
the privacy does: this baseline is always tuned.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

from kesit_privacy.features import FloatArray
from kesit_simulations.classifier_baselines.problem import ClassifierProblem
from kesit_simulations.classifier_baselines.tuning import tuned
from kesit_simulations.errors import SimulationError

STREAM = 2
CLIP = 1.0
"""Largest norm of a row's gradient; a larger one trades against the learning rate."""


@dataclass(frozen=True)
class Settings:
    """How DP-SGD runs.

    Attributes:
        steps: number of steps.
        learning_rate: of a step along the mean clipped gradient.
        rate: the chance of a row to be in a step's batch.
    """

    steps: int = 400
    learning_rate: float = 4.0
    rate: float = 0.05


GRID = tuple(Settings(steps, rate) for steps, rate in product((200, 800), (2.0, 4.0, 8.0, 16.0)))


def dp_sgd(problem: ClassifierProblem) -> FloatArray:
    """Private logistic regression with the best of `GRID`, which `tuning` finds for nothing.

    Returns:
        Shape (held out, classes); several classes share one softmax.

    Raises:
        SimulationError: torch or Opacus is not installed, or ε is too small for its accountant.
    """
    return tuned(problem, GRID, private_sgd)


def private_sgd(problem: ClassifierProblem, settings: Settings) -> FloatArray:
    """`dp_sgd` with these settings."""
    torch, _ = _packages()
    generator = torch.Generator().manual_seed(int(problem.generator(STREAM).integers(1 << 31)))
    rows = torch.as_tensor(problem.x, dtype=torch.float32)
    labels = torch.as_tensor(problem.labels)
    train = torch.as_tensor(problem.train)
    with warnings.catch_warnings():
        # Opacus hooks the backward pass of a model whose inputs need no gradient, as is usual.
        warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
        model = _descend(rows[train], labels[train], problem, settings, generator)
    with torch.no_grad():
        scores = model(rows[~train]).double()
        probabilities: FloatArray = torch.softmax(scores, dim=1).numpy()
    return probabilities


@lru_cache(maxsize=64)
def noise(epsilon: float, delta: float, settings: Settings) -> float:
    """σ over the clip: what Opacus' PRV accountant finds for (ε, δ).

    Raises:
        SimulationError: ε is below what the accountant can tell from 0.
    """
    from opacus.accountants.utils import get_noise_multiplier

    with warnings.catch_warnings():
        # The PRV accountant asks the RDP one how wide a grid it needs; a loose answer is enough.
        warnings.filterwarnings("ignore", "Optimal order is the largest alpha", UserWarning)
        try:
            found: float = get_noise_multiplier(
                target_epsilon=epsilon,
                target_delta=delta,
                sample_rate=settings.rate,
                steps=settings.steps,
                accountant="prv",
            )
        except ValueError as error:
            raise SimulationError(
                f"Opacus finds no noise for epsilon = {epsilon:g}: {error}",
                remedy="Use an epsilon of 0.02 or more with DP-SGD.",
            ) from error
    return found


def _descend(
    rows: Any, labels: Any, problem: ClassifierProblem, settings: Settings, generator: Any
) -> Any:
    """A linear layer, from zero, after all steps."""
    torch, opacus = _packages()
    from opacus.optimizers import DPOptimizer
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    layer = torch.nn.Linear(rows.shape[1], problem.classes)
    for weights in layer.parameters():
        torch.nn.init.zeros_(weights)
    model = opacus.GradSampleModule(layer)
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=settings.learning_rate),
        noise_multiplier=noise(problem.epsilon, problem.delta, settings),
        max_grad_norm=CLIP,
        expected_batch_size=settings.rate * len(rows),
        generator=generator,
    )
    batches = UniformWithReplacementSampler(  # Poisson sampling, whatever its name says
        num_samples=len(rows),
        sample_rate=settings.rate,
        generator=generator,
        steps=settings.steps,
    )
    loss = torch.nn.CrossEntropyLoss()
    for batch in batches:
        optimizer.zero_grad()
        loss(model(rows[batch]), labels[batch]).backward()
        optimizer.step()
    return model


def _packages() -> tuple[Any, Any]:
    try:
        import opacus
        import torch
    except ImportError as error:
        raise SimulationError(
            "DP-SGD needs the packages torch and opacus, which are not installed.",
            remedy="pip install 'kesit[neural]'",
        ) from error
    return torch, opacus
