"""What a client signs at the end of a run, and what each person can be shown of it.

The tree is built once for a run, from the consents that its last sum counted, and kept: an erasure
later takes a person's salt away, but no leaf. `kesit_privacy.attestation` has the form of it all.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent import standing
from kesit_client.consent.events import show_time
from kesit_client.consent.gate import Moment
from kesit_client.consent.models import EventRow, LeafRow, Person, TreeRow
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import Reason
from kesit_client.errors import ClientError, ConsentError
from kesit_client.ledger.store import RUN_DAYS, Store
from kesit_privacy import merkle
from kesit_privacy.attestation import EXCLUDED, INCLUDED, Attestation, Proof, commitment
from kesit_privacy.files import replacing
from kesit_privacy.identity import Identity
from kesit_privacy.study import Study

ATTESTATIONS: Final = "attestations"
RulePack = tuple[str, str]


def attest(
    home: Path,
    run: str,
    study: Study,
    *,
    identity: Identity,
    books: Store,
    consent: str,
    rule_pack: RulePack | None = None,
    verdicts: Sequence[Mapping[str, Any]] = (),
    now: float | None = None,
) -> Path:
    """Sign what this client did in a run; the file's place.

    Args:
        consent: the policy's mode, for a run in which no sum was answered.
        rule_pack: id and version of the rules that were checked.
        verdicts: their results, as plain data. They leave the client: released values only.
        now: Unix seconds; None for the present.

    Raises:
        ClientError: the run is not known here, or the disk refuses.
        ConsentError: the consents cannot be read.
    """
    with books.transaction() as read:
        known = read.run(run)
        sums = tuple(
            (charge.step, charge.attempt, charge.instruction.hex())
            for charge in read.charges(run)
            if charge.origin == "own" and read.answer(run, charge.step, charge.attempt) is not None
        )
    if known is None or known.study != study.hash:
        raise ClientError(
            f"The run {run[:16]} of this study is not in the books.",
            remedy="`kesit client log` lists the runs.",
        )
    if known.ephemeral is not None:
        raise ClientError(
            f"The run {run[:16]} is not over: what its last sum will count is not known.",
            remedy="It is attested when it ends; a run that no server ends is over after"
            f" {RUN_DAYS} days.",
        )
    # What was done counts, not what the policy says by now.
    moment = Moment.read(home, run)
    if moment is not None or sums:
        consent = "not-kept" if moment is None else "required"
    tree = None if moment is None else _tree(home, moment, study)
    statement = Attestation(
        study=study.hash,
        run=run,
        consent=consent,
        sums=sums,
        depth=None if tree is None else tree[0],
        root=None if tree is None else tree[1],
        signed_at=int(time.time() if now is None else now),
        rule_pack=rule_pack,
        verdicts=tuple(verdicts),
    )
    return _write(home, run, statement.sign(identity))


def place_of(home: Path, run: str) -> Path:
    """Where a run's attestation is."""
    return home / ATTESTATIONS / f"{run}.json"


def prove(store: ConsentStore, principal: str, run: str) -> Proof:
    """What one person is given: its leaf of the run's tree, and the way to the root.

    Args:
        run: its id, or the beginning of it.

    Raises:
        ConsentError: the run has no tree, or no leaf of this person (which an erasure takes away).
    """
    key = store.pseudonyms([principal])[0]
    with store.reading() as connection:
        trees = connection.execute(
            sa.select(*TreeRow.__table__.columns).where(
                TreeRow.run.startswith(run, autoescape=True)
            )
        ).fetchall()
        tree = trees[0] if len(trees) == 1 and run else None
        run = run if tree is None else tree.run
        own = connection.execute(
            sa.select(LeafRow.position, LeafRow.salt, LeafRow.decision, LeafRow.digest)
            .join(Person, Person.no == LeafRow.person)
            .where(LeafRow.run == run, Person.key == key)
        ).one_or_none()
        leaves = connection.execute(
            sa.select(LeafRow.position, LeafRow.leaf).where(LeafRow.run == run)
        ).fetchall()
    if tree is None:
        raise ConsentError(
            f"There is no attestation of a run that begins with {run[:16]!r}.",
            remedy="`kesit client attest RUN`",
        )
    if own is None:
        raise ConsentError(
            "This person has no leaf in the run's tree: it was not known then, or was erased.",
            remedy="Nothing can be proved about it.",
        )
    fill = merkle.filler(tree.seed)
    known = merkle.levels({place: bytes(leaf) for place, leaf in leaves}, tree.depth, fill)
    siblings = merkle.path(known, own.position, fill)
    return Proof(
        run=run,
        principal=principal,
        decision=own.decision,
        digest=own.digest,
        salt=own.salt.hex(),
        place=own.position,
        siblings=tuple(item.hex() for item in siblings),
    )


