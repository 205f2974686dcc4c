"""An app for Flower's own secure aggregation, SecAgg+. It runs in Flower's processes alone.

Flower 1.41 ships SecAgg+ in its older interface only: `SecAggPlusWorkflow` drives a legacy
strategy, and `secaggplus_mod` wraps a legacy client. Each sum is one of the workflow's rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, Message  # isort: skip
from flwr.client import NumPyClient  # isort: skip
from flwr.client.mod import secaggplus_mod  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.common import ndarrays_to_parameters  # isort: skip
from flwr.compat.client.client import Client  # isort: skip
from flwr.server import LegacyContext, ServerConfig  # isort: skip
from flwr.server.strategy import FedAvg  # isort: skip
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects  # isort: skip

VALUE = 0.5
"""Every client's every number; so is their mean, which tells that the sums are right."""

ROWS = 100
"""The weight of every client."""


class Constant(NumPyClient):
    """Answers with a constant vector as long as the one it was sent."""

    def fit(self, parameters: list[Any], config: dict[str, Any]) -> tuple[list[Any], int, Any]:
        """The vector, as an updated model would be."""
        return [np.full(values.shape, VALUE) for values in parameters], ROWS, {}


def client_fn(context: Context) -> Client:
    """The client of a message."""
    return Constant().to_client()


client = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
server = ServerApp()


class Timed(SecAggPlusWorkflow):
    """Flower's workflow, with a note of the seconds of each sum."""

    seconds: list[float]

    def __call__(self, grid: Grid, context: Context) -> None:
        """One sum."""
        begun = time.monotonic()
        super().__call__(grid, context)
        self.seconds.append(time.monotonic() - begun)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Wait for all nodes, then do the sums."""
    told: dict[str, Any] = {}
    try:
        told.update(sums(grid, context))
    except Exception as error:  # whoever waits for the file is told, too
        told["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        path = Path(str(context.run_config["result"]))
        part = path.with_suffix(".part")
        part.write_text(json.dumps(told), encoding="utf-8")
        part.rename(path)


def sums(grid: Grid, context: Context) -> dict[str, Any]:
    """Seconds of each sum, and the sizes of all messages."""
    nodes, rounds = int(context.run_config["nodes"]), int(context.run_config["rounds"])
    until = time.monotonic() + 120.0
    while len(list(grid.get_node_ids())) < nodes:
        if time.monotonic() > until:
            raise TimeoutError(f"not all {nodes} nodes are online")
        time.sleep(0.2)
    # what is sent first is not what is hoped for
    start = [np.zeros(int(context.run_config["length"]))]
    strategy = FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=nodes,
        min_available_clients=nodes,
        initial_parameters=ndarrays_to_parameters(start),
    )
    legacy = LegacyContext(context, ServerConfig(num_rounds=rounds), strategy)
    workflow = Timed(num_shares=1.0, reconstruction_threshold=0.6, timeout=180.0)
    workflow.seconds = []
    sizes = _weighed(grid)
    DefaultWorkflow(fit_workflow=workflow)(grid, legacy)
    found = legacy.state.array_records["parameters"].to_numpy_ndarrays()
    if not np.allclose(found[0], VALUE, atol=0.01):
        raise ArithmeticError("the sums are wrong")
    return {"rounds": workflow.seconds, "sent": sizes["sent"], "received": sizes["received"]}


def _weighed(grid: Grid) -> dict[str, int]:
    """Bytes of all messages that pass the grid from now on, as Flower writes them."""
    sizes = {"sent": 0, "received": 0}
    send = grid.send_and_receive

    def weighing(messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        out = list(messages)
        sizes["sent"] += sum(map(_bytes, out))
        replies = list(send(out, timeout=timeout))
        sizes["received"] += sum(map(_bytes, replies))
        return replies

    grid.send_and_receive = weighing  # type: ignore[method-assign]
    return sizes


def _bytes(message: Message) -> int:
    return sum(len(part.deflate()) for part in get_all_nested_objects(message).values())
