"""A classifier's study over real processes: trained, evaluated, used by a member, explained."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

from classifierkit import churn_frame
from consentkit import row, withdrawal, write
from federationkit import NAMES, books_agree, command, runs_of
from kesit_cli import exits
from kesit_client.consent.store import ConsentStore
from kesit_client.home import POLICY
from kesit_client.owner import approvals
from kesit_client.rights.exports import list_exports
from kesit_privacy.study_file import load_study
from kesit_simulations.deployed import Deployed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("deployment")]

STUDY = """\
name = "churn"
purpose = "churn-prediction"
legal_basis = "explicit-consent"
epsilon = 4.0
delta = 1e-5
declared_customers = 4000
target = "left"

[classification]
positive = "yes"
estimator = "additive"

[roster]
min_size = 3

[[features]]
kind = "numeric"
name = "tenure"
lower = 0
upper = 60

[[features]]
kind = "numeric"
name = "spending"
lower = -100
upper = 100_000
transform = "signed-log"

[[features]]
kind = "categorical"
name = "channel"
levels = ["web", "shop", "phone"]

[[features]]
kind = "categorical"
name = "left"
levels = ["yes", "no"]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployed, Path]]:
    """A federation that has trained the study, and the result's folder."""
    folder = tmp_path_factory.mktemp("classifier")
    path = folder / "churn.toml"
    path.write_text(STUDY, encoding="utf-8")
    frame = churn_frame(4000)
    tables = {name: frame[place :: len(NAMES)] for place, name in enumerate(NAMES)}
    place = Deployed.make(folder / "federation", path, tables, "id")
    try:
        place.start()
        done = command("server", "run", path, "--home", place.coordinator.home)
        assert done.returncode == exits.OK, done.stderr
        (run,) = runs_of(place, load_study(path))
        (found,) = (place.coordinator.home / "results").glob(f"churn-{run[:8]}")
        assert "AUC" in done.stdout
        assert "kesit model draw" in done.stdout
        yield place, found
    finally:
        for name in list(place.processes):
            place.kill(name)


def test_the_result_is_a_model_that_was_paid_for(trained: tuple[Deployed, Path]) -> None:
    place, folder = trained
    told = json.loads((folder / "model.json").read_bytes())
    assert told["releasable"] is True
    assert told["epsilon_spent"] <= 4.0
    low, high = told["evaluation"]["metrics"]["auc"]["interval_95"]
    assert 0.7 < low < high <= 1
    (run,) = runs_of(place, load_study(place.folder.parent / "churn.toml"))
    books_agree(place, run)
    statement = json.loads((folder / "privacy.json").read_bytes())
    assert statement["target"] == "left"
    assert [entry["step"] for entry in statement["sums"]][-1] == "evaluation"


def test_a_member_scores_its_customers_and_explains_one(
    trained: tuple[Deployed, Path], tmp_path: Path
) -> None:
    place, folder = trained
    home, out = place.home(NAMES[0]), tmp_path / "scores.csv"
    done = command("client", "score", folder, "--out", out, "--home", home)
    assert done.returncode == exits.OK, done.stderr
    assert "none are kept" in done.stdout
    scores = pl.read_csv(out)
    assert len(scores) == 1000
    assert scores["chance: yes"].is_between(0, 1).all()
    told = command("client", "explain", folder, scores["id"][5], "--home", home)
    assert told.returncode == exits.OK, told.stderr
    assert "tenure" in told.stdout
    nobody = command("client", "explain", folder, "nobody", "--home", home)
    assert nobody.returncode == exits.DATA


