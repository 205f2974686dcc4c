"""Every bad input: one clear error with cause and remedy, its exit code, and nothing written."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import kesit_server.app
from clikit import POLICY, STUDY, Kesit, Outcome, edit, files
from kesit_cli import exits
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_privacy import accounting
from kesit_privacy.errors import ProtocolError
from kesit_privacy.study_file import load_study
from kesit_simulations import studies


@dataclass(frozen=True)
class Bad:
    """A way to spoil customers.csv, and what the owner is told."""

    name: str
    old: str
    new: str
    cause: str
    remedy: str


BAD_DATA = [
    Bad("unknown column", "no,age,", "no,agee,", "no column 'age'", "Rename one"),
    Bad("text", "c5,70,", "c5,old,", "age: 1 values are no numbers (row 6: 'old')", "Correct them"),
    Bad("NaN as text", "c5,70,", "c5,NaN,", "age: 1 values are no numbers", "leave them empty"),
    Bad("+inf", "c5,70,", "c5,inf,", "age: 1 values are infinite (first in row 6)", "empty (null)"),
    Bad("-inf", "c5,70,", "c5,-inf,", "age: 1 values are infinite", "Leave a missing value"),
    Bad("double ids", "c5,70,", "c4,70,", "1 customer ids stand in several rows", "one row"),
    Bad("no id", "c5,70,", ",70,", "1 rows have no id", "Give each row its id"),
    Bad(
        "unknown category",
        "c5,70,10005,web",
        "c5,70,10005,fax",
        "1 levels are not in the study: 'fax'",
        "Map",
    ),
]


@pytest.mark.parametrize("command", ["check", "simulate"])
@pytest.mark.parametrize("bad", BAD_DATA, ids=lambda bad: bad.name)
def test_bad_data_give_one_clear_error_and_no_file(
    kesit: Kesit, shop: Path, bad: Bad, command: str
) -> None:
    edit(shop / "customers.csv", bad.old, bad.new)
    before = files(shop)
    refused = (
        kesit("study", "check", "study.toml", "--data", "customers.csv", "--id", "no")
        if command == "check"
        else kesit("simulate", "run", "study.toml")
    )
    assert refused.code == exits.DATA
    assert bad.cause in refused.said
    assert bad.remedy in refused.said.split("What to do:")[1]
    assert refused.err.count("Error:") == refused.err.count("What to do:") == 1
    assert "Traceback" not in refused.err
    assert files(shop) == before


def check_data(kesit: Kesit, *more: str) -> Outcome:
    return kesit("study", "check", "study.toml", "--data", "customers.csv", "--id", "no", *more)


def test_nan_in_a_float_column_is_told_from_a_missing_value(kesit: Kesit, shop: Path) -> None:
    frame = pl.read_csv(shop / "customers.csv").with_columns(age=pl.col("age").cast(pl.Float64))
    ages = frame["age"].to_list()
    ages[7] = float("nan")
    frame.with_columns(age=pl.Series(ages)).write_parquet(shop / "customers.parquet")
    refused = kesit("study", "check", "study.toml", "--data", "customers.parquet", "--id", "no")
    assert refused.code == exits.DATA
    assert "age: 1 values are NaN (first in row 8)" in refused.said


def test_several_problems_are_one_table(kesit: Kesit, shop: Path) -> None:
    edit(shop / "customers.csv", "c5,70,", "c4,old,")
    edit(shop / "customers.csv", "c8,66,10008,web", "c8,66,10008,fax")
    refused = check_data(kesit)
    assert refused.code == exits.DATA
    assert "3 problems" in refused.said
    table = [line for line in refused.err.splitlines() if re.match(r"(no|age|channel) ", line)]
    assert len(table) == 3
    columns = {len(re.match(r"\w+ +", line)[0]) for line in table}  # type: ignore[index]
    assert len(columns) == 1
    assert refused.err.count("Error:") == refused.err.count("What to do:") == 1


def test_missing_files(kesit: Kesit, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "s1.toml").write_text(studies.text("s1"))
    monkeypatch.setenv("KESIT_DATA", str(shop / "nowhere"))
    before = files(shop)
    for arguments, code, cause in (
        (("study", "check", "nope.toml"), exits.SETTINGS, "nope.toml"),
        (("simulate", "run", "nope.toml"), exits.SETTINGS, "nope.toml"),
        (("simulate", "run", "study.toml", "--data", "nope.csv"), exits.DATA, "nope.csv"),
        (("study", "check", "study.toml", "--source", "nope.toml"), exits.DATA, "nope.toml"),
        (("study", "check", "study.toml", "--policy", "nope.toml"), exits.SETTINGS, "nope.toml"),
        (("simulate", "run", "s1.toml"), exits.DATA, "s1.csv"),
    ):
        refused = kesit(*arguments)
        assert refused.code == code, arguments
        assert cause in refused.said
        assert "What to do:" in refused.said
        assert files(shop) == before


def test_constant_feature(kesit: Kesit, shop: Path) -> None:
    path = shop / "customers.csv"
    path.write_text(re.sub(r",(web|shop)$", ",web", path.read_text(), flags=re.MULTILINE))
    refused = check_data(kesit)
    assert refused.code == exits.DATA
    assert "channel: every customer has the same value ('web')" in refused.said
    assert "may_be_constant = true" in refused.said


def test_no_customers_too_few_and_too_few_distinct(kesit: Kesit, shop: Path) -> None:
    path = shop / "customers.csv"
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n")
    empty = check_data(kesit)
    assert (empty.code, "there is no customer" in empty.said) == (exits.DATA, True)
    path.write_text("\n".join(lines[:31]) + "\n")
    few = check_data(kesit, "--policy", "policy.toml")
    assert few.code == exits.DATA
    assert "30 customers are fewer than the policy's minimum of 50" in few.said
    assert "min_customers" in few.said
    same = [
        f"{line.split(',')[0]},{30 + place % 2},500,web" for place, line in enumerate(lines[1:])
    ]
    same[0] = same[0].replace("web", "shop").replace(",30,", ",31,")
    path.write_text("\n".join([lines[0], *same]) + "\n")
    edit(shop / "study.toml", 'levels = ["web", "shop"]', 'levels = ["web", "shop", "fax"]')
    edit(shop / "study.toml", "k = 3", "k = 4")
    edit(shop / "study.toml", 'transform = "signed-log"', "may_be_constant = true")
    for refused in (check_data(kesit), kesit("simulate", "run", "study.toml")):
        assert refused.code == exits.DATA
        assert "the data hold 3 distinct customers, fewer than k = 4" in refused.said
        assert "Choose a smaller k" in refused.said


def test_an_empty_client_or_one_under_the_minimum_is_no_simulation(
    kesit: Kesit, shop: Path
) -> None:
    before = files(shop)
    skew = ("--partition", "dirichlet", "--column", "channel", "--alpha", "0.001")
    empty = kesit("simulate", "run", "study.toml", *skew, "--clients", "9")
    assert empty.code == exits.SETTINGS
    assert "would hold 0 customers" in empty.said
    assert "larger alpha" in empty.said
    edit(shop / "study.toml", "clients = 4", "clients = 4\nmin_customers = 501")
    small = kesit("simulate", "run", "study.toml")
    assert small.code == exits.SETTINGS
    assert "500 customers, fewer than 501" in small.said
    assert files(shop) == before


@pytest.mark.parametrize("value", ["0", "-1.0", "nan", "inf", '"one"'])
def test_epsilon_must_be_a_positive_number(kesit: Kesit, shop: Path, value: str) -> None:
    edit(shop / "study.toml", "epsilon = 1.0", f"epsilon = {value}")
    for command in (("study", "check"), ("simulate", "run")):
        refused = kesit(*command, "study.toml")
        assert refused.code == exits.SETTINGS
        assert refused.said.startswith("Error: epsilon: ")
        assert "What to do: Correct this field" in refused.said


def test_a_misspelt_field_and_a_broken_file_are_named(kesit: Kesit, shop: Path) -> None:
    edit(shop / "study.toml", "legal_basis", "legal_bassis")
    assert "legal_bassis: is not a field" in kesit("study", "check", "study.toml").said
    (shop / "study.toml").write_text("name = \n")
    broken = kesit("study", "check", "study.toml")
    assert broken.code == exits.SETTINGS
    assert "line 1" in broken.said
    (shop / "study.toml").write_text(STUDY.split("[simulation]")[0])
    assert "no [simulation] table" in kesit("simulate", "run", "study.toml").said


def test_a_budget_that_rounds_to_nothing_is_refused_like_any_other(
    kesit: Kesit, shop: Path
) -> None:
    edit(shop / "study.toml", "epsilon = 1.0", "epsilon = 1e-12")
    edit(shop / "study.toml", "delta = 1e-4", "delta = 1e-18")
    refused = kesit("study", "check", "study.toml")
    assert refused.code == exits.BUDGET
    assert "Agree on epsilon >=" in refused.said
    assert re.search(r"^evaluation .* inf$", refused.out, flags=re.MULTILINE)


def test_a_budget_that_is_too_small_says_what_would_do(kesit: Kesit, shop: Path) -> None:
    edit(shop / "study.toml", "epsilon = 1.0", "epsilon = 0.001")
    before = files(shop)
    for command in (("study", "check"), ("simulate", "run")):
        refused = kesit(*command, "study.toml")
        assert refused.code == exits.BUDGET
        assert "epsilon = 0.001 is too small for k = 3" in refused.said
    assert files(shop) == before
    advised = re.search(r"Agree on epsilon >= ([\d.]+)", refused.said)
    assert advised
    edit(shop / "study.toml", "epsilon = 0.001", f"epsilon = {advised[1].rstrip('.')}")
    assert kesit("study", "check", "study.toml").code == exits.OK


def test_another_hash_is_refused_and_both_are_shown(kesit: Kesit, shop: Path) -> None:
    study = load_study(shop / "study.toml")
    agreed = "0" * 64
    refused = kesit("study", "check", "study.toml", "--hash", agreed)
    assert refused.code == exits.SETTINGS
    assert study.hash in refused.said
    assert agreed in refused.said
    assert "other members' copies" in refused.said
    # A prefix proves nothing.
    assert kesit("study", "check", "study.toml", "--hash", study.hash[:16]).code == exits.SETTINGS


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ('["customer-segmentation"]', '["reporting"]', "the purpose 'customer-segmentation'"),
        ('"balance", ', "", "the feature 'balance'"),
        ('"marginals", ', "", "the query 'marginals'"),
    ],
)
def test_a_policy_that_forbids_the_study(
    kesit: Kesit, shop: Path, old: str, new: str, cause: str
) -> None:
    edit(shop / "policy.toml", old, new)
    refused = kesit("study", "check", "study.toml", "--policy", "policy.toml")
    assert refused.code == exits.SETTINGS
    assert f"The policy does not allow {cause}" in refused.said
    assert "do not take part" in refused.said


def test_a_broken_policy_names_its_field(kesit: Kesit, shop: Path) -> None:
    edit(shop / "policy.toml", "min_roster = 3", "min_roster = 1")
    refused = kesit("study", "check", "study.toml", "--policy", "policy.toml")
    assert (refused.code, "min_roster" in refused.said) == (exits.SETTINGS, True)


def spend(path: Path, study: str, purpose: str, epsilon: float, age_days: float = 0) -> None:
    """Charge a client's books as an earlier run would have."""
    store = Store.open(path)
    with store.transaction() as books:
        books.add_charge(
            Charge(
                *(os.urandom(16).hex(), "marginals", 1, bytes(32), study, purpose),
                accounting.budget_units(epsilon, 1e-4),
                time.time() - age_days * 86_400,
            )
        )
    store.witness()
    store.close()