def _tree(home: Path, moment: Moment, study: Study) -> tuple[int, str]:
    """Depth and root of the run's tree, which is built the first time.

    It is built outside of the writing transaction: for a million persons it takes long enough to
    keep an import waiting in vain. If somebody was erased meanwhile, it is built again.
    """
    with closing(ConsentStore.open(home, create=False)) as store:
        while True:
            with store.counting() as connection:
                kept, removals = _kept(connection, moment.run), store.removals(connection)
                if kept is not None:
                    return kept
                depth = merkle.public_depth(study.declared_customers)
                decided = _decided(connection, moment, reads_special(study))
                leaves = _leaves(connection, moment, decided, moment.counted(home), depth)
            seed = secrets.token_bytes(32)
            fill = merkle.filler(seed)
            nodes = dict(zip(leaves["position"], leaves["leaf"], strict=True))
            root = merkle.root(merkle.levels(nodes, depth, fill), fill).hex()
            with store.writing() as connection:
                if _kept(connection, moment.run) or store.removals(connection) != removals:
                    continue
                tree = {"run": moment.run, "depth": depth, "seed": seed, "root": root}
                connection.execute(sa.insert(TreeRow), [tree | {"moment": moment.at}])
                store.add(connection, LeafRow, leaves)
            moment.forget_counted(home)
            return depth, root


def _kept(connection: Connection, run: str) -> tuple[int, str] | None:
    """Depth and root of a run's tree, if it is built."""
    query = sa.select(TreeRow.depth, TreeRow.root).where(TreeRow.run == run)
    found = connection.execute(query).one_or_none()
    return None if found is None else (found.depth, found.root)


def _decided(connection: Connection, moment: Moment, special: bool) -> pl.DataFrame:
    """How everybody stood at the moment (see `standing.decide`)."""
    events = standing.read(connection, moment.purpose, moment.basis, special=special)
    return standing.decide(events.filter(pl.col("id") <= moment.head), moment.at, moment.basis)


def _leaves(
    connection: Connection, moment: Moment, table: pl.DataFrame, counted: pl.Series, depth: int
) -> pl.DataFrame:
    """Rows of `LeafRow` for everybody whom the store knows, at random places."""
    names = fetch(
        connection,
        sa.select(Person.no, Person.principal).where(Person.principal.is_not(None)),
        {"person": pl.Int64, "principal": pl.String},
    )
    digests = fetch(
        connection,
        sa.select(EventRow.id, EventRow.digest).where(EventRow.id <= moment.head),
        {"event": pl.Int64, "digest": pl.Binary},
    )
    # Who was counted is a fact that was noted; everybody else has a reason.
    known = table.join(names, on="person").join(digests, on="event", how="left")
    known = known.with_columns(
        counted=pl.col("person").is_in(counted.implode()), hex=pl.col("digest").bin.encode("hex")
    )
    rows = []
    for row in known.select("person", "principal", "reason", "since", "counted", "hex").rows():
        person, principal, reason, since, inside, digest = row
        salt, decision = secrets.token_bytes(32), _decision(inside, Reason(reason), since)
        data = commitment(salt, principal, decision, digest or "")
        rows.append((merkle.leaf_hash(data), person, salt, decision, digest or ""))
    names_of = ["leaf", "person", "salt", "decision", "digest"]
    kinds = [pl.Binary, pl.Int64, pl.Binary, pl.String, pl.String]
    leaves = pl.DataFrame(rows, schema=dict(zip(names_of, kinds, strict=True)), orient="row")
    places = pl.Series("position", merkle.scatter(len(leaves), depth), dtype=pl.Int64)
    # By place, so that rows lie in the store in no order of persons: a leaf that an erasure took
    # its person from must not be known by its neighbours.
    return leaves.with_columns(run=pl.lit(moment.run), position=places).sort("position")


def _decision(counted: bool, reason: Reason, since: int | None) -> str:
    if counted:
        return INCLUDED
    if reason is Reason.GIVEN:
        return f"{EXCLUDED}: not among the customers with whom the run began"
    return f"{EXCLUDED}: {reason.word}" + ("" if since is None else f" at {show_time(since)}")


def _write(home: Path, run: str, data: bytes) -> Path:
    place = place_of(home, run)
    try:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with replacing(place) as file:
            file.write(data)
    except OSError as error:
        raise ClientError(
            f"{place}: cannot be written ({error.strerror}).", remedy="Check the folder."
        ) from error
    return place
