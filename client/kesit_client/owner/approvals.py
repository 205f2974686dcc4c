"""The owner's approvals: a copy of the study in `studies/`, and a note in the books.

The node answers for a study only if both are there. Taking an approval back removes the note first,
so that the node refuses at once.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from kesit_client.errors import ClientError, PolicyError
from kesit_client.home import BOOKS, POLICY, STUDIES
from kesit_client.owner import preflight
from kesit_client.owner.policy import Policy
from kesit_client.owner.preflight import Forecast
from kesit_client.owner.rule_facts import blocking, told
from kesit_privacy.errors import StudyError
from kesit_privacy.files import replacing, slug
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study

SHORTEST_PREFIX = 8


def price(home: Path, study: Study) -> tuple[Forecast, ...]:
    """What a whole run of the study would do to this client's budgets.

    Raises:
        Refusal: the policy forbids it.
        ClientError: the policy or the books cannot be used.
    """
    policy = Policy.load(home / POLICY)
    with closing(preflight.open_books(home / BOOKS)) as store:
        return preflight.forecast(study, policy, store)


def approve(home: Path, file: Path, expected: str) -> Path:
    """Keep a copy of a study, and note the owner's approval of it.

    Args:
        expected: the hash that the owner saw, and compared with the other members.

    Returns:
        Where the copy is.

    Raises:
        StudyError: the file is not that study.
        Refusal: the policy forbids it.
        PolicyError: a blocking rule of data protection fails.
        BudgetError: a whole run does not fit in what is left.
        ClientError: the policy or the books cannot be used, or the disk refuses.
    """
    study = load_study(file)
    if study.hash != expected:
        raise StudyError(
            str(file),
            f"its hash is {study.hash}, not {expected}.",
            remedy="Compare the file with the other members' copies; approve only what you agreed.",
        )
    preflight.require_room(study, price(home, study))
    require_rules(home, study)
    kept = copies(home).get(study.hash)
    place = kept or home / STUDIES / f"{slug(study.name)}-{study.hash[:12]}.toml"
    with _undone(None if kept else place), closing(preflight.open_books(home / BOOKS)) as store:
        if not kept:
            _copy(file, place)
            if load_study(place).hash != study.hash:
                raise StudyError(str(file), "changed while it was read.", remedy="Approve again.")
        with store.transaction() as books:
            books.approve(study)
    return place


def require_rules(home: Path, study: Study, now: float | None = None) -> None:
    """Refuse a study for which a blocking rule of the policy's packs fails.

    Args:
        now: Unix seconds; None for the present.

    Raises:
        PolicyError: one does; the error names all.
    """
    moment = None if now is None else datetime.datetime.fromtimestamp(now, datetime.UTC)
    found = blocking(home, study, Policy.load(home / POLICY).rules, moment)
    if found:
        raise PolicyError(
            f"The rules of data protection forbid this study here. {told(found)}",
            remedy="`kesit client rules STUDY.toml` says what to do about each; grounds that the"
            " study cannot show are recorded in attestations.toml.",
        )


def withdraw(home: Path, which: str) -> str:
    """Take an approval back.

    Args:
        which: the study's hash, or the beginning of it; or a study file.

    Returns:
        The study's hash.

    Raises:
        ClientError: no such approval, or the disk refuses.
        StudyError: the file is no study.
    """
    wanted = load_study(Path(which)).hash if Path(which).is_file() else which.strip().lower()
    if len(wanted) < SHORTEST_PREFIX:
        raise ClientError(
            f"{which!r} is too short for a hash.",
            remedy=f"Give {SHORTEST_PREFIX} digits of it or more, or the study file.",
        )
    with closing(preflight.existing_books(home / BOOKS)) as store, store.transaction() as books:
        found = [study for study, _ in books.approvals() if study.startswith(wanted)]
        if len(found) != 1:
            raise ClientError(
                f"{len(found)} approved studies have a hash that begins with {wanted[:16]}.",
                remedy="`kesit client budget` lists the approved studies.",
            )
        books.withdraw(found[0])
    copy = copies(home).get(found[0])
    if copy is not None:
        copy.unlink(missing_ok=True)
    return found[0]


def copies(home: Path) -> dict[str, Path]:
    """Files in `studies/` by the hash of the study; broken ones are left out."""
    found = {}
    for path in sorted((home / STUDIES).glob("*.toml")):
        with contextlib.suppress(StudyError):
            found[load_study(path).hash] = path
    return found


def approved_copies(home: Path) -> tuple[Study, ...]:
    """The studies in the folder, in the order of their names.

    Raises:
        StudyError: one cannot be read.
    """
    studies = (load_study(path) for path in copies(home).values())
    return tuple(sorted(studies, key=lambda study: (study.name, study.hash)))


def _copy(file: Path, place: Path) -> None:
    try:
        data = file.read_bytes()
        place.parent.mkdir(exist_ok=True)
        with replacing(place) as target:
            target.write(data)
    except OSError as error:
        raise ClientError(
            f"{place}: cannot be written ({error.strerror}).", remedy="Check the folder."
        ) from error


@contextlib.contextmanager
def _undone(place: Path | None) -> Iterator[None]:
    """Remove a new copy again if the approval fails."""
    try:
        yield
    except BaseException:
        if place is not None:
            place.unlink(missing_ok=True)
        raise
