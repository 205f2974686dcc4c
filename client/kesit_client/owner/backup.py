"""A client's folder in one archive: all but the cache, and the books as of one moment.

The archive holds private keys (locked, if they are) and is readable by its owner alone. The witness
stays behind on purpose: restored books must look restored, so that their owner merges the
coordinator's log before the node answers again. So does the consent store's witness: a restored
store has forgotten what came after the backup, withdrawals among it, and counts nobody before its
owner has imported those again (`kesit client consent accept-restored`).
"""

from __future__ import annotations

import io
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Final

from kesit_client.consent.attesting import ATTESTATIONS
from kesit_client.consent.gate import MOMENTS
from kesit_client.consent.settings import CONSENT, STORE
from kesit_client.errors import ClientError
from kesit_client.home import (
    BOOKS,
    FORMER,
    IDENTITY,
    MEMBERS,
    MEMORY,
    NEXT,
    NODE_KEY,
    POLICY,
    REQUEST,
    SOURCE,
    STUDIES,
)
from kesit_client.owner.preflight import existing_books
from kesit_privacy.files import replacing

PARTS = (
    *(IDENTITY, NODE_KEY, MEMORY, REQUEST, MEMBERS, FORMER, POLICY, SOURCE, STUDIES, NEXT),
    *(CONSENT, ATTESTATIONS, MOMENTS),
)


def write_backup(home: Path, file: Path) -> None:
    """Write the archive (tar, gzip); the node may go on working meanwhile.

    Raises:
        ClientError: the file exists, or the disk refuses.
        StoreError: the books cannot be read.
    """
    if file.exists():
        raise ClientError(
            f"{file}: exists already, and nothing was written.", remedy="Give another name."
        )
    existing_books(home / BOOKS).close()
    try:
        with (
            replacing(file, private=True) as target,
            tarfile.open(fileobj=target, mode="w:gz") as archive,
        ):
            for name in PARTS:
                if (home / name).exists():
                    archive.add(home / name, arcname=name)
            _add_database(archive, home / BOOKS, forget=_KEYS_OF_RUNS)
            if (home / STORE).exists():
                _add_database(archive, home / STORE)
    except (OSError, sqlite3.Error) as error:
        raise ClientError(
            f"{file}: the backup cannot be written ({error}).",
            remedy="Check the place, the permissions and the room on the disk.",
        ) from error


_KEYS_OF_RUNS: Final = "UPDATE run SET ephemeral = NULL"
"""A restored node answers no old run; a thief of the archive could take that run's masks off."""


def _add_database(archive: tarfile.TarFile, path: Path, forget: str | None = None) -> None:
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as books,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        books.backup(copy)
        if forget is not None:
            copy.execute("PRAGMA secure_delete = ON")
            copy.execute(forget)
            copy.commit()
        data = copy.serialize()
    entry = tarfile.TarInfo(path.name)
    entry.size, entry.mode, entry.mtime = len(data), 0o600, int(path.stat().st_mtime)
    archive.addfile(entry, io.BytesIO(data))
