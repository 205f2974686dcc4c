"""Sums over disjoint customers compose in parallel: sides, plans, books and logs.

What books count is compared with a ledger that knows nothing of sides and looks at each customer.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifierkit import churn_tables
from kesit_client.checklist import Budget
from kesit_client.ledger import journal, migrations
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_privacy import canonical, classifier_recipes
from kesit_privacy.errors import ProtocolError, StudyError
from kesit_privacy.queries import CATALOGUE
from kesit_privacy.sides import HELD_OUT_QUERIES, BookSide, BySide
from kesit_privacy.spending import Spending, read_log, sign_log
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Side, book_side, held_out
from kit import SERVER, mixed_study, query_for, random_codes
from query_cases import drawn
from sidekit import STUDY, RunLedgers, query

ALL, TRAIN, HELD = BookSide
SIDES = st.sampled_from(list(BookSide))
ME = "ef" * 32


# Which side a sum is on.


@settings(max_examples=300)
@given(
    low=st.integers(0, PARTS),
    high=st.integers(0, PARTS),
    inside=st.booleans(),
    holdout=st.sampled_from([0.05, 0.2, 0.3335, 0.5]),
)
def test_a_side_is_decided_part_by_part(low: int, high: int, inside: bool, holdout: float) -> None:
    study = replace(STUDY, classification=replace(STUDY.classifying, holdout=holdout))
    _, end = held_out(study)
    counted = {part for part in range(PARTS) if (low <= part < high) == inside}
    found = book_side(study, Side(low, high, inside))
    if found is TRAIN:
        assert not counted & set(range(end))
    elif found is HELD:
        assert counted <= set(range(end))
    else:
        assert counted & set(range(end))
        assert counted - set(range(end))


@pytest.mark.parametrize(
    ("side", "found"),
    [
        (Side(0, 200, inside=False), TRAIN),
        (Side(0, 201, inside=False), TRAIN),
        (Side(0, 199, inside=False), ALL),
        (Side(1, 200, inside=False), ALL),
        (Side(0, 0, inside=False), ALL),
        (Side(200, 0, inside=False), ALL),
        (Side(0, 200, inside=True), HELD),
        (Side(0, 201, inside=True), ALL),
        (Side(3, 7, inside=True), HELD),
        (Side(200, 1000, inside=True), TRAIN),
        (Side(0, 1000, inside=True), ALL),
        (None, ALL),
    ],
)
def test_what_is_not_wholly_on_one_side_is_a_sum_over_all(
    side: Side | None, found: BookSide
) -> None:
    assert held_out(STUDY) == (0, 200)
    assert book_side(STUDY, side) is found
    assert book_side(mixed_study(), side) is ALL


def test_every_step_of_a_classifier_is_on_the_side_for_which_its_plan_prices_it() -> None:
    priced = {}
    for step in STUDY.plan:
        asked = query(step.step)
        assert book_side(STUDY, asked.counts) is STUDY.side(step)
        priced[step.query] = STUDY.side(step)
    assert {name for name, side in priced.items() if side is HELD} == HELD_OUT_QUERIES
    assert {name for name, _ in CATALOGUE} >= HELD_OUT_QUERIES
    segments = mixed_study()
    for step in segments.plan:
        assert query_for(segments, step.step).counts is None
        assert segments.side(step) is ALL


@pytest.mark.parametrize("key", sorted(CATALOGUE), ids=str)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_beyond_a_query_s_side_add_nothing(key: tuple[str, int], data: st.DataObject) -> None:
    """The books believe `counts`; a query that looked further would be charged too little."""
    study, asked = drawn(data, key)
    assert (asked.counts is None) == (study.classification is None)
    codes = random_codes(study, 200, data.draw(st.integers(0, 1 << 30)))
    if asked.counts is not None:
        assert not asked.sum(codes[~asked.counts.holds(codes[:, -1])]).any()


# The plan.


def plan_of(*shares: float) -> list[dict[str, Any]]:
    return [
        {"step": step.step, "query": step.query, "share": share}
        for step, share in zip(classifier_recipes.ADDITIVE_PLAN, shares, strict=True)
    ]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((0.3, 0.1, 0.3, 0.3, 1.0), None),
        ((0.25, 0.25, 0.25, 0.25, 0.4), None),
        ((0.28, 0.09, 0.275, 0.275, 0.08), "training shares add up to 0.92"),
        ((0.3, 0.1, 0.3, 0.2, 0.1), "training shares add up to 0.9"),
        ((0.3, 0.1, 0.3, 0.31, 1.0), "training shares add up to 1.01"),
    ],
)
def test_shares_add_up_side_by_side(shares: tuple[float, ...], told: str | None) -> None:
    tables = churn_tables(plan=plan_of(*shares))
    if told is None:
        study = study_from_tables(tables)
        assert [step.share for step in study.plan] == list(shares)
        return
    with pytest.raises(StudyError, match=told):
        study_from_tables(tables)


def test_evaluations_add_up_to_the_whole_budget_at_most() -> None:
    plan = (*STUDY.plan, replace(STUDY.plan[-1], step="again", share=0.25))
    with pytest.raises(ValueError, match=r"evaluation's shares add up to 1\.25"):
        replace(STUDY, plan=plan)


# Totals.


def test_the_dearer_side_is_paid() -> None:
    paid = BySide()
    for units, side, total in [
        (5, TRAIN, 5),
        (3, HELD, 5),
        (4, HELD, 7),
        (2, ALL, 9),
        (1, HELD, 10),
    ]:
        paid = paid.plus(units, side)
        assert paid.units == total
    assert (paid.train, paid.held) == (7, 10)
    assert [paid.on(side) for side in BookSide] == [10, 7, 10]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 1 << 60), SIDES), max_size=30))
def test_what_charges_add_one_by_one_is_what_they_cost_together(
    costs: list[tuple[int, BookSide]],
) -> None:
    paid, added = BySide(), 0
    for units, side in costs:
        charge = Charge("r", "s", 1, b"", "study", "p", units, 0.0, side=side)
        added += Budget("study", 1, paid.units, paid).cost(charge)
        paid = paid.plus(units, side)
    assert added == paid.units == BySide.total(costs).units


# The books beside a ledger of customers.

FACTS = st.tuples(
    st.integers(0, 1 << 50),  # units
    SIDES,
    st.sampled_from(["s", "t", "u"]),
    st.integers(0, 100),  # at
    st.sampled_from("ab"),  # run
)
PURPOSE = {"s": "p", "t": "p", "u": "q"}
RANGES = {ALL: (0, PARTS, True), TRAIN: (0, 200, False), HELD: (0, 200, True)}


def dearest(facts: Sequence[tuple[int, BookSide, str, int, str]]) -> int:
    """What one customer paid at most, who may be in the dearest part of each run of each study."""
    found = RunLedgers()
    for units, side, study, _, run in facts:
        low, high, inside = RANGES[side]
        found.ledgers[study + run].charge(units, low, high, inside=inside)
    return found.dearest


@settings(max_examples=60, deadline=None)
@given(facts=st.lists(FACTS, max_size=20), since=st.integers(0, 101), seed=st.integers(0, 99))
def test_books_count_what_the_dearest_customer_paid(
    facts: list[tuple[int, BookSide, str, int, str]], since: int, seed: int
) -> None:
    """In any order: of one study, one purpose, a period, and in all."""
    with closing(Store.in_memory()) as store, store.transaction() as books:
        shuffled = list(enumerate(facts))
        random.Random(seed).shuffle(shuffled)
        for number, (units, side, study, at, run) in shuffled:
            place = (study + run, str(number), 1, b"")
            charge = Charge(*place, study, PURPOSE[study], units, at, side=side)
            assert books.add_charge(charge) == 1
        assert books.spent() == dearest(facts)
        for study in PURPOSE:
            assert books.spent(study=study) == dearest([f for f in facts if f[2] == study])
        for purpose in ("p", "q"):
            own = [f for f in facts if PURPOSE[f[2]] == purpose]
            assert books.spent(purpose=purpose) == dearest(own)
        assert books.spent(since=since) == dearest([f for f in facts if f[3] >= since])
        read = {int(c.step): c.side for s in PURPOSE for r in "ab" for c in books.charges(s + r)}
        assert read == {number: side for number, (_, side, *_) in enumerate(facts)}


def test_a_period_that_begins_between_training_and_evaluation_counts_the_evaluation() -> None:
    """It adds nothing to the study, but whoever was held out paid it within the period."""
    with closing(Store.in_memory()) as store:
        with store.transaction() as books:
            for number, (side, at) in enumerate([(TRAIN, 10.0), (HELD, 20.0)]):
                books.add_charge(Charge("r", str(number), 1, b"", "s", "p", 7, at, side=side))
            assert books.spent() == 7
            assert books.spent(since=15.0) == 7
        assert [spent.units for spent in journal.spent_by(store, "study")] == [7]
        assert [spent.units for spent in journal.spent_by(store, "purpose")] == [7]


def test_books_know_no_other_side() -> None:
    with closing(Store.in_memory()) as store, pytest.raises(sqlite3.IntegrityError):
        store._db.execute(
            "INSERT INTO charge"
            " (run, step, attempt, instruction, study, purpose, units, charged_at, origin, side)"
            " VALUES ('r', 's', 1, x'00', 's', 'p', 1, 1.0, 'own', 'none')"
        )


def old_books(path: Path, version: int) -> None:
    """Books with one charge of 7 units, as an earlier Kesit wrote them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for script in migrations.MIGRATIONS[:version]:
            for statement in script:
                old.execute(statement)
        old.execute(f"PRAGMA user_version = {version}")
        old.execute(
            "INSERT INTO charge"
            " (run, step, attempt, instruction, study, purpose, units, charged_at, origin)"
            " VALUES ('r', 's', 1, ?, 'study', 'p', 7, 1.0, 'own')",
            (bytes(32),),
        )
        old.execute("INSERT INTO node VALUES ('inode', ?)", (str(path.stat().st_ino),))
    witness = {"head": 1, "costs": {"00" * 8: 7}}
    path.with_name(f"{path.name}.witness").write_text(json.dumps(witness))


