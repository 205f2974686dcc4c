"""`check`: everything that could keep a client from answering, looked at before a run does.

Nothing is sent, spent or changed. Each finding that is not fine is an error with its remedy, as it
would be raised; a warning is one that does not stop the node.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from kesit_client.checklist import check_policy, check_window
from kesit_client.consent import keeping
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import CONSENT
from kesit_client.errors import ClientError, DataError, PolicyError
from kesit_client.home import (
    BOOKS,
    IDENTITY,
    NODE_KEY,
    POLICY,
    SOURCE,
    STUDIES,
    own_request,
    read_members,
    read_source,
)
from kesit_client.ledger.store import Store
from kesit_client.owner import approvals, pins, preflight
from kesit_client.owner.onboarding import pending_request
from kesit_client.owner.policy import Policy
from kesit_client.rows.coding import check as problems_of
from kesit_client.rows.coding import people_ids
from kesit_privacy import accounting, node_keys
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import Identity, fingerprint
from kesit_privacy.keyfiles import Unlock, from_environment, is_locked
from kesit_privacy.membership import ACTIVE
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study

OK: Final = "OK"
WARN: Final = "WARN"
FAIL: Final = "FAIL"

SKEW_SECONDS: Final = 300
SOON_DAYS: Final = 60


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `error` says what is wrong and what would help."""

    level: str
    subject: str
    detail: str
    error: KesitError | None = None