@pytest.mark.parametrize(
    ("extra", "purpose", "age", "budget"),
    [
        ("", "reporting", 400, "lifetime"),
        ("[[periods]]\ndays = 30\nepsilon = 1.2\n", "reporting", 3, "30-day"),
        (
            '[[purpose_caps]]\npurpose = "customer-segmentation"\nepsilon = 1.2\n',
            "customer-segmentation",
            400,
            "purpose 'customer-segmentation'",
        ),
    ],
    ids=["lifetime", "period", "purpose"],
)
def test_an_exhausted_ledger_is_told_before_anything_is_spent(
    kesit: Kesit, shop: Path, extra: str, purpose: str, age: float, budget: str
) -> None:
    (shop / "policy.toml").write_text(POLICY + extra)
    spend(shop / "books.sqlite", "0" * 64, purpose, 1.8 if not extra else 0.9, age)
    content = (shop / "books.sqlite").read_bytes()
    check = ("study", "check", "study.toml", "--policy", "policy.toml")
    assert kesit(*check).code == exits.OK  # with empty books there would be room
    refused = kesit(*check, "--store", "books.sqlite")
    assert refused.code == exits.BUDGET
    assert f"The {budget} budget is exhausted for this study" in refused.said
    advised = re.search(r"Agree on epsilon <= ([\d.]+), or let", refused.said)
    assert advised
    assert ("wait" in refused.said) == (budget == "30-day")
    assert (shop / "books.sqlite").read_bytes() == content
    # The advice holds, and hardly more would.
    edit(shop / "study.toml", "epsilon = 1.0", f"epsilon = {advised[1]}")
    assert kesit(*check, "--store", "books.sqlite").code == exits.OK
    edit(shop / "study.toml", f"epsilon = {advised[1]}", f"epsilon = {float(advised[1]) + 0.02}")
    assert kesit(*check, "--store", "books.sqlite").code == exits.BUDGET


