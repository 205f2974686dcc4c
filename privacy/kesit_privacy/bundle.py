"""The pointer bundle: what Flower calls an app bundle, without a line of code in it.

Flower ships apps to nodes as bundles and runs what is inside. Kesit ships a bundle that only names
the apps that both sides have *installed*. Its bytes are the same everywhere, so each side computes
its SHA-256 from its own installation, and a node takes part in runs of that hash alone.
"""

from __future__ import annotations

import hashlib
import io
import zipfile

SERVER_APP = "kesit_server.app:app"
CLIENT_APP = "kesit_client.app:app"

_PROJECT = f"""\
[project]
name = "kesit"
version = "1.0.0"
description = "A pointer to the installed Kesit"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "kesit"

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"
"""


def pack(files: dict[str, bytes]) -> bytes:
    """A Flower bundle of `files`, the same bytes on every machine: stored, dated 1980-01-01."""
    manifest = "\n".join(
        f"{name},{hashlib.sha256(data).hexdigest()},{len(data) * 8}" for name, data in files.items()
    )
    place = io.BytesIO()
    with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {**files, ".info/CONTENT": manifest.encode()}.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # zipfile would write the machine's own
            archive.writestr(entry, data)
    return place.getvalue()


POINTER = pack({"pyproject.toml": _PROJECT.encode()})
"""The bundle's bytes."""

POINTER_HASH = hashlib.sha256(POINTER).hexdigest()
"""SHA-256 of the bundle (64 hex digits): what a node pins."""
