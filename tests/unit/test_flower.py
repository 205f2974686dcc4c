"""An upgrade drill: what Kesit relies on in Flower. Run it against the next release first."""

from __future__ import annotations

import importlib
import inspect
import tomllib
from pathlib import Path

import numpy as np
import pytest

import kesit_privacy.quiet

from flwr.app import ConfigRecord, Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip
from flwr.supercore import constant, telemetry  # isort: skip
from flwr.supercore.task_identity import TaskIdentity  # isort: skip

from kesit_client.app import make_app
from kesit_privacy.hello import HelloRequest
from kesit_privacy.wire import HELLO, RECORD, REPLY, REQUEST, RefusalCode
from kesit_server.courier import Courier, Patience
from kesit_simulations.grid import InProcessGrid
from kit import SERVER, random_codes, small_nodes, small_study

ROOT = Path(__file__).resolve().parents[2]


def test_the_grid_has_the_methods_that_ours_implements() -> None:
    assert Grid.__abstractmethods__ == {
        "create_message",
        "get_node_ids",
        "pull_messages",
        "push_messages",
        "run",
        "send_and_receive",
        "set_run",
    }


def test_messages_read_the_process_wide_identity() -> None:
    InProcessGrid(ClientApp(), [2])
    assert (TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id) == (1, 1, 1)
    message = Message(RecordDict(), 2, HELLO)
    message.metadata.__dict__["_message_id"] = "7"
    assert message.metadata.message_id == "7"
    reply = Message(RecordDict(), reply_to=message)
    assert reply.metadata.reply_to_message_id == "7"
    assert reply.metadata.src_node_id == 2


def test_the_switches_that_keep_flower_quiet_still_exist() -> None:
    assert telemetry.FLWR_TELEMETRY_ENABLED == "0"
    assert constant.FLWR_DISABLE_UPDATE_CHECK in kesit_privacy.quiet.SWITCHES


def test_a_context_is_built_from_these_arguments() -> None:
    names = list(inspect.signature(Context.__init__).parameters)
    assert names[1:6] == ["run_id", "node_id", "node_config", "state", "run_config"]


@pytest.mark.parametrize("serialise", [False, True])
def test_a_message_makes_the_round_trip(serialise: bool) -> None:
    study = small_study()
    nodes = small_nodes(study, random_codes(study, 40))
    app = make_app(lambda context: nodes[int(str(context.node_config["partition-id"]))])
    grid = InProcessGrid(app, [2, 3, 4, 5], serialise=serialise)
    courier = Courier(grid, Patience(seconds=0, asks=1))
    request = HelloRequest(study.hash, "ab" * 16, SERVER.public)
    replies = courier.ask(HELLO, {REQUEST: request.encoded}, [2, 3, 4, 5])
    assert [replies[node].code for node in (2, 3, 4, 5)] == [RefusalCode.OK] * 4
    assert [replies[node].payload for node in (2, 3)] == [
        node.hello(request.encoded)[1:] for node in nodes[:2]
    ]


def test_bytes_survive_a_config_record() -> None:
    data = np.random.default_rng(0).bytes(1000)
    records = RecordDict({RECORD: ConfigRecord({REPLY: data})})
    assert records.config_records[RECORD][REPLY] == data


def test_the_bundle_points_at_the_installed_apps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    flower = project["tool"]["flwr"]["app"]
    assert flower["fab-include"] == ["README.md"]
    for name, kind in (("serverapp", ServerApp), ("clientapp", ClientApp)):
        module, attribute = flower["components"][name].split(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), kind)
