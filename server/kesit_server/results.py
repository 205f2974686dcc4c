"""The result folder: segments or a model, statement, study, the server's signed spending log; whole
or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from kesit_privacy.files import replacing
from kesit_server.errors import ResultError

EVALUATION = "evaluation.json"
PRIVACY = "privacy.json"
STATEMENT, STATEMENT_TR = "privacy.md", "privacy-tr.md"
SPENDING = "spending-log.json"
STUDY = "study.json"


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Write all files into a new folder that appears only when it is complete.

    Raises:
        ResultError: the folder exists and is not empty, or the disk refuses.
    """
    check_free(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        partial.mkdir(parents=True)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise ResultError(
            f"{folder}: the result cannot be written ({error.strerror}).",
            remedy="Check the place and the room on the disk.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole: readers see the old bytes or the new, also after a crash.

    Raises:
        ResultError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the place and the room on the disk.",
        ) from error


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something already: results are never overwritten.

    Raises:
        ResultError: it does.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ResultError(
            f"{folder}: is not an empty folder.", remedy="Give another --out, or move it away."
        )


def as_json(value: Any) -> bytes:
    """Indented UTF-8 JSON with a newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
