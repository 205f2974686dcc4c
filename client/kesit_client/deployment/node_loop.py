"""A node: asks the server for messages, answers them with the installed app, one at a time.

It opens no port, starts no process and fetches no bundle. It waits for a server that is away and
comes back by itself; it ends when told to, or with one error that its owner must act upon.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Message  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip

from kesit_client.app import app as installed_app
from kesit_client.deployment import flower_internals as flower
from kesit_client.deployment.memory import Memory
from kesit_client.deployment.stopping import Interrupted, Stop
from kesit_client.errors import AdmissionError, CertificateError, LinkError
from kesit_privacy.bundle import POINTER_HASH

ACTIVATION_SECONDS = 120.0
"""How long a refused activation is tried again while an earlier session may count as online."""

HEARTBEAT_SECONDS = 4.0
"""Between two heartbeats; the server waits for twenty."""

LONGEST_BACKOFF = 10.0

SENDS = 4
"""How often a reply is sent again before the node goes back to asking for messages."""


@dataclass(frozen=True)
class Link:
    """What a node needs to reach its server.

    Attributes:
        address: the server's public `host:port`.
        root_certificates: PEM; the only authorities that are trusted.
        key: the node's EC P-384 key, which the server has admitted.
        memory: a file of this node alone; it holds the id that the server gave.
        node_config: what the app finds in Flower's node configuration.
        pins: SHA-256 hashes of the bundles whose runs the node takes part in.
    """

    address: str
    root_certificates: bytes
    key: ec.EllipticCurvePrivateKey
    memory: Path
    node_config: Mapping[str, str] = field(default_factory=dict)
    pins: frozenset[str] = frozenset({POINTER_HASH})


@dataclass(frozen=True)
class Event:
    """Something for the node's log. `kind` is one of: connected, waiting, answered, refused,
    failed, lost, stopped. `text` is a sentence for the node's owner; it never leaves."""

    kind: str
    text: str


OnMessage = Callable[[Event], None]


def run_node(
    link: Link,
    *,
    app: ClientApp = installed_app,
    on_message: OnMessage = lambda event: None,
    stop: Stop | None = None,
    activation_seconds: float = ACTIVATION_SECONDS,
) -> None:
    """Be a node until `stop` is requested (by default: until SIGTERM or SIGINT).

    Raises:
        CertificateError: the server's certificate is not trusted, or out of date.
        AdmissionError: the server does not admit the node's key, or has revoked it.
        LinkError: another node runs from the same memory, or the certificates cannot be read.
    """
    stop = stop if stop is not None else Stop.on_signals()
    with _connection(link) as connection, Memory.open(link.memory) as memory:
        loop = _Loop(link, connection, app, on_message, stop)
        try:
            if not loop.join(memory, activation_seconds):
                return
            with _heartbeats(connection):
                loop.attend()
            with contextlib.suppress(flower.UnavailableError):  # it will notice by itself
                connection.deactivate()
        except ssl.SSLCertVerificationError as error:
            raise _certificate_error(link, error) from error
        except flower.UnknownNodeError as error:
            raise AdmissionError(
                f"{link.address}: the server does not admit this node's key (any more).",
                remedy="Ask the coordinator to admit it; a revoked key must be made anew. "
                "Also check this machine's clock: it may be off by five seconds at most.",
            ) from error
    on_message(Event("stopped", "The node stopped."))


