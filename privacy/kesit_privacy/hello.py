"""Hello: each client's ephemeral key for one run, signed by its identity.

The server gathers the hellos of a run into one *transcript*; its hash salts every mask key, so
members that were shown different transcripts share no mask. A hello binds the study, the run, the
server and how the client makes noise; it can serve in no other place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

from kesit_privacy import canonical
from kesit_privacy.errors import ProtocolError
from kesit_privacy.identity import Identity, verify
from kesit_privacy.masking import SharedSecrets

PROTOCOL = 1
HELLO_TAG = "kesit hello v1"
_PROBE = canonical.digest(b"kesit ephemeral key probe v1")
"""A private key that everyone knows: one key has one secret with it, however it is written."""


@dataclass(frozen=True)
class HelloRequest:
    """What the server asks for at the start of a run. All fields but `protocol` are hex."""

    study: str
    run: str
    server: str
    protocol: int = PROTOCOL

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> HelloRequest:
        """Read canonical bytes.

        Raises:
            ProtocolError: not a hello request of this protocol.
        """
        return cls.from_value(canonical.decode(data))

    @classmethod
    def from_value(cls, value: Any) -> HelloRequest:
        """Read a decoded value; see `parse`."""
        fields = _fields(value, "study", "run", "server", "protocol")
        if type(fields["protocol"]) is not int or fields["protocol"] != PROTOCOL:
            raise _bad("another version of the protocol")
        request = cls(**fields)
        for text, size in ((request.study, 32), (request.run, 16), (request.server, 32)):
            check_hex(text, size)
        return request


@dataclass(frozen=True)
class Hello:
    """One client's answer.

    Attributes:
        identity: its Ed25519 key; ephemeral: its X25519 key for this run (hex).
        mode: `noise.SECURE`, or how a simulated client differs from it.
        canary: SHA-256 of the seed from which this client would draw canary bits (hex).
        signature: over all of this and the request, by `identity`.
    """

    identity: str
    ephemeral: str
    mode: str
    canary: str
    signature: str

    @classmethod
    def sign(
        cls, request: HelloRequest, identity: Identity, *, ephemeral: str, mode: str, canary: str
    ) -> Hello:
        """A signed hello."""
        unsigned = cls(identity.public, ephemeral, mode, canary, "")
        return cls(
            identity.public, ephemeral, mode, canary, identity.sign(unsigned.signed_bytes(request))
        )

    @classmethod
    def from_value(cls, value: Any) -> Hello:
        """Read a decoded value.

        Raises:
            ProtocolError: fields of the wrong names, types or lengths.
        """
        hello = cls(**_fields(value, "identity", "ephemeral", "mode", "canary", "signature"))
        sizes = (
            (32, hello.identity),
            (32, hello.ephemeral),
            (32, hello.canary),
            (64, hello.signature),
        )
        for size, text in sizes:
            check_hex(text, size)
        if not isinstance(hello.mode, str) or len(hello.mode) > 40:
            raise _bad("a mode that is no short string")
        return hello

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(asdict(self))

    def signed_bytes(self, request: HelloRequest) -> bytes:
        """What the signature covers."""
        return canonical.encode(
            {
                "tag": HELLO_TAG,
                "request": asdict(request),
                "ephemeral": self.ephemeral,
                "mode": self.mode,
                "canary": self.canary,
            }
        )


@dataclass(frozen=True)
class Transcript:
    """All hellos of a run, sorted by identity. Built only by `gather` and `read`, both checked."""

    request: HelloRequest
    hellos: tuple[Hello, ...]

    @cached_property
    def encoded(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(
            {"request": asdict(self.request), "hellos": [asdict(hello) for hello in self.hellos]}
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `encoded`, hex."""
        return canonical.digest(self.encoded).hex()

    @cached_property
    def by_identity(self) -> dict[str, Hello]:
        """Hellos by identity."""
        return {hello.identity: hello for hello in self.hellos}

    @cached_property
    def modes(self) -> frozenset[str]:
        """All modes that the hellos declare."""
        return frozenset(hello.mode for hello in self.hellos)


def gather(request: HelloRequest, hellos: Iterable[Hello]) -> Transcript:
    """The transcript of these hellos.

    Raises:
        ProtocolError: an identity or an ephemeral key occurs twice (with a copied key two masks
            would cancel), an ephemeral key is of low order (its secrets would be public), or a
            signature does not hold for this request.
    """
    ordered = tuple(sorted(hellos, key=lambda hello: hello.identity))
    probe = SharedSecrets(_PROBE)
    keys: dict[str, set[str] | set[bytes]] = {
        "identity": {hello.identity for hello in ordered},
        # Several encodings of a point, and points that differ by a small order, act as one key.
        "ephemeral": {probe(hello.ephemeral) for hello in ordered},
    }
    for name, distinct in keys.items():
        if len(distinct) != len(ordered):
            raise _bad(f"two hellos with one {name} key")
    for hello in ordered:
        if not verify(hello.identity, hello.signed_bytes(request), hello.signature):
            raise _bad("a hello whose signature does not hold for this run")
    return Transcript(request, ordered)


@lru_cache(maxsize=8)
def read(data: bytes) -> Transcript:
    """Parse and check a transcript's canonical bytes. Pure, hence remembered.

    Raises:
        ProtocolError: as `gather`, or not the canonical form.
    """
    fields = _fields(canonical.decode(data), "request", "hellos")
    if not isinstance(fields["hellos"], list):
        raise _bad("no list of hellos")
    hellos = [Hello.from_value(value) for value in fields["hellos"]]
    transcript = gather(HelloRequest.from_value(fields["request"]), hellos)
    if transcript.encoded != data:
        raise _bad("hellos out of order")
    return transcript


def check_hex(text: Any, size: int) -> None:
    """Refuse anything but `size` bytes as lower-case hex.

    Raises:
        ProtocolError: another type, length or alphabet.
    """
    if not isinstance(text, str) or len(text) != 2 * size or set(text) - set("0123456789abcdef"):
        raise _bad(f"a field that is not {size} bytes in hex")


def _fields(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise _bad("fields of other names")
    return value


def _bad(what: str) -> ProtocolError:
    return ProtocolError(
        f"The hellos hold {what}.", remedy="Check which members and versions take part, and rerun."
    )
