"""The catalogue: every sum that a client can be asked for, by name and version.

Adding a query is adding a class here; a client answers nothing else, but trainings of a network.
"""

from __future__ import annotations

from typing import Any

from kesit_privacy.parameters import refuse
from kesit_privacy.queries.base import Query
from kesit_privacy.queries.clusters import ClusterSums
from kesit_privacy.queries.evaluation import Evaluation
from kesit_privacy.queries.gradients import GradientSums
from kesit_privacy.queries.histograms import Grid, Marginals
from kesit_privacy.queries.labels import LabelHistograms
from kesit_privacy.queries.moments import ScoreMoments
from kesit_privacy.queries.residuals import ResidualSums
from kesit_privacy.queries.scores import ScoreEvaluation
from kesit_privacy.queries.second_moments import SecondMoments
from kesit_privacy.queries.weights import TrainedWeights
from kesit_privacy.study import Study

CATALOGUE: dict[tuple[str, int], type[Query]] = {
    (query.name, query.version): query
    for query in (
        *(Marginals, Grid, ClusterSums, Evaluation),
        *(LabelHistograms, ScoreMoments, ResidualSums),
        *(SecondMoments, GradientSums),
        ScoreEvaluation,
    )
}

TRAININGS: dict[tuple[str, int], type[Query]] = {
    (TrainedWeights.name, TrainedWeights.version): TrainedWeights
}
"""What a client can be asked for that is no sum of a row function (rule 20 of the protocol)."""

__all__ = [
    "CATALOGUE",
    "ClusterSums",
    "Evaluation",
    "GradientSums",
    "Grid",
    "LabelHistograms",
    "Marginals",
    "Query",
    "ResidualSums",
    "ScoreEvaluation",
    "ScoreMoments",
    "SecondMoments",
    "TrainedWeights",
    "bind",
]


def bind(study: Study, name: str, version: int, params: dict[str, Any], scale_bits: int) -> Query:
    """The catalogue's query of that name and version with these parameters.

    Raises:
        ProtocolError: no such query, or parameters out of range.
    """
    query = CATALOGUE.get((name, version)) or TRAININGS.get((name, version))
    if query is None:
        raise refuse(f"no query {name!r} version {version}")
    return query.bind(study, params, scale_bits)
