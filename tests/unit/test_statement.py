"""The privacy statement says what happened, and no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from kesit_privacy.study import Study
from kesit_server.portrait.portrait import portray
from kesit_server.segmentation.segmenter import Segmentation
from kesit_server.statement import privacy_statement
from kesit_server.statement_text import as_text
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, SimulationResult, Watcher, simulate
from kit import random_codes, small_study

STUDY = small_study()
PLAN = SimulationPlan(data="none", clients=6)


def run(
    plan: SimulationPlan, study: Study = STUDY, watcher: Watcher | None = None
) -> SimulationResult:
    """A simulated run over 600 random customers."""
    codes = random_codes(study, 600)
    parts = tuple(part.astype(np.int64) for part in np.array_split(np.arange(600), plan.clients))
    return simulate(study, plan, Customers(codes, parts), watcher)


@pytest.mark.parametrize(
    ("plan", "caveat", "promise"),
    [
        (PLAN, "Simulated noise, not releasable", "would have given"),
        (replace(PLAN, noise="secure"), "Simulated members, not releasable", "would have given"),
        (replace(PLAN, noise="off"), "no differential privacy at all", "kept no promise"),
        (replace(PLAN, masks=False), "saw each member's own sums", "kept no promise"),
    ],
)
def test_what_was_simulated_stands_first(plan: SimulationPlan, caveat: str, promise: str) -> None:
    statement = privacy_statement(run(plan).federation)
    text = as_text(statement)
    assert not statement["releasable"]
    assert caveat in text.split(promise)[0]
    assert promise in text
    assert statement["epsilon_spent"] <= STUDY.epsilon


TURKISH = {
    "secure": ("Simüle edilmiş üyeler, yayımlanamaz", "sağlardı"),
    "off": ("hiçbir diferansiyel mahremiyet", "kimseye verilen bir sözü tutmadı"),
}


@pytest.mark.parametrize("noise", TURKISH)
def test_the_turkish_statement_says_the_same(noise: Literal["secure", "off"]) -> None:
    statement = privacy_statement(run(replace(PLAN, noise=noise)).federation)
    text = as_text(statement, "tr")
    caveat, promise = TURKISH[noise]
    assert caveat in text.split(promise)[0]
    assert promise in text
    spent = f"ε = {statement['epsilon_spent']}"
    assert spent in as_text(statement)
    assert spent not in text
    assert spent.replace(".", ",") in text
    assert "açık rıza" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(statement["sums"])


def test_no_noise_has_no_interval() -> None:
    for card in run(replace(PLAN, noise="off")).portrait.cards:
        assert card.size_95 == pytest.approx((card.size, card.size))


def test_members_that_fell_away_are_counted() -> None:
    events: list[str] = []
    for seed in range(20):
        result = run(replace(PLAN, silence=0.05, seed=seed), watcher=Watcher(events.append))
        left = result.federation.members
        greeted = len(result.federation.greeted)
        if left < greeted:
            break
    statement = privacy_statement(result.federation)
    assert (statement["members"], statement["members_left"]) == (greeted, left)
    assert f"{greeted - left} of {greeted} members fell away" in as_text(statement)
    assert not all(row["opened"] for row in statement["sums"])


def marks(segments: Segmentation) -> set[tuple[bool, bool]]:
    cards = portray(segments, np.random.default_rng(0)).cards
    return {(card.too_small, card.uncertain) for card in cards}


def test_small_and_uncertain_segments_are_marked() -> None:
    result = run(replace(PLAN, noise="off"))
    segments = replace(result.segments, sizes=result.segments.sizes * 0 + 40, size_sigma=30.0)
    assert marks(segments) == {(True, True)}
    assert marks(replace(segments, sizes=segments.sizes + 60)) == {(False, False)}
