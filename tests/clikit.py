"""The command line for tests: run it in an empty folder, and a small shop to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kesit_cli import exits, main
from kesit_simulations import datasets

STUDY = """
name = "Small shop"
purpose = "customer-segmentation"
legal_basis = "contract"
epsilon = 1.0
delta = 1e-4
declared_customers = 2000

[segmentation]
k = 3

[[features]]
kind = "numeric"
name = "age"
lower = 18
upper = 90

[[features]]
kind = "numeric"
name = "balance"
lower = -1000
upper = 100000
transform = "signed-log"

[[features]]
kind = "categorical"
name = "channel"
levels = ["web", "shop"]

[simulation]
data = "customers.csv"
id_column = "no"
clients = 4
"""

POLICY = """
purposes = ["customer-segmentation"]
features = ["age", "balance", "channel"]
queries = ["marginals", "cluster-sums", "evaluation"]
min_roster = 3
min_customers = 50
servers = []

[peers]

[lifetime]
epsilon = 2.0
delta = 1e-4
"""


@dataclass(frozen=True)
class Outcome:
    """What one call of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The error block, on one line."""
        return " ".join(self.err[self.err.index("Error:") :].split())


Kesit = Callable[..., Outcome]


@pytest.fixture
def kesit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Kesit:
    """The command, run in an empty folder."""
    root = datasets.data_root()
    if root is not None:
        monkeypatch.setenv("KESIT_DATA", str(root))
    monkeypatch.delenv(exits.DEBUG_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main.run(arguments)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, out, err)

    return call


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a study, its customers, and a policy."""
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "policy.toml").write_text(POLICY)
    lines = ["no,age,balance,channel"]
    for row in range(2000):
        kind = row % 3
        age, balance = 25 + 20 * kind + row % 7, 10 ** (kind + 2) + row % 90
        lines.append(f"c{row},{age},{balance},{'web' if kind else 'shop'}")
    (tmp_path / "customers.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def files(folder: Path) -> set[str]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def edit(path: Path, old: str, new: str) -> None:
    """Replace a piece of text that must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
