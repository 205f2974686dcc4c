"""The ClientApp: Flower's messages to and from a node's handlers."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ConfigRecord, Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip

from kesit_client.home import last_changes
from kesit_client.node import Node
from kesit_client.opening import open_node
from kesit_privacy.wire import RECORD, REPLY, REQUEST, TRANSCRIPT, RefusalCode, refusal

HOME = "kesit-home"
"""Key of the node's folder in Flower's node configuration."""


def make_app(find_node: Callable[[Context], Node]) -> ClientApp:
    """The ClientApp of the nodes that `find_node` yields. One for production and simulation."""
    app = ClientApp()

    def respond(message: Message, handle: Callable[[dict[str, bytes]], bytes]) -> Message:
        try:
            record = message.content.config_records[RECORD]
            data = handle({k: value for k, value in record.items() if isinstance(value, bytes)})
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # Flower would send the exception's text to the server
            data = refusal(RefusalCode.INTERNAL)
        return Message(RecordDict({RECORD: ConfigRecord({REPLY: data})}), reply_to=message)

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return respond(message, lambda fields: find_node(context).hello(fields[REQUEST]))

    @app.query("sum")
    def answer(message: Message, context: Context) -> Message:
        return respond(
            message, lambda fields: find_node(context).answer(fields[REQUEST], fields[TRANSCRIPT])
        )

    @app.query("end")
    def end(message: Message, context: Context) -> Message:
        return respond(message, lambda fields: find_node(context).end(fields[REQUEST]))

    return app


@lru_cache(maxsize=1)
def _node_at(home: Path, state: tuple[int, ...]) -> Node:
    return open_node(home)


def _current_node(context: Context) -> Node:
    """The node of the folder that Flower's configuration names, opened anew when it changed."""
    home = Path(str(context.node_config[HOME]))
    return _node_at(home, last_changes(home))


app = make_app(_current_node)
