"""What betrays a consent store that was restored from a backup: withdrawals since are not in it.

Every change of the store appends a number and a random token to a table of its own, and how many
events there are then. A small file in the client's folder, which backups leave out, names the
newest change that was seen. A store that does not hold that number with that token is an older
copy, or went on from one; one with another number of events lost some, at its end or elsewhere, or
got some in another way. Nothing may be counted or given out by it before its owner has brought it
up to date and says so.

A store and its witness that are put back together, from a copy of the whole folder, leave no sign
on this machine.
"""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import EventRow, WrittenRow
from kesit_privacy.files import replacing

WITNESS: Final = "consent.witness"
"""In the client's folder, wherever the store is."""
CAUTION: Final[dict[str, str]] = {
    "en": "Caution: the consent store looks like an older copy (restored from a backup); later"
    " withdrawals may be missing here. Import what came since and note what persons asked for, then"
    " `kesit client consent accept-restored`.",
    "tr": "Dikkat: rıza kaydı deposu eski bir kopyaya benziyor (yedekten dönülmüş); sonraki geri"
    " almalar burada eksik olabilir. Sonradan gelenleri içe aktarın ve başvuruları kaydedin,"
    " ardından `kesit client consent accept-restored`.",
}
"""On top of what is read from a store that looks restored: it answers its owner, with this."""
_UNREADABLE: Final = -1
Moment = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True)
class Seen:
    """A change of a store: the store's id, the change's number and its token."""

    store: str
    number: int
    token: str


def add(connection: Connection) -> None:
    """One more change, in the transaction that makes it; writers take turns."""
    newest = connection.scalar(sa.select(sa.func.max(WrittenRow.number))) or 0
    row = {"number": newest + 1, "token": secrets.token_hex(16), "events": _events(connection)}
    connection.execute(sa.insert(WrittenRow).values(**row))


def read(home: Path) -> Seen | None:
    """What the witness saw last; None without a witness.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return Seen(**json.loads((home / WITNESS).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return Seen("", _UNREADABLE, "")


def doubt(connection: Connection, store: str, seen: Seen | None) -> str | None:
    """Why a store looks restored, or None.

    Args:
        connection: of one moment of the store, which must begin after the witness was read: a
            change is in the store before the witness sees it.
        store: its id. seen: what its witness saw.
    """
    newest = _newest(connection)
    if seen is None:  # a store that was just made has had no time for its witness
        return None if newest.number <= 1 else "its witness is gone"
    if seen.number == _UNREADABLE:
        return "its witness cannot be read"
    if seen.store != store:
        return "another store was written here before it"
    query = sa.select(WrittenRow.token).where(WrittenRow.number == seen.number)
    token = connection.scalar(query)
    if token is None:
        return f"it holds {newest.number:,} changes, and its witness saw {seen.number:,}"
    if token != seen.token:
        return "it went on from an older copy"
    left, found = newest.events, _events(connection)
    return None if left == found else f"its last change left {left:,} events, and it has {found:,}"


def bring_up(home: Path, store: str, moment: Moment, *, trust: bool) -> None:
    """Let the witness see the newest change; not in a store that looks restored.

    Args:
        moment: a new moment of the store.
        trust: the owner says that the store is up to date.

    Raises:
        OSError: the disk refuses.
    """
    if _unseen(home, store, moment, trust) is None:
        return
    with (home / f".{WITNESS}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever writes later has seen no less
        newest = _unseen(home, store, moment, trust)
        if newest is not None:
            with replacing(home / WITNESS, private=True) as target:
                target.write(json.dumps(asdict(newest)).encode())


def _unseen(home: Path, store: str, moment: Moment, trust: bool) -> Seen | None:
    """The newest change, if the witness is to see it and has not."""
    seen = read(home)
    with moment() as connection:
        newest = _newest(connection)
        trusted = trust or doubt(connection, store, seen) is None
    last = Seen(store, newest.number, newest.token)
    return last if trusted and last != seen else None


def _newest(connection: Connection) -> Any:
    """The newest change's number, token and events."""
    query = sa.select(*WrittenRow.__table__.columns).order_by(WrittenRow.number.desc()).limit(1)
    return connection.execute(query).one()


def _events(connection: Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(EventRow)) or 0
