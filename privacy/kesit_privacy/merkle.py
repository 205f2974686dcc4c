"""A Merkle tree that says nothing of how many leaves it holds: RFC 6962's hashing, padded.

The tree is a full one of a public depth. Its leaves lie at random places; every subtree without a
leaf is one random value, which looks like any other node to who does not hold the seed. So neither
the depth nor the length of a proof, nor a leaf's place, tells how many there are.
https://www.rfc-editor.org/rfc/rfc6962#section-2.1
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from kesit_privacy.errors import KesitError

SMALLEST_DEPTH: Final = 10
"""Even a study of ten customers has a tree of 1,024 places."""

Filler = Callable[[int, int], bytes]
"""(height, place) of a subtree without leaves -> its 32 bytes."""


def leaf_hash(data: bytes) -> bytes:
    """RFC 6962: SHA-256 of 0x00 and the leaf's data."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962: SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def public_depth(declared: int) -> int:
    """Depth of the tree for a public number of leaves: at least twice as many places."""
    return max(SMALLEST_DEPTH, (declared - 1).bit_length() + 1)


def filler(seed: bytes) -> Filler:
    """Random-looking values for empty subtrees, the same again from the same secret seed."""

    def fill(height: int, place: int) -> bytes:
        return hmac.digest(seed, b"%d %d" % (height, place), "sha256")

    return fill


def scatter(count: int, depth: int) -> list[int]:
    """`count` different random places of a tree.

    Raises:
        KesitError: the tree has not as many.
    """
    if count > 1 << depth:
        raise KesitError(
            f"{count:,} leaves do not fit in the {1 << depth:,} places that the study's"
            " declared_customers give.",
            remedy="Declare as many customers as all members together have.",
        )
    return secrets.SystemRandom().sample(range(1 << depth), count)


def levels(leaves: Mapping[int, bytes], depth: int, fill: Filler) -> list[dict[int, bytes]]:
    """Known nodes by place, from the leaf hashes (height 0) to the root (height `depth`)."""
    found = [dict(leaves)]
    for height in range(depth):
        below, above = found[-1], {}
        for place in {place >> 1 for place in below}:
            left, right = 2 * place, 2 * place + 1
            above[place] = node_hash(
                below[left] if left in below else fill(height, left),
                below[right] if right in below else fill(height, right),
            )
        found.append(above)
    return found


def root(tree: Sequence[Mapping[int, bytes]], fill: Filler) -> bytes:
    """The root of `levels`; of a tree without leaves it is random."""
    depth = len(tree) - 1
    return tree[depth].get(0) or fill(depth, 0)


def path(tree: Sequence[Mapping[int, bytes]], place: int, fill: Filler) -> list[bytes]:
    """The siblings from a leaf up to the root: `depth` values, whatever the tree holds."""
    siblings = []
    for height, nodes in enumerate(tree[:-1]):
        sibling = (place >> height) ^ 1
        siblings.append(nodes.get(sibling) or fill(height, sibling))
    return siblings


def verify_path(leaf: bytes, place: int, siblings: Sequence[bytes], expected: bytes) -> bool:
    """Whether a leaf hash at `place` leads to the root `expected`."""
    if not 0 <= place < 1 << len(siblings):
        return False
    value = leaf
    for height, sibling in enumerate(siblings):
        odd = place >> height & 1
        value = node_hash(sibling, value) if odd else node_hash(value, sibling)
    return hmac.compare_digest(value, expected)
