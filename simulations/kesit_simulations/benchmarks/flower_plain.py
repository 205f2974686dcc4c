"""An app for plain Flower: rounds of empty messages. It runs in Flower's processes alone.

Of Kesit it has nothing but the switches that keep Flower from calling home. It is copied into an
app folder by `stock_flower`; the run's configuration says how many rounds there are and into which
file the times go.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip

client = ClientApp()
server = ServerApp()

POLL_SECONDS = 0.2


@client.query()
def answer(message: Message, context: Context) -> Message:
    """An empty reply."""
    return Message(RecordDict(), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Wait for all nodes, then do the rounds."""
    told: dict[str, Any] = {"rounds": []}
    try:
        nodes = online(grid, int(context.run_config["nodes"]))
        for number in range(int(context.run_config["rounds"])):
            sent = [Message(RecordDict(), node, "query", group_id=str(number)) for node in nodes]
            begun = time.monotonic()
            replies = list(grid.send_and_receive(sent, timeout=120.0))
            told["rounds"].append(time.monotonic() - begun)
            if len(replies) != len(nodes) or any(reply.has_error() for reply in replies):
                raise RuntimeError(f"{len(replies)} of {len(nodes)} nodes answered")
    except Exception as error:  # whoever waits for the file is told, too
        told["error"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        write(told, context)


def online(grid: Grid, count: int) -> list[int]:
    """Ids of the nodes when all are online, for two minutes at most."""
    until = time.monotonic() + 120.0
    while len(nodes := list(grid.get_node_ids())) < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{len(nodes)} of {count} nodes are online")
        time.sleep(POLL_SECONDS)
    return nodes


def write(told: dict[str, Any], context: Context) -> None:
    """Leave what was measured in the file that the run's configuration names, whole at once."""
    path = Path(str(context.run_config["result"]))
    part = path.with_suffix(".part")
    part.write_text(json.dumps(told), encoding="utf-8")
    part.rename(path)
