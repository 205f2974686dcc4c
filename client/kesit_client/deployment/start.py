"""A member's node from its folder: what `kesit client start` runs, under supervision."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.clientapp import ClientApp  # isort: skip

from kesit_client.app import make_app
from kesit_client.deployment.node_loop import Event, Link, run_node
from kesit_client.deployment.supervise import supervise
from kesit_client.errors import ClientError
from kesit_client.home import (
    IDENTITY,
    MEMORY,
    NODE_KEY,
    POLICY,
    last_changes,
    read_members,
)
from kesit_client.node import Node
from kesit_client.opening import open_node
from kesit_client.owner.policy import Policy
from kesit_privacy.bundle import POINTER_HASH
from kesit_privacy.keyfiles import Unlock, is_locked
from kesit_privacy.node_keys import load_node_key


def start(home: Path, unlock: Unlock, on_event: Callable[[Event], None]) -> None:
    """Run the node of a folder until SIGTERM or SIGINT, and start it again when it crashes.

    The passphrase is asked for once and handed to each child over a pipe, never in its environment.

    Raises:
        KesitError: the folder lacks something, or the server does not admit the node.
    """
    passphrase = unlock(home / IDENTITY) if is_locked(home / IDENTITY) else None
    open_node(home, lambda path: passphrase).store.close()  # what is wrong is said before it runs
    link_of(home)
    supervise(partial(serve, home, passphrase), on_message=on_event)


def serve(home: Path, passphrase: bytes | None) -> None:
    """Be the node of a folder until stopped; events and the node's log go to stderr."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    app = folder_app(home, lambda path: passphrase)
    run_node(link_of(home), app=app, on_message=tell)


def folder_app(home: Path, unlock: Unlock) -> ClientApp:
    """The installed ClientApp over the folder's node, which is opened anew when it changed."""

    @lru_cache(maxsize=1)
    def node(state: tuple[int, ...]) -> Node:
        return open_node(home, unlock)

    return make_app(lambda context: node(last_changes(home)))


def link_of(home: Path) -> Link:
    """How the folder's node reaches the server of the member list that it joined.

    Raises:
        KesitError: it has joined none, or its key or policy cannot be read.
    """
    members = read_members(home)
    if members is None:
        raise ClientError(
            f"{home}: has joined no federation yet.",
            remedy="kesit client join MEMBERS.json, with the list that the coordinator sent.",
        )
    bundles = Policy.load(home / POLICY).bundles
    return Link(
        address=f"{members.host}:{members.port}",
        root_certificates=members.authority.encode("ascii"),
        key=load_node_key(home / NODE_KEY),
        memory=home / MEMORY,
        pins=frozenset({POINTER_HASH} if bundles is None else bundles),
    )


def tell(event: Event) -> None:
    """One line on stdout."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {event.kind}: {event.text}", flush=True)
