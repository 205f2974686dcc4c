"""The courier: the same bytes to many nodes over Flower's `Grid`, until they answer or time is up.

Polling the grid is finer than Flower's own `send_and_receive`, whose three-second steps would be
most of a round's time. A node that stays silent is asked again with the same bytes: a client
answers one instruction with one answer, so asking twice costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ConfigRecord, RecordDict  # isort: skip
from flwr.serverapp import Grid  # isort: skip

from kesit_privacy.errors import ProtocolError
from kesit_privacy.wire import RECORD, REPLY, RefusalCode, read_reply


@dataclass(frozen=True)
class Patience:
    """How long the server waits for answers.

    Attributes:
        seconds: in all, for one message to all nodes; 0 for a grid that answers at once.
        asks: how often a silent node is asked within that time.
        poll_seconds: between two looks at the grid.
    """

    seconds: float = 60.0
    asks: int = 3
    poll_seconds: float = 0.2


@dataclass(frozen=True)
class Reply:
    """A node's reply: a code, and a payload if the code is OK."""

    code: RefusalCode
    payload: bytes


@dataclass
class Courier:
    """Carries requests over a grid and counts messages and bytes.

    `on_reply` is called with (answered, asked) while replies come in.
    """

    grid: Grid
    patience: Patience = Patience()
    on_reply: Callable[[int, int], None] = lambda answered, asked: None
    messages: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def ask(self, kind: str, fields: Mapping[str, bytes], nodes: list[int]) -> dict[int, Reply]:
        """Send `fields` to each node; the replies of those that answered, by node.

        A reply that breaks the wire format counts as an INTERNAL failure of its node.
        """
        replies: dict[int, Reply] = {}
        for _ in range(self.patience.asks):
            silent = [node for node in nodes if node not in replies]
            if not silent:
                break
            self._ask_once(kind, fields, silent, replies, len(nodes))
        return replies

    def _ask_once(
        self,
        kind: str,
        fields: Mapping[str, bytes],
        nodes: list[int],
        replies: dict[int, Reply],
        asked: int,
    ) -> None:
        sizes = sum(len(value) for value in fields.values())
        pending = set(
            self.grid.push_messages(
                self.grid.create_message(
                    RecordDict({RECORD: ConfigRecord(dict(fields))}), kind, node, ""
                )
                for node in nodes
            )
        )
        self.messages += len(nodes)
        self.bytes_sent += sizes * len(nodes)
        until = time.monotonic() + self.patience.seconds / self.patience.asks
        while pending:
            for message in self.grid.pull_messages(list(pending)):
                pending.discard(message.metadata.reply_to_message_id)
                if message.has_error():
                    continue  # the node failed or went away: silence, so it is asked again
                node = message.metadata.src_node_id
                records = message.content.config_records
                data = records[RECORD].get(REPLY) if RECORD in records else None
                self.bytes_received += len(data) if isinstance(data, bytes) else 0
                replies[node] = _read(data)
                self.on_reply(len(replies), asked)
            if time.monotonic() >= until:
                return
            if pending:
                time.sleep(self.patience.poll_seconds)


def _read(data: object) -> Reply:
    try:
        return Reply(*read_reply(data if isinstance(data, bytes) else b""))
    except ProtocolError:
        return Reply(RefusalCode.INTERNAL, b"")
