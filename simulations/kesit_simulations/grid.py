"""Flower's `Grid` inside one process: the same apps, the same messages, no network and no Ray.

Optionally every message makes the round trip through Flower's own serialisation, as it would on a
wire. Clients can be made silent to study retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Context, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.common.serde import message_from_proto, message_to_proto  # isort: skip
from flwr.serverapp import Grid  # isort: skip
from flwr.supercore.run import Run  # isort: skip
from flwr.supercore.task_identity import TaskIdentity  # isort: skip

SERVER_NODE = 1
RUN_ID = 1


class InProcessGrid(Grid):
    """A grid whose nodes run, one after the other, when a message is pushed.

    Args:
        app: the ClientApp of all nodes.
        nodes: their ids; `partition-id` in each node's configuration is its place in this list.
        serialise: send every message through Flower's protobuf form and back.
        silent: (node id, message type) -> whether the node misses this message.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: list[int],
        *,
        serialise: bool = False,
        silent: Callable[[int, str], bool] = lambda node, kind: False,
    ) -> None:
        self._app = app
        self._serialise = serialise
        self._silent = silent
        self._run = Run.create_empty(RUN_ID)
        self._contexts = {
            node: Context(RUN_ID, node, {"partition-id": place}, RecordDict(), {})
            for place, node in enumerate(nodes)
        }
        self._replies: dict[str, Message] = {}
        self._pushed = 0
        # Flower's Message reads these process-wide values; hence sweeps use processes.
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = RUN_ID
        TaskIdentity.node_id = SERVER_NODE

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
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(name) for name in message_ids if name in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))

    def _deliver(self, message: Message) -> str:
        self._pushed += 1
        name = str(self._pushed)
        message.metadata.__dict__["_message_id"] = name  # as the SuperLink does
        node = message.metadata.dst_node_id
        if self._silent(node, message.metadata.message_type):
            return name
        reply = self._app(self._carried(message), self._contexts[node])
        self._replies[name] = self._carried(reply)
        return name

    def _carried(self, message: Message) -> Message:
        return message_from_proto(message_to_proto(message)) if self._serialise else message