@pytest.mark.parametrize("version", [1, 2])
def test_charges_of_older_books_are_paid_by_all(tmp_path: Path, version: int) -> None:
    path = tmp_path / "books.sqlite"
    old_books(path, version)
    with closing(Store.open(path)) as store:
        assert store.restored is None
        with store.transaction() as books:
            (charge,) = books.charges("r")
            assert (charge.units, charge.side) == (7, ALL)
            books.add_charge(Charge("r", "t", 1, bytes(31) + b"1", "study", "p", 5, 2.0, side=HELD))
            assert books.spent() == 12
        store.witness()
    seen = json.loads(path.with_name(f"{path.name}.witness").read_text())
    assert seen["costs"] == {"00" * 8: [7, 12]}


@pytest.mark.parametrize("side", [TRAIN, HELD])
def test_an_older_version_s_witness_still_holds_a_merge_back(
    tmp_path: Path, side: BookSide
) -> None:
    """Its charges were paid by all: one of one side cannot stand in for them."""
    path = tmp_path / "books.sqlite"
    old_books(path, 2)
    witness = {"head": 3, "costs": {"00" * 8: 7, "cd" * 8: 9}}
    path.with_name(f"{path.name}.witness").write_text(json.dumps(witness))
    told = entry(9, side)
    with closing(Store.open(path)) as store:
        store.merge([told], ME)
        assert "1 charges that the witness saw" in str(store.restored)
        store.merge([replace(told, side=ALL)], ME)
        assert store.restored is None


