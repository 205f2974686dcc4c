"""How often the number of segments is found: Kesit's score beside plain silhouette and the variance
ratio (Caliński and Harabasz), all on the same private synopsis.

Gaussian mixtures and s1 hold a known number of clusters. What people call the number of the other
sets is no number of clusters in their space: indices on the rows themselves, without privacy, do
not find it either, and stand beside it.
"""

from __future__ import annotations

import math
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, FloatArray
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_simulations import partitions, studies
from kesit_simulations.benchmarks.report import Report, Table, Tell
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, load_customers, simulate

CLIENTS = 5
CUSTOMERS = 20_000
LARGEST = 14
SETS = {
    "s1": (15, 18),
    "retail-bank": (6, 12),
    "house": (3, 8),
    "digits": (10, 15),
    "yeast": (10, 15),
}
"""Of each packaged study: the number that goes with it, and the largest k that is tried."""

DEVIATION = {2: 0.03, 3: 0.05}
METHODS = ("kesit", "silhouette", "variance ratio")


@dataclass(frozen=True)
class Size:
    """What is run. None of these mixtures was used to choose the score."""

    dimensions: tuple[int, ...] = (2, 3, 5, 8, 12)
    clusters: tuple[int, ...] = (4, 7, 10)
    sets: tuple[str, ...] = tuple(SETS)
    epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    seeds: tuple[int, ...] = (100, 101)


@dataclass(frozen=True)
class Problem:
    """Customers with a number of clusters that goes with them."""

    name: str
    clusters: int
    tables: dict[str, Any]
    customers: Customers

    def study(self, epsilon: float) -> Study:
        """The study at this ε."""
        return study_from_tables({**self.tables, "epsilon": epsilon})


@dataclass(frozen=True)
class Guess:
    """What each method chose in one run; `epsilon` None: on the rows, without privacy."""

    data: str
    clusters: int
    epsilon: float | None
    seed: int
    chosen: dict[str, int]


