"""A study that trains where torch and Opacus are not installed: told at once, before any sum."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from classifierkit import churn_frame, customers
from clikit import Kesit, kesit
from kesit_cli import exits
from kesit_client.node import Node
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import simulate
from trainingkit import neural_study

__all__ = ["kesit"]

STUDY = """
name = "Who leaves"
purpose = "churn-prediction"
legal_basis = "explicit-consent"
epsilon = 4.0
delta = 1e-5
declared_customers = 4000
target = "left"

[classification]
estimator = "neural"

[[features]]
kind = "numeric"
name = "tenure"
lower = 0
upper = 60

[[features]]
kind = "numeric"
name = "spending"
lower = 0
upper = 10000
transform = "signed-log"

[[features]]
kind = "categorical"
name = "left"
levels = ["no", "yes"]

[simulation]
data = "customers.csv"
id_column = "id"
clients = 4
"""


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opacus and torch are as if they were not installed."""
    for name in ("torch", "opacus"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def study_file(tmp_path: Path) -> str:
    (tmp_path / "study.toml").write_text(STUDY)
    churn_frame(1000).write_csv(tmp_path / "customers.csv")
    return "study.toml"


@pytest.mark.usefixtures("hidden")
def test_a_simulation_asks_nothing_of_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    study, asked = neural_study(), []
    monkeypatch.setattr(Node, "hello", lambda node, request: asked.append(request))
    with pytest.raises(SimulationError, match="torch and opacus are not installed") as error:
        simulate(study, SimulationPlan(data="none", clients=4), customers(study, churn_frame(200)))
    assert "pip install 'kesit[neural]'" in error.value.remedy
    assert not asked


@pytest.mark.usefixtures("hidden")
def test_simulate_run_fails_before_it_reads_the_data(
    kesit: Kesit, study_file: str, tmp_path: Path
) -> None:
    (tmp_path / "customers.csv").unlink()
    failed = kesit("simulate", "run", study_file)
    assert failed.code == exits.SETTINGS
    assert "torch and opacus are not installed" in failed.said
    assert "pip install 'kesit[neural]'" in failed.said
    assert not (tmp_path / "kesit-results").exists()


@pytest.mark.parametrize("here", [True, False])
def test_a_check_says_what_members_need(
    kesit: Kesit, study_file: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if here:
        monkeypatch.setattr("kesit_client.neural.training.find_spec", lambda name: object())
    else:
        monkeypatch.setitem(sys.modules, "opacus", None)
    checked = kesit("study", "check", study_file)
    text = " ".join(checked.out.split())
    assert checked.code == exits.OK
    assert "pip install 'kesit[neural]'" in text
    assert ("both are installed here" in text) is here
    assert ("not installed here: opacus" in text) is (not here)
    assert "the coordinator needs neither" in text