def test_a_study_that_was_run_cannot_be_run_again(kesit: Kesit, shop: Path) -> None:
    study = load_study(shop / "study.toml")
    spend(shop / "books.sqlite", study.hash, study.purpose, 0.4)
    arguments = ("--policy", "policy.toml", "--store", "books.sqlite")
    refused = kesit("study", "check", "study.toml", *arguments)
    assert refused.code == exits.BUDGET
    assert "earlier runs spent ε = 0.4" in refused.said
    assert "Agree on a new study" in refused.said


def test_books_must_exist_be_books_and_not_be_restored(kesit: Kesit, shop: Path) -> None:
    check = ("study", "check", "study.toml", "--policy", "policy.toml", "--store")
    before = files(shop)
    (shop / "empty").write_bytes(b"")
    for name, cause in (("none", "no books"), ("empty", "not a client's"), ("study.toml", "not a")):
        refused = kesit(*check, name)
        assert refused.code == exits.DATA
        assert cause in refused.said
    assert (shop / "empty").read_bytes() == b""
    assert files(shop) == before | {"empty"}
    spend(shop / "books.sqlite", "0" * 64, "reporting", 0.5)
    (shop / "copy.sqlite").write_bytes((shop / "books.sqlite").read_bytes())
    refused = kesit(*check, "copy.sqlite")
    assert refused.code == exits.DATA
    assert "restored" in refused.said
    assert "spending log" in refused.said