def run(quick: bool, tell: Tell) -> Report:
    """All of `Size`, or a few of it."""
    return measure(Size((2, 5), (4,), ("s1",), (1.0,), (100,)) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Run each study with k left open.

    Raises:
        DatasetError: a data set is not on this machine.
    """
    guesses: list[Guess] = []
    for problem, seed in _problems(size):
        tell(f"choice: {problem.name} with {problem.clusters}, seed {seed}")
        if seed == size.seeds[0]:
            guesses.append(_without_privacy(problem, seed))
        guesses += [_guess(problem, epsilon, seed) for epsilon in size.epsilons]
    return Report(
        (_table(guesses, None), *(_table(guesses, epsilon) for epsilon in size.epsilons)),
        {"guesses": [asdict(guess) for guess in guesses]},
        (
            "Each cell: share of runs that find the number, and that come within one of it.",
            "Without privacy Kesit's score has no stability: there is no noise to redraw.",
        ),
    )


def _problems(size: Size) -> Iterator[tuple[Problem, int]]:
    for seed in size.seeds:
        for dimensions in size.dimensions:
            for clusters in size.clusters:
                yield mixture(dimensions, clusters, seed), seed
        for name in size.sets:
            yield _packaged(name, seed), seed


def mixture(dimensions: int, clusters: int, seed: int) -> Problem:
    """Round Gaussian clusters of unequal sizes and widths, five or six deviations apart."""
    rng = np.random.default_rng([dimensions, clusters, seed])
    deviation = DEVIATION.get(dimensions, 0.06)
    centres = _apart(dimensions, clusters, (5 + seed % 2) * deviation, rng)
    shares = np.maximum(rng.dirichlet(np.full(clusters, 5.0)), 0.3 / clusters)
    labels = rng.choice(clusters, CUSTOMERS, p=shares / shares.sum())
    widths = deviation * rng.uniform(0.7, 1.3, clusters)
    rows = centres[labels] + rng.normal(0, 1, (CUSTOMERS, dimensions)) * widths[labels][:, None]
    codes = np.rint(np.clip(rows, 0, 1) * GRID).astype(np.int16)
    names = [f"x{place}" for place in range(dimensions)]
    features = [{"kind": "numeric", "name": name, "lower": 0.0, "upper": 1.0} for name in names]
    tables = {
        "name": "mixture",
        "purpose": "benchmark",
        "legal_basis": "explicit-consent",
        "features": features,
        **_promise(CUSTOMERS, LARGEST),
    }
    parts = tuple(partitions.iid(CUSTOMERS, CLIENTS, np.random.default_rng(seed)))
    return Problem(f"{dimensions} features", clusters, tables, Customers(codes, parts, labels))


def _apart(dimensions: int, clusters: int, distance: float, rng: np.random.Generator) -> FloatArray:
    """Centres in the box that are `distance` or more apart, one after the other."""
    while True:
        found: list[FloatArray] = []
        for _ in range(2000):
            centre = rng.uniform(0.12, 0.88, dimensions)
            if all(np.linalg.norm(centre - other) >= distance for other in found):
                found.append(centre)
            if len(found) == clusters:
                return np.array(found)


def _promise(customers: int, largest: int) -> dict[str, Any]:
    return {
        "epsilon": 1.0,
        "delta": 1 / (customers * math.log(customers)),
        "declared_customers": customers,
        "segmentation": {"k": largest, "smallest_k": 2},
    }


def _packaged(name: str, seed: int) -> Problem:
    clusters, largest = SETS[name]
    tables = tomllib.loads(studies.text(name))
    plan = SimulationPlan(data=name, clients=CLIENTS, seed=seed)
    customers = load_customers(study_from_tables(tables), plan)
    promise = _promise(len(customers.codes), largest)
    promise["segmentation"] = {**tables["segmentation"], **promise["segmentation"]}
    return Problem(name, clusters, {**tables, "roster": {"max_colluders": 1}, **promise}, customers)


def _guess(problem: Problem, epsilon: float, seed: int) -> Guess:
    plan = SimulationPlan(data="none", clients=CLIENTS, seed=seed, masks=False)
    choice = simulate(problem.study(epsilon), plan, problem.customers).segments.choice
    assert choice is not None  # smallest_k is given
    chosen = {
        "kesit": choice.k,
        "silhouette": max(choice.curve, key=lambda row: row.silhouette).k,
        "variance ratio": max(choice.curve, key=lambda row: row.variance_ratio).k,
    }
    return Guess(problem.name, problem.clusters, epsilon, seed, chosen)


def _without_privacy(problem: Problem, seed: int) -> Guess:
    """What the indices choose on up to 4,000 of the rows."""
    from kesit_server.segmentation.choice import judged
    from kesit_server.segmentation.lloyd import cluster

    study, rng = problem.study(1.0), np.random.default_rng(seed)
    space, codes = Embedding.of(study), problem.customers.codes
    codes = codes[rng.permutation(len(codes))[:4000]]
    rows = space.expand(codes, (GRID // 2,) * len(space.features))
    even = np.ones(len(rows))
    scores = {
        k: judged(rows, even, cluster(rows, even, k, rng, 5))
        for k in range(2, study.segmenting.k + 1)
    }
    chosen = {
        "kesit": max(scores, key=lambda k: (scores[k][0] + scores[k][1]) * math.sqrt(scores[k][2])),
        "silhouette": max(scores, key=lambda k: scores[k][0]),
        "variance ratio": max(scores, key=lambda k: scores[k][2]),
    }
    return Guess(problem.name, problem.clusters, None, seed, chosen)


def _table(guesses: Sequence[Guess], epsilon: float | None) -> Table:
    groups: dict[str, list[Guess]] = defaultdict(list)
    for guess in guesses:
        if guess.epsilon == epsilon:
            groups[guess.data].append(guess)
    rows = []
    for name, group in groups.items():
        known = sorted({guess.clusters for guess in group})
        cells = [_hits([(guess.chosen[m], guess.clusters) for guess in group]) for m in METHODS]
        kesit = sorted({guess.chosen["kesit"] for guess in group}) if len(known) == 1 else []
        last = ", ".join(map(str, kesit)) or "-"
        rows.append((name, ", ".join(map(str, known)), str(len(group)), *cells, last))
    where = "Without privacy, on the rows" if epsilon is None else f"ε = {epsilon:g}"
    headers = ("", "clusters", "runs", *METHODS, "kesit chose")
    return Table(f"{where}: found / within one", headers, tuple(rows), (2, 3, 4, 5))


def _hits(pairs: Sequence[tuple[int, int]]) -> str:
    exact = sum(chosen == known for chosen, known in pairs) / len(pairs)
    near = sum(abs(chosen - known) <= 1 for chosen, known in pairs) / len(pairs)
    return f"{exact:.0%} / {near:.0%}"
