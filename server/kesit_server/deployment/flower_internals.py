"""All that the server takes from Flower's private modules. Checked by `test_flower_internals.py`.

Relies on, in Flower 1.41:
- `create_app` with a `SuperLinkLifespanConfig`: no subprocess starts unless `isolation` is
  "subprocess", no gRPC server unless `FLWR_INTERNAL_GRPC_*` is "1";
- the Control calls start-run, list-runs, register-node, unregister-node and list-nodes without
  accounts; list-runs drops the messages and objects of runs that have ended;
- the Runtime calls acquire-task, pull-task-input, push-task-output and the five of a grid; a task's
  token in a header is all that they ask for;
- a message as a tree of content-addressed objects (Message, RecordDict, ConfigRecord), each pushed
  and pulled by a request of its own; a reply is announced before its objects have arrived;
- `ProtobufClient` with an `httpx` client in `_client`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import httpx

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Message, RecordDict  # isort: skip
from flwr.app.message import make_message, remove_content_from_message  # isort: skip
from flwr.common.constant import (  # isort: skip
    ISOLATION_MODE_PROCESS,
    SUPERLINK_NODE_ID,
    TRANSPORT_TYPE_GRPC_RERE,
    SubStatus,
)
from flwr.common.serde import (  # isort: skip
    context_from_proto,
    message_from_proto,
    message_to_proto,
    run_from_proto,
)
from flwr.proto import control_pb2, fab_pb2, message_pb2, runtime_pb2  # isort: skip
from flwr.proto.node_pb2 import Node, NodeInfo  # isort: skip
from flwr.serverapp import Grid  # isort: skip
from flwr.supercore.constant import TaskType  # isort: skip
from flwr.supercore.control.control_http_client import ControlHttpClient  # isort: skip
from flwr.supercore.error import FlowerError  # isort: skip
from flwr.supercore.inflatable.inflatable_object import (  # isort: skip
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import (  # isort: skip
    inflate_object_from_contents,
    pull_objects,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (  # isort: skip
    make_pull_object_fn_protobuf,
)
from flwr.supercore.interceptors import (  # isort: skip
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
)
from flwr.supercore.protobuf.client import (  # isort: skip
    ProtobufCall,
    ProtobufClient,
    ProtobufRequestContext,
)
from flwr.supercore.run import Run  # isort: skip
from flwr.supercore.runtime import RuntimeHttpClient  # isort: skip
from flwr.supercore.task_identity import TaskIdentity  # isort: skip

from kesit_privacy.wire import MARK, SEEN
from kesit_server.deployment.bell import Application
from kesit_server.deployment.door import LOOPBACK, Door
from kesit_server.deployment.gate import RING, TOKEN
from kesit_server.errors import DeploymentError

CALL_SECONDS = 30.0
"""Longest wait for an answer on loopback."""

OBJECT_WAIT_SECONDS = 0.02
"""First wait for an object that is announced but not there yet; Flower's own is one second."""

OBJECT_PATIENCE_SECONDS = 10.0
"""Then the reply counts as lost, and the node is asked again."""

Control = ControlHttpClient
"""A client of the SuperLink's Control calls, and a context that closes it."""

ClientT = TypeVar("ClientT", bound=ProtobufClient)


