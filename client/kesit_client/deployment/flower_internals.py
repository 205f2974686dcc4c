"""All that a node takes from Flower's private modules. Checked by `test_flower_internals.py`.

Relies on, in Flower 1.41:
- the Fleet calls activate-node, deactivate-node, send-node-heartbeat, pull-messages, pull-object,
  push-messages, push-object and get-run of `FleetHttpClient`, signed by
  `NodeAuthHttpInterceptor`; get-fab is never called, so no bundle reaches a node;
- a heartbeat of a registered node brings it online, whatever it was before;
- activation is refused with FLEET_NODE_ACTIVATION_FAILED when the key is unknown *or* when the
  node counts as online: for HEARTBEAT_PATIENCE times the interval of its last heartbeat;
- 401 for a key that is unknown, revoked or of another node; 403 for a run that is not running;
- a message as a tree of content-addressed objects that may not have arrived yet;
- `Message(reply_to=...)` reads the process-wide `TaskIdentity`;
- `ProtobufClient` with an `httpx` client in `_client`.

Not used: Flower's `http_request_response`, whose retries end the process by a signal, and its
SuperNode, which stores bundles, opens a port and starts a process for each message.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, Error, Message, RecordDict  # isort: skip
from flwr.app.message import make_message, remove_content_from_message  # isort: skip
from flwr.common.constant import ErrorCode  # isort: skip
from flwr.common.serde import message_from_proto, message_to_proto  # isort: skip
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, run_pb2  # isort: skip
from flwr.proto.node_pb2 import Node  # isort: skip
from flwr.supercore.inflatable.inflatable_object import (  # isort: skip
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (  # isort: skip
    make_pull_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (  # isort: skip
    inflate_object_from_contents,
    pull_objects,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes  # isort: skip
from flwr.supercore.protobuf.client import (  # isort: skip
    ProtobufCall,
    ProtobufRequestContext,
)
from flwr.supercore.task_identity import TaskIdentity  # isort: skip
from flwr.supernode.fleet_http_client import FleetHttpClient  # isort: skip
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor  # isort: skip

from kesit_privacy.wire import COMPLETE, MARK, SEEN

CALL_SECONDS = 15.0
"""Longest wait for an answer of the server."""

HEARTBEAT_INTERVAL = 10.0
"""Told to the SuperLink, in seconds: it calls a node offline after twice that silence. Flower's
least; its default is 30."""

OBJECT_WAIT_SECONDS = 0.02
"""First wait for an object that is announced but not there yet; Flower's own is one second."""

OBJECT_PATIENCE_SECONDS = 10.0
"""Then the message counts as lost, and the server asks again."""

INVALID_BUNDLE = Error(ErrorCode.INVALID_FAB, "The FAB could not be verified.")
"""Flower's own refusal of a bundle, word for word."""

FAILED = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "The node failed; its own log says why.")
"""For whatever goes wrong in a node: no exception's text leaves."""


class UnknownNodeError(Exception):
    """The SuperLink does not know the key with which a request was signed (401)."""


class ActivationRefusedError(Exception):
    """The SuperLink refuses to activate this key: unknown, or online until its window passes."""


class RunEndedError(Exception):
    """The run of a message is not running any more (403)."""


class UnavailableError(Exception):
    """The SuperLink cannot be reached, or does not answer as it should. Worth another try."""


class UnreachableError(UnavailableError):
    """Not even a connection came about, so nothing was asked."""


@dataclass(frozen=True)
class Incoming:
    """A message's envelope, before its content is pulled."""

    message: Message
    tree: message_pb2.ObjectTree

    @property
    def run_id(self) -> int:
        return int(self.message.metadata.run_id)

    @property
    def kind(self) -> str:
        return str(self.message.metadata.message_type)


class _Bell:
    """Lets the server hold a look for messages until there are some (see `kesit_privacy.wire`),
    and tells it when a reply has been sent whole. `known` is False for a server without bell."""

    def __init__(self) -> None:
        self._seen = ""
        self.last_object = ""

    @property
    def known(self) -> bool:
        return self._seen != ""

    def look_again(self) -> None:
        """A message came, and others may wait behind it: the next look must not be held."""
        self._seen = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        message = context.message
        if isinstance(message, fleet_pb2.PullMessagesRequest):
            context.request.headers[SEEN] = self._seen
            response = call_next(context)
            self._seen = response.headers.get(MARK, "")
            return response
        last = message_pb2.PushObjectRequest
        if isinstance(message, last) and message.object_id == self.last_object:
            context.request.headers[COMPLETE] = "1"
        return call_next(context)


