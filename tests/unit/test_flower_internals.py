"""An upgrade drill: what real nodes and servers rely on in Flower's private modules.

Behaviour over the wire is in `tests/e2e/test_flower_link.py`; this says what changed and where.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ConfigRecord, Context, Message, RecordDict  # isort: skip
from flwr.common import constant  # isort: skip
from flwr.common.config import get_fab_config, get_metadata_from_config  # isort: skip
from flwr.common.serde import message_to_proto  # isort: skip
from flwr.proto import fleet_pb2, message_pb2, runtime_pb2  # isort: skip
from flwr.serverapp import Grid  # isort: skip
from flwr.supercore.constant import SQLITE_PRAGMAS, TaskType  # isort: skip
from flwr.supercore.error import ApiErrorCode, FlowerError  # isort: skip
from flwr.supercore.error.catalog import API_ERROR_MAP  # isort: skip
from flwr.supercore.inflatable import inflatable_object, inflatable_utils  # isort: skip
from flwr.supercore.primitives.asymmetric import public_key_to_bytes  # isort: skip
from flwr.supercore.protobuf.client import ProtobufClient, ProtobufRequestContext  # isort: skip
from flwr.supercore.run import Run  # isort: skip
from flwr.supercore.runtime import RuntimeHttpClient  # isort: skip
from flwr.supercore.task_identity import TaskIdentity  # isort: skip
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan  # isort: skip
from flwr.superlink.config_loader import SuperLinkLifespanConfig  # isort: skip
from flwr.superlink.routers.fleet.router import router as fleet_router  # isort: skip
from flwr.supernode import start_client_internal  # isort: skip
from flwr.supernode.fleet_http_client import FleetHttpClient  # isort: skip

from kesit_client.deployment import flower_internals as client
from kesit_privacy.bundle import CLIENT_APP, POINTER, POINTER_HASH, SERVER_APP
from kesit_server.deployment import flower_internals as server
from kesit_server.deployment.bell import Application
from kesit_server.deployment.door import Door
from kesit_server.deployment.gate import FLEET
from kesit_server.deployment.nodes import canonical_key

ROOT = Path(__file__).resolve().parents[2]


def test_the_pointer_bundle_is_the_same_everywhere_and_says_what_the_project_says() -> None:
    assert POINTER_HASH == "bceddc23681dab4a6ee0184522f410809bb9db5152e2bd5266b291c91350809b"
    assert hashlib.sha256(POINTER).hexdigest() == POINTER_HASH
    config = get_fab_config(POINTER)  # Flower's own reader takes it
    assert get_metadata_from_config(config)[0] == "kesit/kesit"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert config["tool"]["flwr"]["app"]["components"] == project["components"]
    assert config["tool"]["flwr"]["app"]["publisher"] == project["publisher"]
    assert project["components"] == {"serverapp": SERVER_APP, "clientapp": CLIENT_APP}


def test_constants() -> None:
    assert constant.HEARTBEAT_MIN_INTERVAL <= client.HEARTBEAT_INTERVAL
    assert constant.HEARTBEAT_PATIENCE == 2
    assert constant.ErrorCode.INVALID_FAB == 7
    refusal = start_client_internal.FAB_VERIFICATION_ERROR
    mine = client.INVALID_BUNDLE
    assert (mine.code, mine.reason) == (refusal.code, refusal.reason)
    assert TaskType.SERVER_APP == "flwr-serverapp"
    assert constant.SUPERLINK_NODE_ID == 1
    assert dict(SQLITE_PRAGMAS)["journal_mode"] == "WAL"


def test_statuses_of_refusals() -> None:
    statuses = {
        ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED: 412,
        ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED: 403,
        ApiErrorCode.FLEET_GET_RUN_FAILED: 403,
    }
    for code, status in statuses.items():
        assert API_ERROR_MAP[code].http_status_code == status
    text = FlowerError(ApiErrorCode.FLEET_GET_RUN_FAILED, "x").to_json("y")
    response = httpx.Response(403, json=text, request=httpx.Request("POST", "http://x"))
    error = httpx.HTTPStatusError("", request=response.request, response=response)
    assert server.told(error) == "y"


def test_every_fleet_path_passes_the_gate() -> None:
    paths = {route.path for route in fleet_router.routes}  # type: ignore[attr-defined]
    assert {f"/v1/fleet/{name}" for name in ("pull-messages", "push-object")} <= paths
    assert all(FLEET.fullmatch(path.encode()) for path in paths)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            FleetHttpClient,
            "ActivateNode DeactivateNode SendNodeHeartbeat PullMessages PullObject GetRun "
            "PushMessages PushObject",
        ),
        (
            RuntimeHttpClient,
            "AcquireTask SendTaskHeartbeat PullTaskInput PushTaskOutput GetNodes PushMessages "
            "PullMessages PushObject PullObject",
        ),
        (server.Control, "StartRun ListRuns ListNodes RegisterNode UnregisterNode"),
    ],
)
def test_calls(kind: type[ProtobufClient], names: str) -> None:
    for name in names.split():
        assert list(inspect.signature(getattr(kind, name)).parameters) == ["self", "request"]


def test_fields_of_the_messages() -> None:
    fields = {
        fleet_pb2.PushMessagesRequest: "node messages_list message_object_trees "
        "clientapp_runtime_list",
        fleet_pb2.PullMessagesResponse: "messages_list message_object_trees",
        fleet_pb2.PushMessagesResponse: "objects_to_push session_id",
        runtime_pb2.PushAppMessagesResponse: "message_ids objects_to_push session_id",
        runtime_pb2.PullTaskInputResponse: "context run task_id",
        runtime_pb2.AcquireTaskResponse: "task token",
        message_pb2.ObjectTree: "object_id children",
        message_pb2.PushObjectRequest: "node run_id object_id object_content session_id",
    }
    for message, names in fields.items():
        assert set(names.split()) <= {field.name for field in message.DESCRIPTOR.fields}


def test_the_clients_http_can_be_replaced() -> None:
    made = server.control_client(Door(1, "token"))
    assert isinstance(made._client, httpx.Client)
    assert not made._client.follow_redirects
    assert not made._client.trust_env
    made.close()
    assert {field.name for field in dataclasses.fields(ProtobufRequestContext)} == {
        "rpc_method",
        "message",
        "request",
    }
    source = inspect.getsource(FleetHttpClient.PullMessages) + inspect.getsource(
        RuntimeHttpClient.PullMessages
    )
    assert source.count('PullMessages"') == 2  # by this name a request is known to wait


def test_the_superlinks_settings_are_all_given() -> None:
    names = {field.name for field in dataclasses.fields(SuperLinkLifespanConfig)}
    source = inspect.getsource(server.superlink_app)
    assert {name for name in names if f"{name}=" not in source} == set()
    assert "!= ISOLATION_MODE_SUBPROCESS" in inspect.getsource(
        SuperLinkLifespan._start_superexec_if_needed
    )


def test_the_superlink_starts_no_process_and_no_other_server(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, threading\n"
        "def refuse(*a, **k): raise SystemExit('a process was started')\n"
        "subprocess.Popen = refuse\n"
        "from kesit_server.deployment.flower_internals import superlink_app\n"
        f"app = superlink_app({str(tmp_path / 'x.sqlite')!r})\n"
        "life = app.state.superlink_lifespan\n"
        "life.startup()\n"
        "print(len(life.grpc_servers), life.superexec_process, app.state.enable_supernode_auth,\n"
        "      life.config.runtime_dependency_install)\n"
    )
    code = code.replace("from kesit_server", "from pathlib import Path\nfrom kesit_server")
    code = code.replace("superlink_app('", "superlink_app(Path('").replace("sqlite')", "sqlite'))")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "FLWR_INTERNAL_GRPC_FLEET_API": "1", "FLWR_OIDC_ENABLED": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0 None True False"
    assert Application is not None


def test_a_message_is_a_tree_of_three_objects() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
    message = Message(RecordDict({"kesit": ConfigRecord({"reply": b"x" * 9})}), 2, "query.hello")
    tree = inflatable_object.get_object_tree(message)
    assert [len(part.children) for part in inflatable_object.iterate_object_tree(tree)].count(
        0
    ) == 1
    objects = inflatable_object.get_all_nested_objects(message)
    assert len(objects) == 3
    contents = {name: part.deflate() for name, part in objects.items()}
    again = inflatable_utils.inflate_object_from_contents(message.object_id, dict(contents))
    assert isinstance(again, Message)
    assert again.content == message.content
    (root,) = tree.children  # what a node pulls when it has the envelope already
    record = inflatable_utils.inflate_object_from_contents(root.object_id, dict(contents))
    assert record == message.content
    names = list(inspect.signature(inflatable_utils.pull_objects).parameters)
    assert {"max_time", "initial_backoff", "backoff_cap"} <= set(names)


class Runtime:
    """Gives out one reply whose tree and objects are as told."""

    def __init__(self, tree: message_pb2.ObjectTree, objects: dict[str, bytes]) -> None:
        self._tree, self._objects = tree, objects

    def PullMessages(self, request: object) -> runtime_pb2.PullAppMessagesResponse:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        proto = message_to_proto(Message(RecordDict(), 2, "query.hello"))
        return runtime_pb2.PullAppMessagesResponse(
            messages_list=[proto], message_object_trees=[self._tree]
        )

    def PullObject(self, request: message_pb2.PullObjectRequest) -> message_pb2.PullObjectResponse:
        content = self._objects.get(request.object_id)
        return message_pb2.PullObjectResponse(
            object_found=content is not None,
            object_available=content is not None,
            object_content=content or b"",
        )


def test_a_malformed_reply_is_silence() -> None:
    record = RecordDict({"kesit": ConfigRecord({"reply": b"x"})})
    objects = inflatable_object.get_all_nested_objects(record)
    contents = {name: part.deflate() for name, part in objects.items()}
    root = inflatable_object.get_object_tree(record)
    (leaf,) = root.children
    tree = message_pb2.ObjectTree(object_id="m", children=[root])

    def pulled(tree: message_pb2.ObjectTree, contents: dict[str, bytes]) -> list[Message]:
        runtime = Runtime(tree, contents)
        grid = server.RunGrid(runtime, Run.create_empty(1), lambda: None)  # type: ignore[arg-type]
        return list(grid.pull_messages(["x"]))

    assert [message.content for message in pulled(tree, contents)] == [record]
    assert pulled(message_pb2.ObjectTree(object_id="m"), contents) == []
    assert pulled(message_pb2.ObjectTree(object_id="m", children=[leaf]), contents) == []
    assert pulled(tree, {}) == []
    assert pulled(tree, contents | {leaf.object_id: b"rubbish"}) == []
    assert pulled(tree, contents | {root.object_id: b"Message  3\x00abc"}) == []


def test_a_key_is_known_by_the_same_bytes_on_both_sides() -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = public_key_to_bytes(public)
    assert canonical_key(pem) == pem


def test_grids_and_contexts_are_what_ours_are() -> None:
    assert not inspect.isabstract(server.RunGrid)
    assert issubclass(server.RunGrid, Grid)
    assert list(inspect.signature(Context.__init__).parameters)[1:6] == [
        "run_id",
        "node_id",
        "node_config",
        "state",
        "run_config",
    ]


def test_flowers_modules_are_imported_in_two_places_only() -> None:
    private = ("flwr.supercore", "flwr.superlink", "flwr.supernode", "flwr.server.", "flwr.proto")
    for folder in ("client", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name != "flower_internals.py":
                assert not any(name in text for name in private), path
    assert importlib.util.find_spec("flwr.ee") is None  # its plugins would change the SuperLink