def superlink_app(database: Path) -> Application:
    """Flower's whole SuperLink as an ASGI application, its state in a SQLite file.

    Nodes must authenticate; nothing is executed or installed; no process is started.
    """
    for name in ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API"):
        os.environ.pop(name, None)
    # here, not above: only the SuperLink's own process needs FastAPI and the state's code
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
    from flwr.superlink.main import create_app

    os.environ.pop("FLWR_OIDC_ENABLED", None)
    config = SuperLinkLifespanConfig(
        control_address=f"{LOOPBACK}:0",
        health_server_address=None,
        host=LOOPBACK,
        port=0,
        insecure=True,  # Flower's own server is not used; the gates' servers have TLS
        certificates=None,
        superexec_auth_secret=None,
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(database),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    return cast(Application, create_app(config, SuperLinkLifespan))


class _DoorInterceptor:
    """Shows the door's token, and the mark of the last look for replies (see `bell`)."""

    def __init__(self, door: Door) -> None:
        self._token = door.token
        self._seen = ""

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers[TOKEN.decode()] = self._token
        if not context.rpc_method.endswith("/PullMessages"):
            return call_next(context)
        context.request.headers[SEEN] = self._seen
        response = call_next(context)
        self._seen = response.headers.get(MARK, "")
        return response


def _client(kind: type[ClientT], door: Door, *more: Any) -> ClientT:
    version = RuntimeVersionHttpInterceptor(component_name="flwr-serverapp")
    unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would read all of the system's
    client = kind(
        f"http://{door.address}",
        interceptors=[_DoorInterceptor(door), version, *more],
        verify=unused,
    )
    client.close()
    # no proxy of the environment and no redirect: the token is for this machine
    client._client = httpx.Client(verify=unused, timeout=CALL_SECONDS, trust_env=False)
    return client


def control_client(door: Door) -> Control:
    """A client of the SuperLink's Control calls."""
    return _client(ControlHttpClient, door)


def ring(door: Door) -> None:
    """Let all nodes that wait for messages ask again, now."""
    httpx.post(
        f"http://{door.address}{RING}",
        headers={TOKEN.decode(): door.token},
        timeout=CALL_SECONDS,
        trust_env=False,
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    ).raise_for_status()


def told(error: httpx.HTTPStatusError) -> str:
    """What the SuperLink says about a request that it refused."""
    flower = FlowerError.from_json(error.response.text)
    return flower.message if flower is not None else f"HTTP {error.response.status_code}"


def node_info(control: Control) -> list[NodeInfo]:
    """All nodes that the SuperLink knows."""
    answer = control.ListNodes(control_pb2.ListNodesRequest())
    return list(answer.nodes_info)


def register(control: Control, public_key: bytes, name: str) -> int:
    """Register a node's key (PEM); its id."""
    request = control_pb2.RegisterNodeRequest(public_key=public_key, name=name)
    return int(control.RegisterNode(request).node_id)


def unregister(control: Control, node_id: int) -> None:
    """End a node's registration, for good."""
    control.UnregisterNode(control_pb2.UnregisterNodeRequest(node_id=node_id))


def start_run(control: Control, bundle: bytes, bundle_hash: str) -> int:
    """Create a Flower run of a bundle; its id."""
    fab = fab_pb2.Fab(hash_str=bundle_hash, content=bundle)
    return int(control.StartRun(control_pb2.StartRunRequest(fab=fab)).run_id)


class ClaimedTask:
    """The task of a Flower run, held by this process as `flwr-serverapp` would hold it."""

    def __init__(self, door: Door, token: str, run_id: int) -> None:
        self.run_id = run_id
        self._door = door
        self._runtime = _client(RuntimeHttpClient, door, RuntimeTokenHttpInterceptor(token))

    @classmethod
    def oldest(cls, door: Door) -> ClaimedTask | None:
        """Claim the oldest pending task of any run; None if there is none."""
        with _client(RuntimeHttpClient, door) as runtime:
            answer = runtime.AcquireTask(
                runtime_pb2.AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
            )
        return cls(door, answer.token, answer.task.run_id) if answer.token else None

    def begin(self) -> RunGrid:
        """Mark the run as running; its grid."""
        answer = self._runtime.PullTaskInput(runtime_pb2.PullTaskInputRequest())
        TaskIdentity.task_id = answer.task_id
        TaskIdentity.run_id = answer.run.run_id
        TaskIdentity.node_id = context_from_proto(answer.context).node_id
        return RunGrid(self._runtime, run_from_proto(answer.run), partial(ring, self._door))

    def alive(self) -> bool:
        """Tell the SuperLink that this process still holds the task; False if it must be told
        again soon."""
        try:
            self._runtime.SendTaskHeartbeat(runtime_pb2.SendTaskHeartbeatRequest())
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError:
            pass  # the run was ended; the grid's next call says so
        return True

    def end(self, *, completed: bool) -> None:
        """Finish the run, so that the SuperLink and the nodes see its end."""
        status = SubStatus.COMPLETED if completed else SubStatus.FAILED
        details = "" if completed else "The coordinator's own log says why."
        try:
            self._runtime.PushTaskOutput(
                runtime_pb2.PushTaskOutputRequest(sub_status=status, details=details)
            )
        finally:
            self._runtime.close()
        with control_client(self._door) as control:  # looking at an ended run drops its content
            control.ListRuns(control_pb2.ListRunsRequest(run_id=self.run_id))


class RunGrid(Grid):
    """The grid of a claimed run over loopback, with short waits.

    `pull_messages` itself waits for a reply, a second at most, so whoever calls it need not.
    """

    def __init__(self, runtime: RuntimeHttpClient, run: Run, ring: Callable[[], None]) -> None:
        self._runtime = runtime
        self._ring = ring
        self._run = run
        self._node = Node(node_id=SUPERLINK_NODE_ID)

    def set_run(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are online."""
        answer = _guarded(self._runtime.GetNodes, runtime_pb2.GetNodesRequest())
        return [node.node_id for node in answer.nodes]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        protos, trees, objects = [], [], {}
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            protos.append(message_to_proto(remove_content_from_message(message)))
            trees.append(get_object_tree(message))
            objects.update(get_all_nested_objects(message))
        answer = _guarded(
            self._runtime.PushMessages,
            runtime_pb2.PushAppMessagesRequest(messages_list=protos, message_object_trees=trees),
        )
        for name in answer.objects_to_push:
            request = message_pb2.PushObjectRequest(
                node=self._node,
                run_id=self._run.run_id,
                object_id=name,
                object_content=objects[name].deflate(),
                session_id=answer.session_id,
            )
            _guarded(self._runtime.PushObject, request)
        _guarded(lambda _: self._ring(), None)  # nodes that wait find everything in place
        return list(answer.message_ids)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        answer = _guarded(
            self._runtime.PullMessages,
            runtime_pb2.PullAppMessagesRequest(message_ids=list(message_ids)),
        )
        pairs = zip(answer.messages_list, answer.message_object_trees, strict=True)
        pulled = (self._whole(message_from_proto(proto), tree) for proto, tree in pairs)
        return [message for message in pulled if message is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError("Kesit's courier pushes and pulls by itself.")

    def _whole(self, envelope: Message, tree: message_pb2.ObjectTree) -> Message | None:
        """A reply with its content; None if that did not arrive in time or is malformed.

        The envelope has come already, so one object less is pulled. Its receipt is not confirmed:
        that is a request more, and the end of the run drops everything.
        """
        if envelope.has_error():
            return envelope
        pull = make_pull_object_fn_protobuf(
            lambda request: _guarded(self._runtime.PullObject, request),
            self._node,
            self._run.run_id,
        )
        try:
            (root,) = tree.children
            contents = pull_objects(
                [part.object_id for part in iterate_object_tree(root)],
                pull,
                max_time=OBJECT_PATIENCE_SECONDS,
                initial_backoff=OBJECT_WAIT_SECONDS,
                backoff_cap=0.2,
            )
            content = inflate_object_from_contents(root.object_id, contents)
        except DeploymentError:
            raise
        except Exception:  # whatever a node has sent must not end the run
            return None
        return make_message(envelope.metadata, content) if isinstance(content, RecordDict) else None


def _guarded(call: Callable[[Any], Any], request: Any) -> Any:
    """A call of a running run.

    Raises:
        DeploymentError: the SuperLink went away, or has ended the run.
    """
    try:
        return call(request)
    except httpx.HTTPStatusError as error:
        raise DeploymentError(
            f"The server process refuses a request of this run ({told(error)}).",
            remedy="Go on with `kesit server resume`: sums that were opened are kept.",
        ) from error
    except httpx.TransportError as error:
        raise DeploymentError(
            "The server process went away during the run.",
            remedy="Start it with `kesit server start`, then go on with `kesit server resume`.",
        ) from error
