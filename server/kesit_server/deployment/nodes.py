"""Which nodes the SuperLink admits. A member's identity is another thing: its Ed25519 key.

Flower knows a node by its EC key and calls it by a number. A key that was revoked can never be
registered again in the same SuperLink: its owner makes a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)

from kesit_server.deployment import flower_internals as flower
from kesit_server.deployment.door import Door
from kesit_server.errors import DeploymentError


@dataclass(frozen=True)
class NodeState:
    """A node as the SuperLink sees it: `status` is registered, online, offline or unregistered.

    `public_key` is PEM (SubjectPublicKeyInfo).
    """

    node_id: int
    name: str
    status: str
    public_key: bytes


def admit(door: Door, public_key: bytes, name: str) -> int:
    """Register a node's EC P-384 public key (PEM or OpenSSH); the node's id.

    Raises:
        DeploymentError: no such key, known or revoked before, or no server runs.
    """
    pem = canonical_key(public_key)
    with _control(door) as control:
        return flower.register(control, pem, name)


def revoke(door: Door, node_id: int) -> None:
    """End a node's registration: its next request is refused, and it makes one now.

    Raises:
        DeploymentError: no such node, or no server runs.
    """
    with _control(door) as control:
        flower.unregister(control, node_id)
        flower.ring(door)  # a node that waits learns it now


def nodes(door: Door) -> list[NodeState]:
    """Every node that was ever registered.

    Raises:
        DeploymentError: no server runs.
    """
    with _control(door) as control:
        return [
            NodeState(info.node_id, info.name, info.status, info.public_key)
            for info in flower.node_info(control)
        ]


def canonical_key(public_key: bytes) -> bytes:
    """A node's public key (PEM or OpenSSH) as the PEM by which the SuperLink knows it.

    Raises:
        DeploymentError: it is no EC P-384 public key.
    """
    try:
        load = load_ssh_public_key if public_key.startswith(b"ecdsa-") else load_pem_public_key
        key = load(public_key)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise DeploymentError(
            "The node's key is no EC P-384 public key.",
            remedy="Ask its owner for the key that Kesit made.",
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@contextmanager
def _control(door: Door) -> Iterator[flower.Control]:
    try:
        with flower.control_client(door) as control:
            yield control
    except httpx.HTTPStatusError as error:
        raise DeploymentError(
            f"The server process refuses: {flower.told(error)}",
            remedy="See `kesit server status`; a revoked key is never admitted again.",
        ) from error
    except httpx.TransportError as error:
        raise DeploymentError(
            "The server process does not answer.", remedy="Start it with `kesit server start`."
        ) from error