def test_a_protocol_error_has_the_federations_code(
    kesit: Kesit, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ProtocolError("A message is broken.", remedy="Update it.")

    monkeypatch.setattr(kesit_server.app, "analyse", fail)
    before = files(shop)
    refused = kesit("simulate", "run", "study.toml")
    assert refused.code == exits.FEDERATION
    assert refused.said == "Error: A message is broken. What to do: Update it."
    assert files(shop) == before


def test_missing_and_clipped_values_are_told_though_they_are_no_error(
    kesit: Kesit, shop: Path
) -> None:
    edit(shop / "customers.csv", "c5,70,", "c5,,")
    edit(shop / "customers.csv", "c6,", "c6,999999")
    done = check_data(kesit)
    assert done.code == exits.OK, done.err
    assert re.search(r"^age +\d+\.\d% +\d+\.\d%$", done.out, flags=re.MULTILINE)


def test_the_simulation_table_is_checked_too(kesit: Kesit, shop: Path) -> None:
    edit(shop / "study.toml", "[simulation]", '[simulation]\npartitoin = "iid"')
    for command in (["study", "check", "study.toml"], ["simulate", "run", "study.toml"]):
        refused = kesit(*command)
        assert refused.code == exits.SETTINGS
        assert "simulation.partitoin" in refused.said


def test_fewer_clients_than_the_roster_needs(kesit: Kesit, shop: Path) -> None:
    before = files(shop)
    refused = kesit("simulate", "run", "study.toml", "--partition", "iid", "--clients", "2")
    assert refused.code == exits.SETTINGS
    assert "roster.min_size" in refused.said
    assert files(shop) == before
