"""Files that a command writes for a person."""

from __future__ import annotations

from pathlib import Path

STDOUT = "-"
"""In place of a file's name: print the text."""


def write_new(path: Path, text: str) -> None:
    """Write a file that must not exist yet.

    Raises:
        ResultError: it exists, or the disk refuses.
    """
    from kesit_server.errors import ResultError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ResultError(
            f"{path}: exists already, and nothing was written.",
            remedy="Give another name, or move that file away.",
        ) from error
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the folder and the room on the disk.",
        ) from error


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read.

    Raises:
        ClientError: the disk refuses.
    """
    from kesit_client.errors import ClientError
    from kesit_privacy.files import replacing

    try:
        with replacing(path, private=True) as file:
            file.write(data)
    except OSError as error:
        raise ClientError(
            f"{path}: cannot be written ({error.strerror}).", remedy="Give another name."
        ) from error
