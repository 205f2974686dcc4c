"""The clients of a simulation: production nodes whose keys, noise and silence a seed decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.owner.policy import Lifetime, Policy
from kesit_client.rows.cache import ArrayRows, Rows
from kesit_privacy.features import CodeArray
from kesit_privacy.identity import Identity
from kesit_privacy.noise import NoiseSource, NoNoise, SecureNoise, SeededNoise
from kesit_privacy.study import Study
from kesit_simulations.plan import SimulationPlan

LIFETIME_EPSILON = 100.0


@dataclass(frozen=True)
class Members:
    """What the clients of one simulation are made of.

    Attributes:
        server: the server's public key, which all of them pin.
        identities: each client's key; policy: what all of them allow.
    """

    study: Study
    plan: SimulationPlan
    server: str
    identities: tuple[Identity, ...]
    policy: Policy

    @classmethod
    def of(cls, study: Study, plan: SimulationPlan, clients: int, server: str) -> Members:
        """Derive the keys of `clients` clients from the plan's seed."""
        identities = tuple(derived_identity(plan.seed, "client", place) for place in range(clients))
        policy = _policy(study, plan, server, [identity.public for identity in identities])
        return cls(study, plan, server, identities, policy)

    def node(self, place: int, codes: CodeArray, store: Store) -> Node:
        """The client of this place, with these coded customers and these books."""
        return Node(
            identity=self.identities[place],
            policy=self.policy,
            store=store,
            studies={self.study.hash: self.study},
            rows=_rows(codes),
            noise=_noise(self.plan, place),
            masked=self.plan.masks,
            simulated=True,
        )


def derived_identity(seed: int, role: str, place: int) -> Identity:
    """A repeatable key. It protects nothing: simulated hellos are refused by real nodes."""
    return Identity.from_seed(hashlib.sha256(f"{role}:{seed}:{place}".encode()).digest())


def misses(plan: SimulationPlan, place: int, number: int) -> bool:
    """Whether a client misses the message that is its `number`-th, from 0.

    It depends on nothing else, so every engine makes the same clients silent.
    """
    if plan.silence == 0:
        return False
    return bool(np.random.default_rng([plan.seed, 2, place, number]).random() < plan.silence)


def _policy(study: Study, plan: SimulationPlan, server: str, identities: Sequence[str]) -> Policy:
    return Policy(
        purposes=(study.purpose,),
        features=tuple(feature.name for feature in study.features),
        queries=tuple(sorted({step.query for step in study.plan})),
        min_roster=study.roster.min_size,
        servers=(server,),
        peers={f"client-{place + 1}": identity for place, identity in enumerate(identities)},
        lifetime=Lifetime(LIFETIME_EPSILON, study.delta, LIFETIME_EPSILON),
        min_customers=plan.min_customers,
    )


def _rows(codes: CodeArray) -> Callable[[Study], Rows]:
    rows = ArrayRows(codes)
    return lambda study: rows


def _noise(plan: SimulationPlan, place: int) -> NoiseSource:
    if plan.noise == "secure":
        return SecureNoise()
    return SeededNoise(plan.seed, 3, place) if plan.noise == "seeded" else NoNoise()