# The server's log.


def entry(units: int, side: BookSide = ALL, **fields: Any) -> Spending:
    told = Spending("ab" * 32, "p", "0" * 32, "s", 1, "cd" * 32, units, (ME,), side=side)
    return replace(told, **fields)


def through_a_file(entries: list[Spending], path: Path) -> tuple[Spending, ...]:
    path.write_bytes(sign_log(entries, SERVER))
    return read_log(path, frozenset({SERVER.public}))


def test_a_log_says_whose_sums_they_were(tmp_path: Path) -> None:
    entries = [entry(5, side, step=side.value) for side in BookSide]
    assert list(through_a_file(entries, tmp_path / "log")) == entries
    plain = canonical.decode((tmp_path / "log").read_bytes())["log"]["entries"]
    assert [item.get("side") for item in plain] == [None, "train", "held"]


def test_a_log_of_before_there_were_sides_is_paid_by_all(tmp_path: Path) -> None:
    """To the bit what older versions write, and read."""
    path = tmp_path / "log"
    plain = {
        **{"study": "ab" * 32, "purpose": "p", "run": "0" * 32, "step": "s", "attempt": 1},
        **{"instruction": "cd" * 32, "units": 5, "roster": [ME]},
    }
    body = {"tag": "kesit spending log v1", "server": SERVER.public, "entries": [plain]}
    old = canonical.encode({"log": body, "signature": SERVER.sign(canonical.encode(body))})
    assert sign_log([entry(5)], SERVER) == old
    path.write_bytes(old)
    assert read_log(path, frozenset({SERVER.public})) == (entry(5),)


