"""Three branches as folders on disk, as three owners would keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kesit_client.app import make_app
from kesit_client.node import Node
from kesit_client.opening import open_node
from kesit_privacy.identity import Identity
from kesit_privacy.study_file import study_from_toml
from kesit_server.courier import Courier, Patience
from kesit_server.federation import Federation
from kesit_simulations.grid import InProcessGrid

STUDY = """
name = "Üç şube"
purpose = "customer-segmentation"
legal_basis = "explicit-consent"
epsilon = 2.0
delta = 1e-6
declared_customers = 3000
segmentation = { k = 3 }
[[features]]
kind = "numeric"
name = "age"
lower = 18.0
upper = 90.0
[[features]]
kind = "numeric"
name = "income"
lower = 0.0
upper = 1e6
transform = "signed-log"
"""

POLICY = """
purposes = ["customer-segmentation"]
features = ["age", "income"]
queries = ["grid", "cluster-sums", "evaluation"]
min_roster = 3
servers = ["{server}"]
lifetime = {{ epsilon = 5.0, delta = 1e-6 }}
[peers]
{peers}
"""

CENTRES = ((25.0, 2_000.0), (45.0, 20_000.0), (70.0, 200_000.0))


def customers(branch: int, rows: int = 1000) -> str:
    """A branch's CSV: three groups of customers that are easy to tell apart."""
    rng = np.random.default_rng(branch)
    lines = ["id,age,income"]
    for row in range(rows):
        age, income = CENTRES[row % 3]
        lines.append(
            f"{branch}-{row},{age + rng.normal(0, 2):.1f},{income * rng.lognormal(0, 0.1):.2f}"
        )
    return "\n".join(lines) + "\n"


class Branches:
    """Three folders, as three owners would keep them, and the server's key."""

    def __init__(self, place: Path) -> None:
        self.server = Identity.new()
        self.homes = [place / name for name in ("ankara", "izmir", "bursa")]
        identities = [Identity.new() for _ in self.homes]
        peers = "\n".join(
            f'branch-{number} = "{identity.public}"' for number, identity in enumerate(identities)
        )
        for number, (home, identity) in enumerate(zip(self.homes, identities, strict=True)):
            (home / "studies").mkdir(parents=True)
            (home / "data").mkdir()
            identity.save(home / "identity.pem")
            (home / "policy.toml").write_text(
                POLICY.format(server=self.server.public, peers=peers), encoding="utf-8"
            )
            (home / "source.toml").write_text('path = "data/a.csv"\nid_column = "id"\n')
            (home / "data/a.csv").write_text(customers(number))
            (home / "studies/three.toml").write_text(STUDY, encoding="utf-8")
        self.study = study_from_toml(STUDY)
        self.nodes: list[Node] = []

    def open(self) -> list[Node]:
        """The nodes, as after a start of their processes."""
        for node in self.nodes:
            node.store.close()
        self.nodes = [open_node(home) for home in self.homes]
        return self.nodes

    def federation(self) -> Federation:
        """A real federation over these nodes."""
        grid = self.grid()
        courier = Courier(grid, Patience(0, 1))
        return Federation(courier, self.study, self.server)

    def grid(self) -> InProcessGrid:
        app = make_app(lambda context: self.nodes[int(str(context.node_config["partition-id"]))])
        return InProcessGrid(app, [2, 3, 4], serialise=True)
