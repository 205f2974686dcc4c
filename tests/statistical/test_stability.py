"""A card's stability beside what it claims: how alike segments are when the noise is another."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from kesit_privacy.study_file import study_from_tables
from kesit_server.portrait.portrait import portray
from kesit_server.segmentation.agreement import contingency, jaccard
from kesit_simulations import studies
from kesit_simulations.errors import DatasetError
from kesit_simulations.plan import read_plan
from kesit_simulations.runner import load_customers, simulate

RUNS = 4


def stability(name: str) -> tuple[float, float]:
    """Mean Jaccard similarity of segments: of real runs on the customers, and on their cards."""
    tables = {**tomllib.loads(studies.text(name)), "epsilon": 1.0}
    study, plan = study_from_tables(tables), replace(read_plan(tables), masks=False)
    try:
        customers = load_customers(study, plan)
    except DatasetError:
        pytest.skip(f"the data set {name} is not on this machine")
    runs = [simulate(study, replace(plan, seed=seed), customers).segments for seed in range(RUNS)]
    labels, even = [run.assign(customers.codes) for run in runs], np.ones(len(customers.codes))
    shape = (len(runs[0].centres),) * 2
    real = [
        jaccard(contingency(one, other, even, shape))[0].mean()
        for one, other in permutations(labels, 2)
    ]
    cards = [card for run in runs[:2] for card in portray(run, np.random.default_rng(0)).cards]
    return float(np.mean(real)), float(np.mean([card.jaccard for card in cards]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "yeast", "house", "s1", "adult", "retail-bank"])
def test_cards_say_how_stable_segments_are(name: str) -> None:
    """Within 0.15 of real runs, whether segments are a coin's toss (digits) or rock (s1).

    Seeds are fixed, so it fails only with the code. Measured gaps: 0.13 at most (retail bank,
    where cards are too careful), elsewhere 0.08.
    """
    real, told = stability(name)
    assert abs(told - real) < 0.15, f"{name}: cards say {told:.2f}, runs agree to {real:.2f}"