def inspect(
    home: Path,
    study_file: Path | None = None,
    *,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> tuple[Finding, ...]:
    """Look at all of a client's folder, and at one study if a file is given.

    Raises:
        ClientError: this is no client's folder.
    """
    own_request(home)
    moment = time.time() if now is None else now
    found = [*_safely("keys", lambda: _keys(home, unlock))]
    found += _safely("members", lambda: _membership(home))
    found += _safely("certificate", lambda: _certificate(home, moment))
    found += _safely("policy", lambda: _policy(home, moment))
    found += _safely("pins", lambda: _pins(home))
    found += _safely("books", lambda: _books(home))
    found += _safely("data", lambda: _data(home))
    found += consents(home)
    found += _safely("studies", lambda: _studies(home, moment))
    if study_file is not None:
        study = load_study(study_file)
        found += _safely("study's approval", lambda: _study_approval(home, study))
        found += _safely("study's policy", lambda: _study_policy(home, study))
        found += _safely("study's rules", lambda: _study_rules(home, study, moment))
        found += _safely("study's budget", lambda: _study_budget(home, study))
        found += _safely("study's data", lambda: _study_data(home, study))
    return tuple(found)


def _safely(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except KesitError as error:
        yield Finding(FAIL, subject, error.cause, error)


def _warn(subject: str, cause: str, remedy: str) -> Finding:
    return Finding(WARN, subject, cause, ClientError(cause, remedy=remedy))


def _keys(home: Path, unlock: Unlock) -> Iterator[Finding]:
    request = own_request(home)
    identity, node_key = (
        Identity.load(home / IDENTITY, unlock),
        node_keys.load_node_key(home / NODE_KEY),
    )
    if (identity.public, node_keys.public_line(node_key)) != (request.identity, request.node_key):
        raise ClientError(
            "The keys are not those of request.json.",
            remedy="Restore all of them from one backup, or write the request anew with"
            " `kesit client request`.",
        )
    lock = "locked" if is_locked(home / IDENTITY) else "not locked with a passphrase"
    yield Finding(OK, "keys", f"{request.name}: {fingerprint(identity.public)} ({lock})")
    if os.name == "posix" and home.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield _warn(
            "folder",
            "Other users of this machine may look into the folder.",
            f"Run `chmod 700 {home}`: the cache and the books are as sensitive as the source.",
        )


def _membership(home: Path) -> Iterator[Finding]:
    members, request = read_members(home), own_request(home)
    if members is None:
        yield _warn(
            "members",
            "No member list was joined yet.",
            "Send request.json to the coordinator, then `kesit client join members.json`.",
        )
        return
    me = members.of_identity(request.identity)
    if me is None or me.status != ACTIVE:
        raise ProtocolError(
            f"The list (serial {members.serial}) says of this client:"
            f" {'nothing' if me is None else me.status}.",
            remedy="Ask the coordinator to admit it, then join its new list.",
        )
    yield Finding(OK, "members", f"{len(members.active)} active, serial {members.serial}")
    if pending_request(home) is not None:
        yield _warn(
            "new keys",
            "New keys wait for the coordinator's next list.",
            "Send next/request.json to the coordinator, then join its list.",
        )


def _certificate(home: Path, now: float) -> Iterator[Finding]:
    members = read_members(home)
    if members is None:
        return
    ca = x509.load_pem_x509_certificate(members.authority.encode("ascii"))
    start, end = ca.not_valid_before_utc.timestamp(), ca.not_valid_after_utc.timestamp()
    if now + SKEW_SECONDS < max(start, members.created):
        raise ClientError(
            "This machine's clock is behind the coordinator's certificate or member list.",
            remedy="Set the clock (NTP).",
        )
    if now > end:
        raise ClientError(
            f"The coordinator's CA certificate expired on {ca.not_valid_after_utc:%Y-%m-%d}, or"
            " this machine's clock is ahead.",
            remedy="Check the clock; then ask the coordinator for its current list.",
        )
    if now > end - SOON_DAYS * 86_400:
        yield _warn(
            "certificate",
            f"The coordinator's CA certificate ends on {ca.not_valid_after_utc:%Y-%m-%d}.",
            "Ask the coordinator what comes after it.",
        )
    else:
        yield Finding(OK, "certificate", f"valid until {ca.not_valid_after_utc:%Y-%m-%d}")


def _policy(home: Path, now: float) -> Iterator[Finding]:
    policy = Policy.load(home / POLICY)
    empty = [n for n in ("purposes", "features", "queries") if not getattr(policy, n)]
    if empty:
        yield _warn(
            "policy", f"It allows no {' and no '.join(empty)}.", f"Fill them in: {home / POLICY}"
        )
    else:
        yield Finding(OK, "policy", f"purposes: {', '.join(policy.purposes)}")
    try:
        check_window(policy, now)
    except KesitError as error:
        yield Finding(WARN, "window", error.cause, error)


def _pins(home: Path) -> Iterator[Finding]:
    policy, members = Policy.load(home / POLICY), read_members(home)
    found = pins.pins(home)
    for pin in found:
        if pin.status == pins.UNLISTED and members is not None:
            yield _warn(
                "pins",
                f"{pin.name} ({fingerprint(pin.identity)}) is {pins.UNLISTED}.",
                "Join the newest list; if it stays so, ask the member, then unpin it.",
            )
        elif pin.status not in (ACTIVE, pins.UNLISTED):
            raise PolicyError(
                f"{pin.name}'s pinned keys were {pin.status}.",
                remedy=f"`kesit client unpin {pin.name}`, or pin its new keys with --replace.",
            )
    if not policy.servers:
        yield _warn(
            "pins",
            "No coordinator is pinned: nothing is answered.",
            "`kesit client pin coordinator FINGERPRINT`",
        )
    if len(policy.pinned) + 1 < policy.min_roster:
        yield _warn(
            "pins",
            f"{len(policy.pinned)} peers are pinned; with min_roster = {policy.min_roster} it"
            f" takes {policy.min_roster - 1}.",
            "Compare fingerprints with the others, then `kesit client pin NAME FINGERPRINT`.",
        )
    elif policy.servers:
        yield Finding(OK, "pins", f"{len(policy.pinned)} peers and the coordinator")


def _books(home: Path) -> Iterator[Finding]:
    policy = Policy.load(home / POLICY)
    with closing(preflight.open_books(home / BOOKS)) as store:
        spent = _spent(store)
    cap, delta = policy.lifetime.epsilon, policy.lifetime.delta
    detail = (
        f"ε = {accounting.epsilon(spent, delta):.3g} of {cap:g} spent (lifetime, δ = {delta:g})"
    )
    if spent >= policy.units(cap):
        yield _warn("books", detail, "Nothing is left: raise the lifetime cap, or take no part.")
    else:
        yield Finding(OK, "books", detail)


def _spent(store: Store) -> int:
    with store.transaction() as books:
        return books.spent()


def _data(home: Path) -> Iterator[Finding]:
    policy, source = Policy.load(home / POLICY), read_source(home / SOURCE)
    rows = len(source.read(list(policy.features)))
    if rows < policy.min_customers:
        yield _warn(
            "data",
            f"{rows:,} rows, fewer than the policy's min_customers of {policy.min_customers:,}.",
            "Take part only if you mean to.",
        )
    else:
        yield Finding(OK, "data", f"{rows:,} rows, all columns of the policy's features")


def consents(home: Path) -> tuple[Finding, ...]:
    """Look at the consent store alone.

    Raises:
        ClientError: this is no client's folder.
    """
    own_request(home)
    return tuple(_safely("consent", lambda: _consents(home)))


def _consents(home: Path) -> Iterator[Finding]:
    policy = Policy.load(home / POLICY)
    if policy.consent == "not-kept":
        yield _warn(
            "consent",
            'The policy says consent = "not-kept": every row counts, whatever its ground.',
            'Import the records, then set consent = "required" in policy.toml.',
        )
        return
    with closing(ConsentStore.open(home, create=False)) as store:
        yield from _safely("consent", lambda: _whole(store))
        found = keeping.stand_on_each(store, policy.purposes)
        yield from _matched(home, store)
    if not found:
        yield _warn(
            "consent", "The policy names no purpose.", 'Write purposes = ["..."] in policy.toml.'
        )
    counting = {item.purpose for item in found if item.eligible}
    for item in found:
        total = sum(item.counts.values())
        ground = "" if item.basis == CONSENT else f" ({item.basis})"
        detail = f"{item.purpose}{ground}: {item.eligible:,} of {total:,} persons count"
        yield Finding(OK, "consent", detail)
        if item.basis == CONSENT and item.purpose not in counting:
            yield _warn("consent", f"{item.purpose}: nobody counts.", "Import consent records.")
        if item.soon:
            yield _warn(
                "consent",
                f"{item.purpose}: {item.soon:,} consents end within {keeping.SOON_DAYS} days.",
                "Ask for them anew, if the purpose still holds.",
            )
        if item.needless:
            yield _warn(
                "consent",
                f"{item.purpose}: {item.needless:,} persons gave a consent although another ground"
                " is recorded.",
                "Do not ask for a consent where another ground applies (2026/347).",
            )


def _whole(store: ConsentStore) -> Iterator[Finding]:
    """Whether the store looks restored from a backup."""
    store.require_whole()
    yield Finding(OK, "consent", "the store is as it was left")


def _matched(home: Path, store: ConsentStore) -> Iterator[Finding]:
    """Whether the source and the consents mean the same persons by their ids."""
    try:
        source = read_source(home / SOURCE)
        ids = people_ids(source.read([], total=True)[source.id_column])
    except KesitError:
        return  # "data" says what is wrong with it
    if not ids:
        return
    known = keeping.with_records(store, ids)
    detail = f"{known:,} of the source's {len(ids):,} customers have consent records"
    if known:
        yield Finding(OK, "consent", detail)
    else:
        yield _warn(
            "consent",
            f"{detail}: nobody can be counted.",
            f"Compare how {source.id_column} and pii_principal_id write an id: 00042 and 42 are two"
            " persons (spreadsheets drop zeros).",
        )


def _studies(home: Path, now: float) -> Iterator[Finding]:
    policy, kept = Policy.load(home / POLICY), approvals.copies(home)
    files = set((home / STUDIES).glob("*.toml"))
    for path in sorted(files - set(kept.values())):
        load_study(path)  # says what is wrong with it, or stands twice
        yield _warn("studies", f"{path.name}: is a second copy.", "Delete it.")
    with closing(preflight.existing_books(home / BOOKS)) as store, store.transaction() as books:
        approved = [study for study, _ in books.approvals()]
    for lost in sorted(set(approved) - set(kept)):
        yield _warn(
            "studies",
            f"The copy of the approved study {lost[:16]} is gone.",
            "Approve it again, or `kesit client withdraw-approval` it.",
        )
    for path in kept.values():
        study = load_study(path)
        if study.hash not in approved:
            yield _warn(
                "studies", f"{study.name} is not approved.", f"`kesit client approve {path}`"
            )
            continue
        check_policy(study, policy)
        yield Finding(OK, "studies", f"{study.name} ({study.hash[:16]}) is approved")
        yield from _safely("studies", partial(_runs, home, study, now))


def _runs(home: Path, study: Study, now: float) -> Iterator[Finding]:
    """Whether the rules, which passed at the approval, would let a run begin now."""
    approvals.require_rules(home, study, now)
    yield Finding(OK, "studies", f"{study.name}: no blocking rule fails now")


def _study_approval(home: Path, study: Study) -> Iterator[Finding]:
    with closing(preflight.existing_books(home / BOOKS)) as store, store.transaction() as books:
        approved = books.approved(study.hash)
    if approved and study.hash in approvals.copies(home):
        yield Finding(OK, "study's approval", "approved here")
    else:
        yield _warn(
            "study's approval", "not approved here", f"`kesit client approve STUDY --home {home}`"
        )


def _study_policy(home: Path, study: Study) -> Iterator[Finding]:
    check_policy(study, Policy.load(home / POLICY))
    yield Finding(OK, "study's policy", "purpose, features, queries and cost are allowed")


def _study_rules(home: Path, study: Study, now: float) -> Iterator[Finding]:
    approvals.require_rules(home, study, now)
    yield Finding(OK, "study's rules", "no blocking rule of data protection fails now")


def _study_budget(home: Path, study: Study) -> Iterator[Finding]:
    preflight.require_room(study, approvals.price(home, study))
    yield Finding(OK, "study's budget", f"ε = {study.epsilon:g} fits in every budget")


def _study_data(home: Path, study: Study) -> Iterator[Finding]:
    policy, source = Policy.load(home / POLICY), read_source(home / SOURCE)
    table = source.read([feature.name for feature in study.features])
    problems = problems_of(table, study, source.id_column, policy.min_customers)
    if problems:
        raise DataError(problems)
    yield Finding(OK, "study's data", f"{len(table):,} rows; no problem was found")
