"""Real processes for tests: throwaway certificates, a SuperLink, nodes, and runs.

`python -m deploykit superlink|node|supervised ...` is what the child processes execute.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ConfigRecord, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.serverapp import Grid  # isort: skip

from kesit_client.app import app as installed_app
from kesit_client.app import make_app
from kesit_client.deployment.node_loop import Event, Link, run_node
from kesit_client.deployment.supervise import supervise
from kesit_client.node import Node
from kesit_privacy.bundle import POINTER_HASH
from kesit_privacy.errors import KesitError
from kesit_privacy.wire import RECORD, REPLY, REQUEST
from kesit_server.deployment import nodes, superlink
from kesit_server.deployment.door import Door

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("privacy", "client", "server", "audits", "simulations", "tests")


@dataclass(frozen=True)
class Authority:
    """A P-384 root that signs P-256 leaves for this machine."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate

    @classmethod
    def new(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP384R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")])
        builder = _builder(name, name, key.public_key(), days=1)
        limits = x509.BasicConstraints(ca=True, path_length=0)
        root = builder.add_extension(limits, critical=True).sign(key, hashes.SHA384())
        authority = cls(folder, key, root)
        authority.root_file.write_bytes(root.public_bytes(Encoding.PEM))
        return authority

    @property
    def root_file(self) -> Path:
        return self.folder / "root.pem"

    def leaf(self, name: str = "leaf", *, days: float = 1) -> tuple[Path, Path]:
        """Files of a certificate for loopback and of its key; expired for negative days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test server")])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        builder = _builder(subject, self.root.subject, key.public_key(), days=days)
        leaf = builder.add_extension(names, critical=False).sign(self.key, hashes.SHA384())
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
        private.write_bytes(_pem(key))
        return certificate, private


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(days=1))
        .not_valid_after(end)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def free_port() -> int:
    """A port that nobody listens on, for processes that must come back to it."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def eventually(what: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `what` holds."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.05)


@dataclass
class Child:
    """A child process with its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def says(self, kind: str) -> int:
        """How many events of a kind a node has logged."""
        return self.text.count(f"event {kind}: ")

    def wait(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()


@dataclass
class Federation:
    """A SuperLink and nodes in a folder; `children` are killed when the test is over."""

    folder: Path
    authority: Authority
    port: int = field(default_factory=free_port)
    children: list[Child] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "superlink"

    @property
    def door(self) -> Door:
        return Door.read(self.home)

    def superlink(
        self,
        leaf: tuple[Path, Path] | None = None,
        *,
        preparing: float = 0.0,
        holding: float = superlink.NODE_WAIT_SECONDS,
    ) -> Child:
        """Start a SuperLink; returns when its door is open. It answers no node for `preparing`
        seconds after that, and holds a node that waits for news for `holding` seconds."""
        certificate, key = leaf or self.authority.leaf()
        (self.home / "door.json").unlink(missing_ok=True)
        child = self._start("superlink", self.home, self.port, certificate, key, preparing, holding)
        eventually(lambda: (self.home / "door.json").exists() or child.process.poll() is not None)
        assert child.process.poll() is None, child.text
        return child

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """A node's key, made when first asked for."""
        path = self.folder / f"{name}.key"
        if not path.exists():
            path.write_bytes(_pem(ec.generate_private_key(ec.SECP384R1())))
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def public(self, name: str) -> bytes:
        return self.key(name).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)

    def admit(self, name: str) -> int:
        return nodes.admit(self.door, self.public(name), name)

    def node(
        self,
        name: str,
        *,
        root: Path | None = None,
        pins: tuple[str, ...] = (POINTER_HASH,),
        app: str = "echo",
        patience: float = 120.0,
        supervised: bool = False,
    ) -> Child:
        """Start a node; it need not be admitted."""
        self.key(name)
        link = {
            "address": f"127.0.0.1:{self.port}",
            "root": str(root or self.authority.root_file),
            "key": str(self.folder / f"{name}.key"),
            "memory": str(self.folder / f"{name}.memory"),
            "pins": list(pins),
            "app": app,
            "patience": patience,
        }
        return self._start("supervised" if supervised else "node", json.dumps(link))

    def online(self) -> set[str]:
        """Names of the nodes that the SuperLink calls online."""
        return {node.name for node in nodes.nodes(self.door) if node.status == "online"}

    def _start(self, *arguments: object) -> Child:
        log = self.folder / f"child-{len(self.children)}.log"
        paths = os.pathsep.join(str(ROOT / name) for name in SOURCES)
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "deploykit", *map(str, arguments)],
                stdout=file,
                stderr=file,
                env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                cwd=self.folder,
            )
        self.children.append(Child(process, log))
        return self.children[-1]


