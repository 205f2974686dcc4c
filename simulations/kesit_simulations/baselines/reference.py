"""Baselines without privacy: all rows in one place, each client alone, and exact federated sums."""

from __future__ import annotations

import warnings

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_simulations.baselines.lloyd import cluster_sums, nearest
from kesit_simulations.baselines.problem import Problem

RESTARTS = 10
MAX_STEPS = 300
"""As scikit-learn's `max_iter`."""

STREAM = 1


def central(problem: Problem) -> FloatArray:
    """scikit-learn's `KMeans(k, n_init=10)` on all rows; centres of shape (k, d)."""
    return pooled_kmeans(problem.rows, problem.k, problem.random_state)


def alone(problem: Problem) -> FloatArray:
    """What each client finds in its own rows, with nobody's help and nothing released.

    Returns:
        Centres of shape (m, k, d), one set for each client that has rows: `inertia` over *all*
        rows says how well a client that knows only its own customers would serve everyone's. A
        client without rows finds nothing and is left out.
    """
    sets = [
        pooled_kmeans(problem.rows[part], problem.k, problem.random_state)
        for part in problem.parts
        if len(part)
    ]
    return np.stack(sets)


def federated_exact(problem: Problem) -> FloatArray:
    """Lloyd's algorithm over the clients' exact sums: what federating alone costs (nothing).

    The best of ten starts by the clients' summed inertia. A start is greedy k-means++ (Arthur and
    Vassilvitskii 2007) over the federation: a client is drawn by its share of the summed squared
    distances, and gives away one of its rows drawn by theirs, which is the pooled k-means++ to
    the letter. Centres (k, d).
    """
    held = [problem.rows[part] for part in problem.parts]
    rng = problem.generator(STREAM)
    best, lowest = np.empty(0), np.inf
    for _ in range(RESTARTS):
        centres = exact_lloyd(held, plus_plus(held, problem.k, rng), MAX_STEPS)
        loss = sum(float(nearest(rows, centres)[1].sum()) for rows in held)
        if loss < lowest:
            best, lowest = centres, loss
    return np.clip(best, 0, 1)


def pooled_kmeans(rows: FloatArray, k: int, random_state: int) -> FloatArray:
    """scikit-learn's centres, shape (k, d). With fewer rows than k, some centres repeat."""
    from sklearn.cluster import KMeans  # imported on first use: it takes a second
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(min(k, len(rows)), n_init=RESTARTS, random_state=random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than k
        model.fit(rows)
    # A mean of ones may come out above one.
    found: FloatArray = np.clip(model.cluster_centers_, 0, 1)
    return found[np.arange(k) % len(found)]


def plus_plus(held: list[FloatArray], k: int, rng: np.random.Generator) -> FloatArray:
    """Greedy k-means++ over clients' rows, shape (k, d). Once all rows are chosen, centres repeat.

    As in scikit-learn: of 2 + ⌊ln k⌋ candidates the one that leaves the least loss.
    """
    squares = [np.ones(len(rows)) for rows in held]  # the first centre: every row alike
    centres: list[FloatArray] = []
    while len(centres) < k:
        mass = np.array([part.sum() for part in squares])
        if not mass.sum() > 0:
            break
        best, lowest = squares, np.inf
        centres.append(held[0][:0])
        for _ in range(2 + int(np.log(k)) if len(centres) > 1 else 1):
            client = int(rng.choice(len(held), p=mass / mass.sum()))
            row = held[client][int(rng.choice(len(held[client]), p=squares[client] / mass[client]))]
            left = [((rows - row) ** 2).sum(axis=1) for rows in held]
            if len(centres) > 1:
                left = [np.minimum(new, old) for new, old in zip(left, squares, strict=True)]
            loss = float(sum(part.sum() for part in left))
            if loss < lowest:
                best, lowest, centres[-1] = left, loss, row
        squares = best
    return np.stack([centres[place % len(centres)] for place in range(k)])


def exact_lloyd(held: list[FloatArray], centres: FloatArray, steps: int) -> FloatArray:
    """Lloyd's steps on sums over the clients, until nothing moves; an empty cluster stays."""
    for _ in range(steps):
        sums, counts = np.zeros_like(centres), np.zeros(len(centres))
        for rows in held:
            labels, _ = nearest(rows, centres)
            more, number = cluster_sums(rows, labels, len(centres))
            sums, counts = sums + more, counts + number
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
