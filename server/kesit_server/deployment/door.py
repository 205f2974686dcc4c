"""The door file: how other processes of the coordinator reach its running SuperLink.

It holds the loopback port and a token that is new at every start. Only the coordinator's own user
can read it, and without the token the loopback port answers nothing: Flower itself would let any
user of the machine list runs or take over the coordinator's task.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kesit_privacy.files import replacing
from kesit_server.errors import DeploymentError

DOOR = "door.json"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Door:
    """A running SuperLink's loopback port and the token that opens it."""

    port: int
    token: str

    @property
    def address(self) -> str:
        """`host:port`; the host is always loopback."""
        return f"{LOOPBACK}:{self.port}"

    def write(self, folder: Path) -> None:
        """Leave the door file in the SuperLink's folder, readable by its owner alone."""
        with replacing(folder / DOOR, private=True) as file:
            file.write(json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, folder: Path) -> Door:
        """The door of the SuperLink that runs from `folder`.

        Raises:
            DeploymentError: no SuperLink runs there.
        """
        try:
            fields = json.loads((folder / DOOR).read_bytes())
            return cls(int(fields["port"]), str(fields["token"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeploymentError(
                f"{folder}: no server runs from this folder.",
                remedy="Start it with `kesit server start`.",
            ) from error