@contextmanager
def federation(folder: Path) -> Iterator[Federation]:
    """A federation whose processes end with the block."""
    place = Federation(folder, Authority.new(folder / "authority"))
    try:
        yield place
    finally:
        for child in place.children:
            if child.process.poll() is None:
                child.kill()


def ask(grid: Grid, data: bytes, names: list[int], seconds: float = 60.0) -> list[Message]:
    """Send `data` to nodes and wait for as many replies."""
    content = RecordDict({RECORD: ConfigRecord({REQUEST: data})})
    pending = set(
        grid.push_messages([grid.create_message(content, "query.hello", n, "") for n in names])
    )
    replies: list[Message] = []
    until = time.monotonic() + seconds
    while len(replies) < len(names):
        assert time.monotonic() < until, f"{len(replies)} of {len(names)} answered"
        for reply in grid.pull_messages(pending):
            pending.discard(reply.metadata.reply_to_message_id)  # a second look finds an error
            replies.append(reply)
        time.sleep(0.02)
    return replies


def data_of(reply: Message) -> object:
    assert reply.has_content(), reply.error
    return reply.content.config_records[RECORD][REPLY]


echo = ClientApp()


@echo.query("hello")
def _reversed(message: Message, context: object) -> Message:
    data = message.content.config_records[RECORD][REQUEST]
    assert isinstance(data, bytes)
    if data == b"crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"raise":
        raise ValueError("secret 4711")
    return Message(RecordDict({RECORD: ConfigRecord({REPLY: data[::-1]})}), reply_to=message)


MEMBERS = 3


def seeded_members() -> list[Node]:
    """Simulated members of `small_study` whose customers and whose noise a seed decides."""
    from kit import random_codes, small_nodes, small_study  # slow, and few need it

    study = small_study()
    codes = random_codes(study, 600)
    return small_nodes(study, codes, MEMBERS, noise="seeded", seed=5)


def _app(name: str) -> ClientApp:
    """`echo`, `installed`; `member-N`, `seeded-N`: the N-th simulated member of `small_study`,
    without noise or with noise of a seed."""
    kind, _, number = name.partition("-")
    if kind == "seeded":
        seeded = seeded_members()[int(number)]
        return make_app(lambda context: seeded)
    if kind == "member":
        from kit import random_codes, small_nodes, small_study  # slow, and few need it

        study = small_study()
        node = small_nodes(study, random_codes(study, 600), MEMBERS)[int(number)]
        return make_app(lambda context: node)
    return {"echo": echo, "installed": installed_app}[kind]


def _node(text: str) -> None:
    fields = json.loads(text)
    key = load_pem_private_key(Path(fields["key"]).read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    run_node(
        Link(
            address=fields["address"],
            root_certificates=Path(fields["root"]).read_bytes(),
            key=key,
            memory=Path(fields["memory"]),
            pins=frozenset(fields["pins"]),
        ),
        app=_app(fields["app"]),
        on_message=_say,
        activation_seconds=fields["patience"],
    )


def _say(event: Event) -> None:
    print(f"event {event.kind}: {event.text}")


def _supervised(text: str) -> None:
    supervise(partial(_node, text), on_message=_say)


def _superlink(
    folder: str, port: str, certificate: str, key: str, preparing: str, holding: str
) -> None:
    superlink.NODE_WAIT_SECONDS = float(holding)
    place = superlink.Place(Path(folder), "127.0.0.1", int(port), Path(certificate), Path(key))
    superlink.serve(
        place,
        on_ready=lambda port: print(f"ready {port}"),
        prepare=lambda: time.sleep(float(preparing)),
    )


if __name__ == "__main__":
    try:
        {"node": _node, "supervised": _supervised, "superlink": _superlink}[sys.argv[1]](
            *sys.argv[2:]
        )
    except KesitError as error:
        print(f"error {type(error).__name__}: {error}")
        raise SystemExit(3) from None
