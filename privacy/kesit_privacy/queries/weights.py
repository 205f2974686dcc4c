"""Trained weights: what members' networks have become, added up with no noise of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Self

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray
from kesit_privacy.network import WEIGHT_BITS, Network
from kesit_privacy.parameters import refuse, take
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target
from kesit_privacy.training import TRAINED, Training


@dataclass(frozen=True)
class TrainedWeights(Query):
    """Weights of a network (see `Network.weights`) after one training from `model`, in 2^-16.

    The one query that is no sum of a row function, and whose answers have no noise added: each
    member's weights are private by themselves, because DP-SGD made them (rule 20 of the protocol).
    So Δ means nothing here and is 0, the only variance is 0, and the cost is an event of the
    training's pot. `model` and `round` decide where a training begins, and nothing of what it
    costs: steps, rate, clip and noise come from the client's own copy of the study.
    """

    name: ClassVar[str] = TRAINED
    version: ClassVar[int] = 1

    target: Target
    side: Side
    model: Network
    training: Training
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        held, model = take(params, "held", "model")
        if study.training is None or scale_bits != WEIGHT_BITS:
            raise refuse("the study trains no network on this lattice")
        target = Target.of(study)
        query = cls(
            target,
            Side.read(held, inside=False),
            Network.read(Embedding.of(study), target.logits, model),
            study.training,
            scale_bits,
        )
        if query.model.hidden != study.training.hidden or query.length > MAX_LENGTH // 2:
            raise refuse("the network is not that of the study")
        return query

    def params(self) -> dict[str, Any]:
        return {"held": self.side.params(), "model": self.model.params()}

    @property
    def counts(self) -> Side:
        return self.side

    @property
    def length(self) -> int:
        return len(self.model.weights)

    @property
    def delta_sq(self) -> int:
        return 0

    def _sum_chunk(self, codes: CodeArray) -> NoReturn:
        raise TypeError("weights are trained (kesit_client.neural.training), no sum of rows")
