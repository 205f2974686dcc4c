"""The description of a source in a node's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kesit_client.errors import SourceError
from kesit_client.home import read_source
from kesit_client.rows.sources import FileSource, SqlSource
from kit import broken


def test_sources_are_described_in_toml(tmp_path: Path) -> None:
    place = tmp_path / "source.toml"
    place.write_text('path = "data/a.csv"\nid_column = "id"\nnull_values = ["", "NA"]\n')
    assert read_source(place) == FileSource(tmp_path / "data/a.csv", "id", ("", "NA"))
    place.write_text('path = "/data/a.csv"\nid_column = "id"\n')
    assert read_source(place) == FileSource(Path("/data/a.csv"), "id")
    place.write_text('url = "sqlite://"\nquery = "SELECT 1"\nid_column = "id"\n')
    assert read_source(place) == SqlSource("sqlite://", "SELECT 1", "id")


@pytest.mark.parametrize(
    "text",
    [
        "",
        'path = "a.csv"\n',
        'path = 5\nid_column = "id"\n',
        'path = "a.csv"\nid_column = "id"\nurl = "sqlite://"\n',
        'url = "sqlite://"\nid_column = "id"\n',
        'path = "a.csv"\nid_column = "id"\nnull_values = "NA"\n',
        'path = "a.csv"\nid_column = "id"\nnull_valeus = ["NA"]\n',
        "path = ",
        "path = 'ÿ'",
    ],
)
def test_a_description_that_describes_nothing(tmp_path: Path, text: str) -> None:
    place = tmp_path / "source.toml"
    place.write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"source\.toml") as error:
        read_source(place)
    broken(error)


def test_a_description_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.toml: cannot be read"):
        read_source(tmp_path / "source.toml")
