"""From TOML to a study that members can agree on: checked, and completed with a default plan.

Tables that describe a machine and not the agreement (`[simulation]`) are no part of the study.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from kesit_privacy import classifier_recipes
from kesit_privacy.features import Categorical, Feature
from kesit_privacy.recipes import check_names, complete
from kesit_privacy.study import Study
from kesit_privacy.tables import parse, read_tables, validated

LOCAL_TABLES = ("simulation",)


def load_study(path: Path) -> Study:
    """Read a study from a TOML file.

    Raises:
        StudyError: the file cannot be read, or a field is wrong; the error names it.
    """
    return study_from_tables(read_tables(path))


def study_from_toml(text: str) -> Study:
    """Read a study from TOML text; see `load_study`."""
    return study_from_tables(parse(text, "study"))


def study_from_tables(tables: dict[str, Any]) -> Study:
    """A study from parsed TOML; see `load_study`."""
    agreed = {key: value for key, value in tables.items() if key not in LOCAL_TABLES}
    study = validated(Study, agreed)
    study = replace(study, features=tuple(_settled(study, feature) for feature in study.features))
    if study.classification is not None:
        check_names(study)
        classifier_recipes.check_target(study)  # what settles an estimator counts on it
        study = classifier_recipes.settled(study)
    return replace(study, plan=complete(study))


def _settled(study: Study, feature: Feature) -> Feature:
    """A feature with its transform settled: a classifier finds amounts, distances need a line."""
    if isinstance(feature, Categorical):
        return feature
    return feature.settled(amounts=study.classification is not None)
