"""The SuperLink's list of node keys, brought in line with the member list.

The member list is the truth. `reconcile` is called when the server starts, before each run and
after each change of the list; what it did is kept in `nodes.json`, so that it can be called again
after a crash.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kesit_server.deployment.home import NODES, open_coordinator, replace_file
from kesit_server.errors import DeploymentError


class RegisterNode(Protocol):
    """Lets a node connect."""

    def __call__(self, node_key_pem: bytes, name: str) -> str:
        """Register a public key (an OpenSSH line); returns the SuperLink's id of the node.

        A key that is registered already keeps its id: a crash may have come before the note.
        """


class UnregisterNode(Protocol):
    """Ends a node's connection. Its key can never be registered again."""

    def __call__(self, node_id: str) -> None:
        """Unregister the node of this id; nothing happens if it is unregistered already."""


@dataclass(frozen=True)
class Reconciled:
    """Names of members whose nodes were let in, and of those that were put out."""

    registered: tuple[str, ...]
    unregistered: tuple[str, ...]


def reconcile(
    home: Path, register_node: RegisterNode, unregister_node: UnregisterNode
) -> Reconciled:
    """Register the node of every active member, and unregister all others.

    Raises:
        DeploymentError: `nodes.json` is broken or cannot be written.
    """
    members = open_coordinator(home).members
    known = read_nodes(home)
    came, went = [], []
    for member in members.members:
        node = known.get(member.node_key)
        if member in members.active and node is None:
            known[member.node_key] = register_node(member.node_key.encode("ascii"), member.name)
            came.append(member.name)
        elif member not in members.active and node is not None:
            unregister_node(node)
            del known[member.node_key]
            went.append(member.name)
        else:
            continue
        replace_file(home / NODES, json.dumps(known, indent=1).encode())
    return Reconciled(tuple(came), tuple(went))


def read_nodes(home: Path) -> dict[str, str]:
    """The SuperLink's node ids by node key; empty if none was ever registered.

    Raises:
        DeploymentError: the file is broken.
    """
    path = home / NODES
    try:
        nodes = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _broken(path) from error
    if not isinstance(nodes, dict) or not all(isinstance(node, str) for node in nodes.values()):
        raise _broken(path)
    return nodes


def _broken(path: Path) -> DeploymentError:
    return DeploymentError(
        f"{path}: is broken.",
        remedy="Delete it together with superlink.sqlite: the next start registers all members"
        " anew.",
    )
