"""The courier: the same bytes to many nodes over Flower's `Grid`, until they answer or time is up.

Polling the grid is finer than Flower's own `send_and_receive`, whose three-second steps would be
most of a round's time. A node that stays silent is asked again with the same bytes, and one that
fails or goes away after a pause: a client answers one instruction with one answer, so asking twice
costs nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

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
        asks: how often a node that stays silent is asked within that time.
        poll_seconds: between two looks at the grid.
        pause_seconds: before a node that failed or went away is asked again; infinite for never.
    """

    seconds: float = 90.0
    asks: int = 3
    poll_seconds: float = 0.05
    pause_seconds: float = 2.0


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

    def ask(
        self,
        kind: str,
        fields: Mapping[str, bytes],
        nodes: list[int],
        most_seconds: float = math.inf,
    ) -> dict[int, Reply]:
        """Send `fields` to each node; the replies of those that answered, by node.

        A reply that breaks the wire format counts as an INTERNAL failure of its node. One that
        comes later than `Patience.seconds`, or `most_seconds`, is never read.
        """
        patience, replies = self.patience, dict[int, Reply]()
        patience = replace(patience, seconds=min(patience.seconds, most_seconds))
        pending: dict[str, int] = {}  # message -> node
        until = time.monotonic() + patience.seconds
        asks, again_at = dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0.0)
        while True:
            now = time.monotonic()
            due = [n for n in nodes if n not in replies and asks[n] < patience.asks]
            due = [n for n in due if again_at[n] <= now]
            if patience.seconds and now >= until:
                due = []
            for node in due:
                asks[node] += 1
                again_at[node] = now + patience.seconds / patience.asks
            sent = self._push(kind, fields, due)
            pending |= sent
            failed = {*due} - {*sent.values()}  # nodes that the SuperLink does not know any more
            for node in failed | self._pull(pending, replies, len(nodes)):
                asks[node] -= 1  # it failed or went away: that was no answer
                again_at[node] = now + patience.pause_seconds
            left = [node for node in nodes if node not in replies]
            hopeless = not pending and all(again_at[node] >= until for node in left)
            if not left or (not due and (now >= until or hopeless)):
                return replies
            if patience.seconds:
                time.sleep(patience.poll_seconds)

    def _push(self, kind: str, fields: Mapping[str, bytes], nodes: list[int]) -> dict[str, int]:
        """The node of each message that the grid took, by the message's id."""
        if not nodes:
            return {}
        self.messages += len(nodes)
        self.bytes_sent += sum(len(value) for value in fields.values()) * len(nodes)
        records = [RecordDict({RECORD: ConfigRecord(dict(fields))}) for _ in nodes]
        messages = [
            self.grid.create_message(content, kind, node, "")
            for content, node in zip(records, nodes, strict=True)
        ]
        taken = set(self.grid.push_messages(messages))
        sent = ((m.metadata.message_id, m.metadata.dst_node_id) for m in messages)
        return {name: node for name, node in sent if name in taken}

    def _pull(self, pending: dict[str, int], replies: dict[int, Reply], asked: int) -> set[int]:
        """Move what has come from `pending` to `replies`; the nodes whose message failed.

        Whose reply it is is known by the message that it answers: an error for a node that went
        away is the SuperLink's own and does not name it.
        """
        failed = set()
        for message in self.grid.pull_messages(list(pending)) if pending else ():
            node = pending.pop(message.metadata.reply_to_message_id, None)
            if node is None:
                continue
            if message.has_error():
                failed.add(node)
                continue
            records = message.content.config_records
            data = records[RECORD].get(REPLY) if RECORD in records else None
            self.bytes_received += len(data) if isinstance(data, bytes) else 0
            if node not in replies:  # asked twice, it may answer twice
                replies[node] = _read(data)
                self.on_reply(len(replies), asked)
        return failed - replies.keys()


def _read(data: object) -> Reply:
    try:
        return Reply(*read_reply(data if isinstance(data, bytes) else b""))
    except ProtocolError:
        return Reply(RefusalCode.INTERNAL, b"")
