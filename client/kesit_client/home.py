"""A node's folder: names of its files, and those that many read. `opening` makes a node of it.

identity.pem   the Ed25519 key, readable by its owner alone
node.pem       the key with which the node opens Flower's door
request.json   the enrolment request for these two: own public keys and name
members.json   the newest member list that the coordinator signed
next           new keys that wait for the coordinator, if there are any
former.json    identities that this client had before, if there were any
policy.toml    what the owner allows
source.toml    where the rows are: `path` (CSV or Parquet) or `url` and `query`; `id_column`
attestations.toml  what people attest for the rules of data protection, if anything
studies/       approved copies, one TOML file each
books.sqlite   the ledger (and its witness beside it)
cache/         coded rows
consent.toml   what consent records have in common, and where they are if not here
consent.sqlite consents and other grounds, requests of persons
consent.witness  the newest change of the consent store: one that is older was restored
consent-runs/  of each run, the moment of the consents in its latest sum
attestations/  what the client signed about its runs
node.json      the number by which the server knows the node
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from kesit_client.consent.settings import CONSENT
from kesit_client.errors import ClientError, SourceError
from kesit_client.rows.sources import FileSource, Source, SqlSource
from kesit_privacy.enrolment import EnrolmentRequest, read_request
from kesit_privacy.membership import MemberList, read_list

IDENTITY = "identity.pem"
NODE_KEY = "node.pem"
REQUEST = "request.json"
MEMBERS = "members.json"
NEXT = "next"
MEMORY = "node.json"
FORMER = "former.json"
POLICY = "policy.toml"
SOURCE = "source.toml"
STUDIES = "studies"
BOOKS = "books.sqlite"
CACHE = "cache"


def own_request(home: Path) -> EnrolmentRequest:
    """The client's own enrolment request: its name and public keys.

    Raises:
        ClientError: this is no client's folder.
        ProtocolError: the request is broken.
    """
    if not (home / REQUEST).is_file():
        raise ClientError(
            f"{home}: is no client's folder (it has no {REQUEST}).",
            remedy="Give the folder that `kesit client init` made.",
        )
    return read_request(home / REQUEST)


def read_members(home: Path) -> MemberList | None:
    """The member list that the client holds, or None before it joined.

    Raises:
        ProtocolError: it is broken.
    """
    return read_list(home / MEMBERS) if (home / MEMBERS).exists() else None


def former_identities(home: Path) -> tuple[str, ...]:
    """Identities that this client had before.

    Raises:
        ClientError: the file is broken.
    """
    path = home / FORMER
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise ClientError(f"{path}: cannot be read.", remedy="Restore it.") from error
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ClientError(f"{path}: is broken.", remedy="Restore it from a backup.")
    return tuple(found)


def last_changes(home: Path) -> tuple[int, ...]:
    """Times (ns) at which the owner's own files last changed; 0 for what is missing."""
    files = [home / name for name in (IDENTITY, POLICY, SOURCE, STUDIES, CONSENT)]
    files += sorted((home / STUDIES).glob("*.toml"))
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)


def read_source(path: Path) -> Source:
    """The source that a `source.toml` describes. Relative paths are relative to that file.

    Raises:
        SourceError: unreadable, or neither a path nor a URL with a query.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error}).", remedy="Write it anew.") from error
    nulls = tables.pop("null_values", None)
    text = all(isinstance(value, str) for value in tables.values())
    if text and set(tables) == {"path", "id_column"} and isinstance(nulls, list | None):
        null_values = ("",) if nulls is None else tuple(map(str, nulls))
        return FileSource(path.parent / tables["path"], tables["id_column"], null_values)
    if text and set(tables) == {"url", "query", "id_column"} and nulls is None:
        return SqlSource(tables["url"], tables["query"], tables["id_column"])
    raise SourceError(
        f"{path}: describes no source.",
        remedy="Give `path` and `id_column`, or `url`, `query` and `id_column` (all text).",
    )