@pytest.mark.parametrize("side", ["", "both", "TRAIN", 1, None, ["held"]])
def test_a_log_with_a_side_of_its_own_is_refused(tmp_path: Path, side: Any) -> None:
    plain = {**entry(5, HELD).as_dict(), "roster": [ME], "side": side}
    body = {"tag": "kesit spending log v1", "server": SERVER.public, "entries": [plain]}
    path = tmp_path / "log"
    path.write_bytes(
        canonical.encode({"log": body, "signature": SERVER.sign(canonical.encode(body))})
    )
    with pytest.raises(ProtocolError, match="is not a spending log"):
        read_log(path, frozenset({SERVER.public}))


@settings(max_examples=100, deadline=None)
@given(told=st.lists(st.tuples(st.integers(0, 50), SIDES), min_size=1, max_size=8))
def test_of_logs_that_contradict_each_other_the_dearest_counts_on_each_side(
    told: list[tuple[int, BookSide]],
) -> None:
    """Of one instruction; never less than any log said, and in any order never more than `ALL`."""
    with closing(Store.in_memory()) as store:
        for units, side in told:
            store.merge([entry(units, side)], ME)
        with store.transaction() as books:
            paid = books.by_run().get(("ab" * 32, "0" * 32), BySide())
        for units, side in told:
            one = BySide.total([(units, side)])
            assert paid.train >= one.train
            assert paid.held >= one.held
        assert paid.units <= 2 * max(units for units, _ in told)
        assert store.merge([entry(*told[-1])], ME) == 0


def test_merged_sides_do_not_add_and_merging_again_adds_nothing() -> None:
    entries = [
        entry(5, TRAIN),
        entry(6, HELD, step="e", instruction="ce" * 32),
        entry(3, TRAIN, attempt=2, instruction="cf" * 32),
    ]
    with closing(Store.in_memory()) as store:
        assert store.merge(entries, ME) == 3
        assert store.merge(entries, ME) == 0
        with store.transaction() as books:
            assert books.spent() == 8
            assert {charge.origin for charge in books.charges("0" * 32)} == {"merged"}


def test_a_log_that_moves_a_charge_to_the_cheaper_side_lifts_nothing(tmp_path: Path) -> None:
    """The witness knows on which side this client was charged; a lying server's log does not."""
    path = tmp_path / "books.sqlite"
    truth = [entry(9, TRAIN), entry(9, TRAIN, step="t", instruction="ce" * 32)]
    with closing(Store.open(path)) as store:
        with store.transaction() as books:
            for told in truth:
                digest = bytes.fromhex(told.instruction)
                books.add_charge(
                    Charge(told.run, told.step, 1, digest, told.study, "p", 9, 1.0, side=told.side)
                )
        store.witness()
        backup = Store.in_memory()
        assert backup.merge([truth[0]], ME) == 1
    path.unlink()
    with closing(Store.open(path)) as store:  # a new file: its charges are forgotten
        assert store.restored is not None
        store.merge([truth[0], replace(truth[1], side=HELD)], ME)
        assert store.restored is not None
        store.merge(truth, ME)
        assert store.restored is None
        with store.transaction() as books:
            assert books.by_run()["ab" * 32, "0" * 32] == BySide(18, 9)


def test_parts_of_customers_are_spread_over_both_sides() -> None:
    """The ledger above gives each side parts, so that its dearest part is a real customer's."""
    held = Side(*held_out(STUDY), inside=True).holds(np.arange(PARTS, dtype=np.int16))
    assert 0 < held.sum() < PARTS
