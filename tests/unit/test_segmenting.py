"""Released segments where the customers are: codes, reasons, and files that are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_segmentation import in_groups

from clikit import POLICY
from kesit_client.errors import PolicyError, SourceError
from kesit_client.results import segmenting
from kesit_client.results.given_out import own_row, require_place
from kesit_privacy import segment_file
from kesit_privacy.errors import ModelError
from kesit_privacy.features import GRID, CodeArray, Numeric
from kesit_privacy.segment_file import SEGMENTS, SegmentModel
from kesit_simulations.runner import SimulationResult
from kit import mixed_study, random_codes
from segmentkit import released

STUDY = mixed_study(epsilon=4.0)


@pytest.fixture(scope="module")
def result(folder: Path) -> SimulationResult:
    return released(STUDY, in_groups(STUDY), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("result")


@pytest.fixture(scope="module")
def segments(result: SimulationResult, folder: Path) -> SegmentModel:
    return segment_file.read(folder)


def _table(codes: CodeArray) -> pl.DataFrame:
    """Customers who have these codes; "" is missing, "fax" no level."""
    columns: dict[str, Any] = {"id": [f"p{place}" for place in range(len(codes))]}
    for place, feature in enumerate(STUDY.features):
        kinds = ["web", "shop", "phone", "fax", ""]
        columns[feature.name] = [
            ("" if code < 0 else str(feature.decode(float(code))))
            if isinstance(feature, Numeric)
            else kinds[code]
            for code in codes[:, place]
        ]
    return pl.DataFrame(columns)


def test_customers_are_where_the_study_put_them(
    result: SimulationResult, segments: SegmentModel
) -> None:
    codes = random_codes(STUDY, 6000, seed=5)
    labels, far = segments.assign(codes)
    assert (labels == result.segments.assign(codes)).all()
    assert len(set(labels.tolist())) == STUDY.segmenting.k
    rows = segments.space.expand(codes, segments.fill)
    true = np.linalg.norm(rows - segments.centres[labels], axis=1) / GRID
    assert np.allclose(far, true)


def test_a_result_for_a_purpose_that_the_policy_does_not_allow_is_of_no_use(
    segments: SegmentModel, tmp_path: Path
) -> None:
    """Its file is not signed: whoever wrote another purpose into it would have other consents."""
    (tmp_path / "policy.toml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "source.toml").write_text('path = "rows.parquet"\nid_column = "id"\n')
    _table(random_codes(STUDY, 30)).write_parquet(tmp_path / "rows.parquet")
    assert len(segmenting.assign_home(tmp_path, segments).table) == 30
    other = replace(segments, purpose="marketing")
    with pytest.raises(PolicyError, match="does not allow the purpose 'marketing'"):
        segmenting.assign_home(tmp_path, other)
    with pytest.raises(PolicyError, match="does not allow the purpose 'marketing'"):
        segmenting.explain_home(tmp_path, other, "p7")


def test_the_first_of_two_equal_centres_counts(segments: SegmentModel) -> None:
    twice = SegmentModel(
        segments.purpose,
        segments.legal_basis,
        segments.features,
        segments.names,
        np.stack([segments.centres[0], segments.centres[0], segments.centres[0]]),
        segments.fill,
    )
    labels, _ = twice.assign(random_codes(STUDY, 50))
    assert not labels.any()


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_table_holds_number_name_and_distance(
    segments: SegmentModel, language: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = random_codes(STUDY, 40)
    found = segmenting.assign(segments, _table(codes), "id", language)
    assert found.columns == ["id", *segmenting.COLUMNS]
    labels, far = segments.assign(codes)
    assert found["segment"].to_list() == (labels + 1).tolist()
    assert found["name"].to_list() == [segments.names[label][language] for label in labels]
    assert np.allclose(found["distance"], far, atol=1e-4)
    monkeypatch.setattr(segment_file, "CHUNK", 7)
    assert segmenting.assign(segments, _table(codes), "id", language).equals(found)


def test_an_id_that_is_called_like_a_column_is_told(segments: SegmentModel) -> None:
    table = _table(random_codes(STUDY, 3)).rename({"id": "segment"})
    with pytest.raises(SourceError, match="'segment'"):
        segmenting.assign(segments, table, "segment", "en")


def test_reasons_add_up_to_the_distance_between_segments(segments: SegmentModel) -> None:
    codes = random_codes(STUDY, 200, seed=3)
    parts = segments.parts(codes)
    rows = segments.space.expand(codes, segments.fill)
    for place, centre in enumerate(segments.centres):
        assert (parts[:, place].sum(axis=1) == ((rows - centre) ** 2).sum(axis=1)).all()


def test_one_customer_is_explained(segments: SegmentModel, tmp_path: Path) -> None:
    codes = random_codes(STUDY, 30, seed=4)
    _table(codes).write_csv(tmp_path / "customers.csv")
    (tmp_path / "source.toml").write_text('path = "customers.csv"\nid_column = "id"\n')
    names = [feature.name for feature in STUDY.features]
    policy = POLICY.replace('["age", "balance", "channel"]', json.dumps(names))
    (tmp_path / "policy.toml").write_text(policy)
    found = segmenting.explain_home(tmp_path, segments, " p7 ")
    labels, far = segments.assign(codes)
    assert found.segment == labels[7] + 1
    assert math.isclose(min(found.distances), far[7])
    assert found.distances[found.segment - 1] == min(found.distances)
    assert found.other is not None
    assert sorted(found.distances)[1] == found.distances[found.other - 1]
    assert {name for name, _, _ in found.parts} == set(names)
    assert math.isclose(sum(part for _, _, part in found.parts if part > 0), 1)
    assert sum(part for _, _, part in found.parts) > 0
    values = {name: value for name, value, _ in found.parts}
    kinds = ("web", "shop", "phone", "(unknown)", "(missing)")
    assert values["channel"] == kinds[codes[7, -1]]
    assert not found.objects
    with pytest.raises(SourceError, match="no customer"):
        segmenting.explain_home(tmp_path, segments, "p30")


def test_a_number_beyond_its_bounds_is_told_with_what_is_counted(segments: SegmentModel) -> None:
    table = pl.DataFrame({"id": ["a"], "a": [0.5], "b": [7.0], "c": [""], "income": [1234.4]})
    table = table.with_columns(channel=pl.lit("fax"))
    row = own_row(table, segments.features, "id", "a")
    assert row.values == ("0.5", "7 → 1", "(missing)", "1,234", "(unknown)")


@pytest.mark.parametrize("name", ["no/such/file.csv", ".", "codes.xlsx", "customers.csv"])
def test_a_place_where_no_file_should_go_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "customers.csv").write_text("id\n1\n")
    (tmp_path / "source.toml").write_text('path = "customers.csv"\nid_column = "id"\n')
    require_place(tmp_path, tmp_path / "codes.csv")
    (tmp_path / "codes.csv").write_text("old")
    require_place(tmp_path, tmp_path / "codes.csv")
    with pytest.raises(SourceError):
        require_place(tmp_path, tmp_path / name)
    (tmp_path / "linked.csv").symlink_to(tmp_path / "customers.csv")
    with pytest.raises(SourceError, match="own source"):
        require_place(tmp_path, tmp_path / "linked.csv")


Change = Callable[[dict[str, Any]], Any]


def _at(*path: Any, value: Any) -> Change:
    """A change of one place in the file."""

    def change(plain: dict[str, Any]) -> dict[str, Any]:
        inner: Any = plain
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        return plain

    return change


def _without(name: str) -> Change:
    return lambda plain: {key: value for key, value in plain.items() if key != name}


BREAKS: dict[str, Change] = {
    "a list": lambda plain: [],
    "of an older version": _without("assignment"),
    "without segments": _without("segments"),
    "a segment less": lambda plain: plain | {"segments": plain["segments"][1:]},
    "a centre beyond the bounds": _at("assignment", "centres", 0, 0, value=GRID + 1),
    "a centre below the bounds": _at("assignment", "centres", 0, 0, value=-1),
    "a centre between the steps": _at("assignment", "centres", 0, 0, value=0.5),
    "a centre that is no number": _at("assignment", "centres", 0, 0, value=math.nan),
    "a short centre": _at("assignment", "centres", 0, value=[1, 2]),
    "no centres": _at("assignment", "centres", value=[]),
    "fill beyond the bounds": _at("assignment", "fill", 0, value=GRID + 1),
    "fill of other features": _at("assignment", "fill", value=[0]),
    "a name that steers a terminal": _at("segments", 0, "name", "en", value="a\x1b[2J"),
    "a name in one language": _at("segments", 0, "name", value={"en": "a"}),
    "a purpose of two lines": _at("assignment", "purpose", value="churn\nall is well"),
    "a ground that no law knows": _at("assignment", "legal_basis", value="because"),
    "a feature twice": lambda plain: _at(
        "assignment", "features", 1, value=plain["assignment"]["features"][0]
    )(plain),
    "a feature without bounds": _at(
        "assignment", "features", 0, value={"kind": "numeric", "name": "a"}
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_file_is_refused_with_one_error(
    segments: SegmentModel, folder: Path, tmp_path: Path, kind: str
) -> None:
    plain = json.loads((folder / SEGMENTS).read_bytes())
    (tmp_path / SEGMENTS).write_text(json.dumps(BREAKS[kind](plain)))
    with pytest.raises(ModelError, match="broken"):
        segment_file.read(tmp_path)


def test_a_folder_without_segments_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        segment_file.read(tmp_path)
