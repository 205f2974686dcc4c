"""The server process: Flower's SuperLink, whole on loopback, and only Fleet in public.

One application, two servers in one event loop. The public one speaks TLS and passes `FleetGate`;
the other listens on 127.0.0.1, on a port that the system picks, and passes `LoopbackGate`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

import kesit_privacy.quiet  # noqa: F401  (before Flower)
from kesit_privacy.files import sole_user
from kesit_server.deployment.bell import Bell
from kesit_server.deployment.door import DOOR, LOOPBACK, Door
from kesit_server.deployment.flower_internals import superlink_app
from kesit_server.deployment.gate import FleetGate, LoopbackGate
from kesit_server.errors import DeploymentError

DATABASE = "superlink.sqlite"
LOCK = "superlink.lock"

NODE_WAIT_SECONDS = 10.0
COORDINATOR_WAIT_SECONDS = 1.0
"""How long a request for messages, or for replies, is held until there are some."""


@dataclass(frozen=True)
class Place:
    """Where a SuperLink lives and listens.

    Attributes:
        folder: its state and its door file; made if missing, for its owner alone.
        host, port: the public address; port 0 lets the system pick one.
        certificate, key: PEM files of the public server (the chain, and its private key).
    """

    folder: Path
    host: str
    port: int
    certificate: Path
    key: Path


def serve(
    place: Place,
    on_ready: Callable[[int], None] = lambda port: None,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Run the SuperLink until SIGTERM or SIGINT. Call it in a process's main thread.

    Args:
        on_ready: called with the public port when both servers listen.
        prepare: called before the public one answers anybody; the door is open then. A node that
            asks before its key is registered would be turned away for good.

    Raises:
        DeploymentError: the folder is in use, the address is taken, or the certificate is no use.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    place.folder.chmod(0o700)
    try:
        with sole_user(place.folder / LOCK):
            _serve(place, on_ready, prepare)
    except BlockingIOError as error:
        raise DeploymentError(
            f"{place.folder}: a server runs from this folder already.",
            remedy="Stop it first, or use another folder.",
        ) from error


def _serve(place: Place, on_ready: Callable[[int], None], prepare: Callable[[], None]) -> None:
    _check_certificate(place)
    with _listening(place.host, place.port) as public, _listening(LOOPBACK, 0) as inner:
        app = superlink_app(place.folder / DATABASE)
        door = Door(inner.getsockname()[1], secrets.token_urlsafe(32))
        bells = (Bell(NODE_WAIT_SECONDS), Bell(COORDINATOR_WAIT_SECONDS))
        servers = [
            (_server(LoopbackGate(app, door.token, *bells)), inner),
            (_server(FleetGate(app, *bells), place), public),
        ]

        def opened() -> None:
            door.write(place.folder)
            prepare()

        def ready() -> None:
            on_ready(public.getsockname()[1])

        try:
            with asyncio.Runner(loop_factory=servers[0][0].config.get_loop_factory()) as runner:
                runner.run(_run(servers, bells, (opened, ready)))
        finally:
            (place.folder / DOOR).unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process that runs two of them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FleetGate | LoopbackGate, tls: Place | None = None) -> _Server:
    """The public server if `tls` is given, else the one on loopback, which owns the lifespan."""
    config = uvicorn.Config(
        app,
        lifespan="off" if tls else "on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # a peer is whoever is at the other end of the socket
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return _Server(config)


async def _run(
    servers: list[tuple[_Server, socket.socket]],
    bells: tuple[Bell, Bell],
    started: tuple[Callable[[], None], Callable[[], None]],
) -> None:
    """Both servers, one after the other to start and together to stop. What is to be done when
    each of them has started is done in a thread, for it may ask the server."""

    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True
        for bell in bells:
            bell.close()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    tasks = []
    for (server, place), then in zip(servers, started, strict=True):
        if server.should_exit:
            break
        tasks.append(asyncio.create_task(server.serve([place])))
        tasks[-1].add_done_callback(lambda _: stop())  # neither runs without the other
        while not server.started and not tasks[-1].done():
            await asyncio.sleep(0.02)
        if server.started:
            await asyncio.to_thread(then)
    await asyncio.gather(*tasks)


def _listening(host: str, port: int) -> contextlib.closing[socket.socket]:
    try:
        return contextlib.closing(socket.create_server((host, port), family=_family(host)))
    except OSError as error:
        raise DeploymentError(
            f"{host}:{port}: cannot be listened on ({error.strerror}).",
            remedy="Choose a free port and an address of this machine.",
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _check_certificate(place: Place) -> None:
    """Fail before anything listens, and with one sentence."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(place.certificate, place.key)
    except (OSError, ssl.SSLError) as error:
        raise DeploymentError(
            f"{place.certificate}, {place.key}: are no certificate with its key.",
            remedy="Give the PEM files that belong together, readable by this user.",
        ) from error