@dataclass
class _Loop:
    link: Link
    connection: flower.FleetConnection
    app: ClientApp
    on_message: OnMessage
    stop: Stop

    def join(self, memory: Memory, activation_seconds: float) -> bool:
        """Come online; False if stopped before that.

        The remembered id works at once, even after a crash. Without one, an activation that is
        refused can mean a session that still counts as online; unless there never was one.
        """
        until = time.monotonic() + activation_seconds
        backoff = _Backoff(self.stop)
        while not self.stop.requested:
            try:
                self._join_once(memory)
            except Interrupted:
                return False
            except flower.UnknownNodeError:
                memory.forget()
                raise
            except flower.ActivationRefusedError as error:
                if not memory.tried_before or time.monotonic() > until:
                    memory.forget()
                    raise flower.UnknownNodeError from error
                self._say("waiting", "The server still counts an earlier session of this node.")
                self.stop.pause(2.0)
            except flower.UnavailableError as error:
                self._say("waiting", f"The server does not answer ({error}).")
                backoff.pause()
            else:
                self._say("connected", f"Connected to {self.link.address}.")
                return True
        return False

    def _join_once(self, memory: Memory) -> None:
        if memory.node_id is not None:
            try:
                with self.stop.interrupting():
                    self.connection.resume(memory.node_id)
                return
            except flower.UnknownNodeError:  # revoked; or a new server that gave another id
                memory.forget()
        memory.note_attempt()
        try:
            with self.stop.interrupting():
                node_id = self.connection.activate()
        except flower.UnreachableError:
            raise
        except flower.UnavailableError:
            memory.tried_before = True  # it may have worked, and only the answer was lost
            raise
        memory.remember(node_id)

    def attend(self) -> None:
        """Answer messages until stopped."""
        backoff = _Backoff(self.stop)
        last = time.monotonic()
        while not self.stop.requested:
            try:
                with self.stop.interrupting():
                    if backoff.failures:
                        self.connection.heartbeat()  # its last one may be too old to count
                    incoming = self.connection.receive()
                if backoff.failures:
                    self._say("connected", f"Connected to {self.link.address} again.")
                    backoff.failures = 0
                if incoming is None:
                    self.stop.pause(self._pause(time.monotonic() - last))
                else:
                    self._handle(incoming)
                    last = time.monotonic()
            except Interrupted:
                return
            except flower.RunEndedError:
                self._say("lost", "The run ended before the answer.")
            except flower.UnavailableError as error:
                self._say("waiting", f"The server does not answer ({error}).")
                backoff.pause()

    def _handle(self, incoming: flower.Incoming) -> None:
        if self.connection.bundle_hash(incoming.run_id) not in self.link.pins:
            reply = flower.error_reply(incoming, flower.INVALID_BUNDLE)
            self._say("refused", f"Run {incoming.run_id} carries a bundle that is not pinned.")
        else:
            reply = self._answer(incoming, self.connection.content(incoming))
        self._deliver(reply)

    def _deliver(self, reply: Message) -> None:
        """Send a reply, again if need be: the server takes the same reply twice as one."""
        backoff = _Backoff(self.stop)
        while True:
            try:
                self.connection.send(reply)
                return
            except flower.UnavailableError:
                if backoff.failures == SENDS or self.stop.requested:
                    raise  # the server will ask again with the same bytes
                backoff.pause()

    def _answer(self, incoming: flower.Incoming, message: Message) -> Message:
        context = flower.context_of(incoming, dict(self.link.node_config))
        try:
            reply = self.app(message, context)
        except Exception as error:  # Flower would send its text to the server
            self._say("failed", f"{incoming.kind}: the app failed ({type(error).__name__}).")
            return flower.error_reply(incoming, flower.FAILED)
        self._say("answered", f"{incoming.kind} of run {incoming.run_id}.")
        return reply

    def _pause(self, idle: float) -> float:
        """Seconds to the next look for a message, by the time since the last one."""
        if self.connection.bell.known:
            return 0.01  # the server holds the question until there is an answer
        return 0.2 if idle < 120.0 else min(2.0, 0.2 * idle / 120.0)

    def _say(self, kind: str, text: str) -> None:
        self.on_message(Event(kind, text))


@dataclass
class _Backoff:
    """Pauses that double from a quarter of a second to ten, each shortened by chance."""

    stop: Stop
    failures: int = 0

    def pause(self) -> None:
        longest = min(LONGEST_BACKOFF, 0.25 * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.stop.pause(longest * random.uniform(0.5, 1.0))  # noqa: S311  (no secret)


@contextlib.contextmanager
def _heartbeats(connection: flower.FleetConnection) -> Iterator[None]:
    """Heartbeats from a thread of their own: an answer may take minutes.

    What they find out the main loop finds out too, by its own next call.
    """
    done = threading.Event()

    def beat() -> None:
        pause = HEARTBEAT_SECONDS
        while not done.wait(pause):
            try:
                connection.heartbeat()
                pause = HEARTBEAT_SECONDS
            except (
                flower.UnavailableError,
                flower.UnknownNodeError,
                flower.RunEndedError,
                ssl.SSLError,
            ):
                pause = 1.0

    thread = threading.Thread(target=beat, name="kesit-node-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def _connection(link: Link) -> Iterator[flower.FleetConnection]:
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(
                flower.connected(link.address, link.root_certificates, link.key)
            )
        except (ssl.SSLError, ValueError) as error:
            raise LinkError(
                "The root certificates are no PEM certificates.",
                remedy="Use the file that came with the invitation.",
            ) from error
        yield connection


def _certificate_error(link: Link, error: ssl.SSLCertVerificationError) -> CertificateError:
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return CertificateError(
            f"{link.address}: the server's certificate has expired.",
            remedy="Ask the coordinator to renew it; also check this machine's clock.",
        )
    if error.verify_code == 9:  # X509_V_ERR_CERT_NOT_YET_VALID
        return CertificateError(
            f"{link.address}: the server's certificate is not valid yet.",
            remedy="Check this machine's clock: it is behind, or the coordinator's is ahead.",
        )
    return CertificateError(
        f"{link.address}: the server's certificate is not trusted ({error.verify_message}).",
        remedy="Use the root certificate and the address of the invitation; "
        "if they are right, somebody stands between.",
    )