@dataclass
class FleetConnection:
    """One node's calls to a SuperLink. All of them raise the errors above, and
    `ssl.SSLCertVerificationError` if the server's certificate does not verify.

    `node_id` is 0 until `activate` or `resume` succeeded. Calls may come from two threads.
    """

    client: FleetHttpClient
    public_key: bytes
    bell: _Bell
    node_id: int = 0
    _hashes: dict[int, str] = field(default_factory=dict)

    def activate(self) -> int:
        """Come online by key; the node's id."""
        request = fleet_pb2.ActivateNodeRequest(
            public_key=self.public_key, heartbeat_interval=HEARTBEAT_INTERVAL
        )
        with _translated(refused=ActivationRefusedError):
            self.node_id = int(self.client.ActivateNode(request).node_id)
        return self.node_id

    def resume(self, node_id: int) -> None:
        """Come online by an id that `activate` gave earlier, at once, whatever happened since."""
        self.node_id = node_id
        self.heartbeat()

    def heartbeat(self) -> None:
        """Stay online."""
        request = heartbeat_pb2.SendNodeHeartbeatRequest(
            node=self._node, heartbeat_interval=HEARTBEAT_INTERVAL
        )
        with _translated():
            known = self.client.SendNodeHeartbeat(request).success
        if not known:
            raise UnknownNodeError

    def deactivate(self) -> None:
        """Go offline."""
        with _translated():
            self.client.DeactivateNode(fleet_pb2.DeactivateNodeRequest(node_id=self.node_id))

    def receive(self) -> Incoming | None:
        """The next message, if there is one. The SuperLink hands out each message once."""
        with _translated():
            answer = self.client.PullMessages(fleet_pb2.PullMessagesRequest(node=self._node))
            if not answer.messages_list:
                return None
            self.bell.look_again()
            message = message_from_proto(answer.messages_list[0])
            return Incoming(message, answer.message_object_trees[0])

    def bundle_hash(self, run_id: int) -> str:
        """SHA-256 of a run's bundle, as the SuperLink states it; asked once a run.

        The bundle itself is never fetched: nothing of it would be used.
        """
        if run_id not in self._hashes:
            with _translated():
                answer = self.client.GetRun(run_pb2.GetRunRequest(node=self._node, run_id=run_id))
            while len(self._hashes) >= 64:
                del self._hashes[next(iter(self._hashes))]
            self._hashes[run_id] = str(answer.run.fab_hash)
        return self._hashes[run_id]

    def content(self, incoming: Incoming) -> Message:
        """The whole message.

        The envelope has come already, so one object less is pulled. Its receipt is not confirmed:
        that is a request more, and the end of the run drops everything.
        """
        with _translated():
            parts = [part.object_id for part in iterate_object_tree(incoming.tree)]
            parts.remove(incoming.tree.object_id)
            contents = pull_objects(
                parts,
                make_pull_object_fn_protobuf(self.client.PullObject, self._node, incoming.run_id),
                max_time=OBJECT_PATIENCE_SECONDS,
                initial_backoff=OBJECT_WAIT_SECONDS,
                backoff_cap=0.2,
            )
            (root,) = incoming.tree.children
            content = inflate_object_from_contents(root.object_id, contents)
            return make_message(incoming.message.metadata, cast(RecordDict, content))

    def send(self, reply: Message) -> None:
        """Send a reply with its content."""
        reply.metadata.__dict__["_message_id"] = reply.object_id
        request = fleet_pb2.PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[get_object_tree(reply)],
            clientapp_runtime_list=[0.0],  # how long it took is nobody's business
        )
        objects = get_all_nested_objects(reply)
        with _translated():
            answer = self.client.PushMessages(request)
            self.bell.last_object = (list(answer.objects_to_push) or [""])[-1]
            for name in answer.objects_to_push:
                self.client.PushObject(
                    message_pb2.PushObjectRequest(
                        node=self._node,
                        run_id=reply.metadata.run_id,
                        object_id=name,
                        object_content=objects[name].deflate(),
                        session_id=answer.session_id,
                    )
                )

    @property
    def _node(self) -> Node:
        return Node(node_id=self.node_id)


@contextmanager
def connected(
    address: str, root_certificates: bytes, key: ec.EllipticCurvePrivateKey
) -> Iterator[FleetConnection]:
    """Calls to the SuperLink at `address` (host:port), over TLS, signed with `key`.

    Opens nothing yet. `root_certificates` (PEM) are the only ones that are trusted.

    Raises:
        ssl.SSLError, ValueError: the root certificates are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=root_certificates.decode("ascii"))
    public = key.public_key()
    bell = _Bell()
    client = FleetHttpClient(
        f"https://{address}",
        interceptors=[NodeAuthHttpInterceptor(key, public), bell],
        verify=context,
    )
    client.close()
    # no redirects: a server must not send a node's requests elsewhere
    client._client = httpx.Client(verify=context, timeout=CALL_SECONDS, follow_redirects=False)
    with client:
        yield FleetConnection(client, public_key_to_bytes(public), bell)


def error_reply(incoming: Incoming, error: Error) -> Message:
    """A reply that is an error and nothing else."""
    _identify(incoming)
    return Message(error, reply_to=incoming.message)


def context_of(incoming: Incoming, node_config: dict[str, str]) -> Context:
    """The context in which an app handles a message. It keeps no state between messages."""
    _identify(incoming)
    node_id = incoming.message.metadata.dst_node_id
    return Context(incoming.run_id, node_id, dict(node_config), RecordDict(), {})


def _identify(incoming: Incoming) -> None:
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = incoming.run_id
    TaskIdentity.node_id = incoming.message.metadata.dst_node_id


@contextmanager
def _translated(refused: type[Exception] = UnavailableError) -> Iterator[None]:
    """Errors of HTTP and of Flower as those of this module; `refused` is for 412."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        known: dict[int, type[Exception]] = {
            401: UnknownNodeError,
            403: RunEndedError,
            412: refused,
        }
        raise known.get(status, UnavailableError)(f"HTTP {status}") from error
    except httpx.TransportError as error:
        certificate = _certificate_error(error)
        if certificate is not None:
            raise certificate from error
        early = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        kind = UnreachableError if early else UnavailableError
        raise kind(type(error).__name__) from error
    except (UnknownNodeError, ActivationRefusedError, RunEndedError, UnavailableError):
        raise
    except Exception as error:  # a malformed answer, in whatever way
        raise UnavailableError(f"a malformed answer ({type(error).__name__})") from error


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
