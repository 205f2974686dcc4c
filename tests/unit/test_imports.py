"""The walls of the house: who imports whom, and that Flower's calls home are off."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("privacy", "client", "server", "audits", "simulations", "cli")
MAY_IMPORT = {
    "privacy": set[str](),
    "client": {"privacy"},
    "server": {"privacy"},
    "audits": {"privacy"},
    "simulations": {"privacy", "client", "server", "audits"},
    "cli": {"privacy", "client", "server", "audits", "simulations"},
}

MAY_IMPORT_IN_SERVER = {
    "segmentation": set[str](),
    "portrait": {"segmentation"},
    "classification": {"classification"},
    "classification/training": {"classification.training"},
    "classification/judging": {"classification.training", "classification.judging"},
}
"""Rooms of the server; what belongs to no room (sums, wording, errors, ...) is free to all."""


def sources(folder: str) -> list[Path]:
    """Modules of one component."""
    found = sorted((ROOT / folder / f"kesit_{folder}").rglob("*.py"))
    assert found, folder
    return found


def imported(path: Path) -> list[str]:
    """Dotted names that a module imports, anywhere in it, in order of appearance."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append((node.lineno, node.module or ""))
    return [name for _, name in sorted(names)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_modules_import_each_other_in_a_circle(folder: str) -> None:
    """Imports within functions count, too: they hide a circle and do not break it."""
    root = ROOT / folder
    names = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources(folder)
    }
    needs = {name: modules(path, names) - {name} for name, path in names.items()}
    graphlib.TopologicalSorter(needs).prepare()  # a CycleError names the circle


def modules(path: Path, known: Collection[str]) -> set[str]:
    """Those of the known modules that a module imports; a package only for names of its own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(known) or {node.module or ""}
    return found & set(known)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_follow_the_arrows(folder: str) -> None:
    allowed = MAY_IMPORT[folder] | {folder}
    for path in sources(folder):
        for name in imported(path):
            if name.startswith("kesit_"):
                component = name.split(".")[0].removeprefix("kesit_")
                assert component in allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", MAY_IMPORT_IN_SERVER)
def test_rooms_of_the_server_follow_the_arrows(room: str) -> None:
    allowed = {room.replace("/", "."), *MAY_IMPORT_IN_SERVER[room]}
    rooms = {"segmentation", "portrait", "classification", "deployment"}
    for path in (ROOT / "server" / "kesit_server" / room).rglob("*.py"):
        for name in imported(path):
            inner = name.removeprefix("kesit_server.")
            if inner != name and inner.split(".")[0] in rooms:
                inside = any(f"{inner}.".startswith(f"{good}.") for good in allowed)
                assert inside, f"{path.relative_to(ROOT)} imports {name}"


def test_privacy_knows_no_flower_and_no_network() -> None:
    for path in sources("privacy"):
        tops = {name.split(".")[0] for name in imported(path)}
        strangers = tops & {"flwr", "socket", "requests", "httpx", "urllib", "sqlite3"}
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_quiet_is_imported_before_flower(folder: str) -> None:
    for path in sources(folder):
        names = imported(path)
        flower = [index for index, name in enumerate(names) if name.split(".")[0] == "flwr"]
        if flower:
            assert "kesit_privacy.quiet" in names[: flower[0]], path.relative_to(ROOT)


@pytest.mark.parametrize("module", ["kesit_client.app", "kesit_server.app", "kesit_cli.main"])
def test_flower_is_quiet_in_a_new_process(module: str) -> None:
    code = (
        f"import {module}, kesit_privacy.quiet;"
        "from flwr.supercore import telemetry; import os;"
        "print(telemetry.FLWR_TELEMETRY_ENABLED, os.environ['FLWR_DISABLE_UPDATE_CHECK'])"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith("FLWR_")}
    environment["FLWR_TELEMETRY_ENABLED"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["0", "1"]


def test_no_module_is_longer_than_500_lines() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= 500, f"{path.relative_to(ROOT)} has {lines} lines"