def test_only_who_may_be_scored_is_scored(trained: tuple[Deployed, Path], tmp_path: Path) -> None:
    """Three consents, of which one is withdrawn and one person objects: one is scored."""
    place, folder = trained
    home = place.home(NAMES[1])
    policy = home / POLICY
    before = policy.read_text(encoding="utf-8")
    assert "consent" not in tomllib.loads(before)
    policy.write_text('consent = "required"\n' + before, encoding="utf-8")
    people = churn_frame(4000)[1 :: len(NAMES)]["id"].to_list()[:3]
    purpose = {"purpose": "churn-prediction"}
    rows = [row(person, **purpose) for person in people]
    rows.append(withdrawal(people[0], **purpose))
    file = write(tmp_path / "consents.csv", rows)
    try:
        imported = command("client", "consent", "import", file, "--home", home)
        assert imported.returncode == exits.OK, imported.stderr
        objection = command(
            *("client", "rights", "open", "objection", "--person", people[1]),
            *("--purpose", "churn-prediction", "--home", home),
        )
        assert objection.returncode == exits.OK, objection.stderr
        out = tmp_path / "scores.parquet"
        done = command("client", "score", folder, "--out", out, "--home", home)
        assert done.returncode == exits.OK, done.stderr
        assert pl.read_parquet(out)["id"].to_list() == [people[2]]
        told = " ".join(done.stdout.split())
        assert "998 without a ground" in told
        assert "1 with an open objection" in told
        withdrawn, objecting, consenting = (
            command("client", "explain", folder, person, "--home", home) for person in people
        )
        assert withdrawn.returncode != exits.OK
        assert "has no ground for 'churn-prediction' now" in " ".join(withdrawn.stderr.split())
        assert "tenure" not in withdrawn.stdout
        assert "a human must answer it" in " ".join(objecting.stdout.split())
        assert consenting.returncode == exits.OK, consenting.stderr
        assert "Objection" not in consenting.stdout
        given = command(
            *("client", "score", folder, "--out", tmp_path / "given.csv"),
            *("--recipient", "Call centre", "--home", home),
        )
        assert given.returncode == exits.OK, given.stderr
        with closing(ConsentStore.open(home, create=False)) as store:
            [export] = list_exports(store, people[2])
            assert (export.recipient, export.persons) == ("Call centre", 1)
            assert export.purpose == "churn-prediction"
        left = command("client", "consent", "withdraw", people[2], "--home", home)
        assert left.returncode == exits.OK, left.stderr
        with closing(ConsentStore.open(home, create=False)) as store:
            assert [item.withdrew for item in list_exports(store)] == [1]
        policy.write_text(before, encoding="utf-8")  # an objection holds without consents, too
        done = command("client", "score", folder, "--out", out, "--home", home)
        assert done.returncode == exits.OK, done.stderr
        scored = pl.read_parquet(out)["id"].to_list()
        assert (len(scored), people[1] in scored) == (999, False)
    finally:
        policy.write_text(before, encoding="utf-8")


def test_a_study_of_another_kind_says_so(trained: tuple[Deployed, Path]) -> None:
    _, folder = trained
    shown = command("model", "show", folder, "--language", "tr")
    assert shown.returncode == exits.OK, shown.stderr
    assert "Ne kadar iyi" in shown.stdout
    wrong = command("segments", "show", folder)
    assert wrong.returncode == exits.RESULT


def test_a_study_evaluates_the_released_model(trained: tuple[Deployed, Path]) -> None:
    place, folder = trained
    digest = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    path = place.folder / "again.toml"
    again = STUDY.replace('name = "churn"', 'name = "again"', 1)
    released = f'estimator = "released"\nreleased = "{digest}"'
    path.write_text(again.replace('estimator = "additive"', released), encoding="utf-8")
    study = load_study(path)
    for member in place.names:
        approvals.approve(place.home(member), path, study.hash)
    home = place.coordinator.home
    missing = command("server", "run", path, "--home", home)
    assert missing.returncode != exits.OK
    assert "--model FOLDER" in " ".join(missing.stderr.split())
    done = command("server", "run", path, "--model", folder, "--home", home)
    assert done.returncode == exits.OK, done.stderr
    assert "AUC" in done.stdout
    assert "kesit model show" in done.stdout
    (run,) = runs_of(place, study)
    books_agree(place, run)
    told = json.loads((home / "results" / f"again-{run[:8]}" / "evaluation.json").read_bytes())
    assert told["model"] == digest
    assert (home / "runs" / run / "model.json").read_bytes() == (folder / "model.json").read_bytes()
