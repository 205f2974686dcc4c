"""Sources and the cache: the same customers give the same codes from wherever they come, and what
cannot be read says so to its owner, with a remedy and without a password."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
import pytest
import sqlalchemy

from classifierkit import churn_frame, churn_study
from kesit_client.errors import SourceError
from kesit_client.node import Node
from kesit_client.rows import cache
from kesit_client.rows.cache import CachedRows
from kesit_client.rows.coding import encode
from kesit_client.rows.sources import FileSource, FrameSource, Source, SqlSource
from kesit_privacy.features import GRID
from kesit_privacy.hello import HelloRequest
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode, refusal
from kit import SERVER, broken, random_codes, small_nodes, small_study

FEATURES: list[dict[str, Any]] = [
    {
        "kind": "numeric",
        "name": "gelir",
        "lower": 0.0,
        "upper": 1e6,
        "transform": "signed-log",
    },
    {"kind": "numeric", "name": "yaş", "lower": 18.0, "upper": 90.0},
    {"kind": "categorical", "name": "şehir", "levels": ["İstanbul", "Iğdır", "Çankırı"]},
]
NAMES = ["gelir", "yaş", "şehir"]

CUSTOMERS = pl.DataFrame(
    {
        "müşteri": [101, 102, 103, 104, 105, 106],
        "telefon": ["1", "2", "3", "4", "5", "6"],
        "gelir": [0.1, 17_002.25, None, 1e6, 3.5e7, -0.0],
        "yaş": [18, 90, 45, None, 17, 33],
        "şehir": ["İstanbul", "Iğdır", "Çankırı", "istanbul", None, "Ankara"],
    }
)


@pytest.fixture
def study() -> Study:
    return small_study(features=FEATURES, segmentation={"k": 2})


def write_csv(folder: Path) -> Source:
    CUSTOMERS.write_csv(folder / "customers.csv")
    return FileSource(folder / "customers.csv", "müşteri")


def write_tsv(folder: Path) -> Source:
    CUSTOMERS.write_csv(folder / "customers.TSV", separator="\t")
    return FileSource(folder / "customers.TSV", "müşteri")


def write_csv_with_mark(folder: Path) -> Source:
    """As a spreadsheet writes it: a byte order mark, quotes, CRLF."""
    CUSTOMERS.write_csv(
        folder / "customers.txt", include_bom=True, quote_style="always", line_terminator="\r\n"
    )
    return FileSource(folder / "customers.txt", "müşteri")


def write_parquet(folder: Path) -> Source:
    CUSTOMERS.write_parquet(folder / "customers.parquet")
    return FileSource(folder / "customers.parquet", "müşteri")


def write_database(folder: Path) -> Source:
    connection = sqlite3.connect(folder / "customers.db")
    connection.execute(
        "CREATE TABLE customer (müşteri INTEGER, telefon TEXT, gelir REAL, yaş INTEGER, şehir TEXT)"
    )
    connection.executemany("INSERT INTO customer VALUES (?, ?, ?, ?, ?)", CUSTOMERS.rows())
    connection.commit()
    connection.close()
    query = "SELECT * FROM customer WHERE müşteri > 0 ORDER BY müşteri"
    return SqlSource(f"sqlite:///{folder / 'customers.db'}", query, "müşteri")


def in_memory(folder: Path) -> Source:
    return FrameSource(CUSTOMERS, "müşteri")


WRITERS = [write_csv, write_tsv, write_csv_with_mark, write_parquet, write_database, in_memory]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_customers_have_the_same_codes_everywhere(
    tmp_path: Path, study: Study, write: Any
) -> None:
    source = write(tmp_path)
    table = source.read(NAMES)
    assert table.columns == ["müşteri", *NAMES]  # and nothing else: no telephone number
    codes = encode(table, study, "müşteri")
    expected = np.array(
        [
            [codes[0, 0], 0, 0],
            [codes[1, 0], GRID, 1],
            [-1, round(27 / 72 * GRID), 2],
            [GRID, -1, 3],
            [GRID, 0, 4],
            [0, round(15 / 72 * GRID), 3],
        ]
    )
    assert (codes == expected).all()
    assert 0 < codes[0, 0] < codes[1, 0] < GRID


@pytest.mark.parametrize("write", WRITERS)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, write: Any) -> None:
    with pytest.raises(SourceError, match=r"no column 'maaş'.* gelir, yaş, şehir"):
        write(tmp_path).read(["gelir", "maaş"])


@pytest.mark.parametrize("name", ["missing.csv", "missing.parquet", "missing.tsv"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    source = FileSource(tmp_path / name, "id")
    with pytest.raises(SourceError, match=rf"{name}: cannot be read \(No such file") as error:
        source.read(["x"])
    broken(error)
    with pytest.raises(SourceError, match=rf"{name}: cannot be read \(No such file") as error:
        source.fingerprint()
    broken(error)


SPOILT: dict[str, tuple[str, bytes, str]] = {
    "another encoding": (
        "customers.csv",
        "id,x\n1,İstanbul\n".encode("cp1254"),
        r"cannot be read \(invalid utf-8.*UTF-8 CSV",
    ),
    "an empty file": ("customers.csv", b"", r"cannot be read \(empty"),
    "rows of another length": ("customers.csv", b"id,x\n1,2,3\n", "cannot be read"),
    "an open quote": ("customers.csv", b'id,x\n1,"2\n', "cannot be read"),
    "another separator": ("customers.csv", b"id;x\n1;2\n", "parted by semicolons"),
    "no Parquet": ("customers.parquet", b"id,x\n1,2\n", r"cannot be read \(parquet"),
    "an unknown format": ("customers.xlsx", b"PK", "unknown format.*parquet"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    name, data, message = SPOILT[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message) as error:
        FileSource(tmp_path / name, "id").read(["x"])
    broken(error)
    assert name in error.value.cause


def test_a_file_without_permission() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "customers.csv"
        path.write_text("id,x\n1,2\n")
        path.chmod(0)
        Path(folder).chmod(0o755)
        privileged = os.geteuid() == 0
        if privileged:  # the superuser reads everything
            os.seteuid(65534)
        try:
            with pytest.raises(SourceError, match="Permission denied"):
                FileSource(path, "id").read(["x"])
        finally:
            if privileged:
                os.seteuid(0)


def test_a_name_is_a_name_and_no_pattern(tmp_path: Path) -> None:
    """Brackets and stars in a path mean themselves."""
    (tmp_path / "customers[1].csv").write_text("id,x\n1,2\n")
    (tmp_path / "customers1.csv").write_text("id,x\n9,9\n")
    assert FileSource(tmp_path / "customers[1].csv", "id").read(["x"]).rows() == [("1", "2")]
    with pytest.raises(SourceError, match="cannot be read"):
        FileSource(tmp_path / "*.csv", "id").read(["x"])


def test_null_values_of_the_owner_s_choice(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,x\n1,\n2,NA\n3,-99\n4,5\n")
    source = FileSource(tmp_path / "a.csv", "id", ("", "NA", "-99"))
    assert source.read(["x"])["x"].to_list() == [None, None, None, "5"]


# Databases.


def database(tmp_path: Path, rows: Sequence[tuple[Any, ...]]) -> str:
    """URL of a database with a table t(id, x), whose columns take any type."""
    connection = sqlite3.connect(tmp_path / "any.db")
    connection.execute("CREATE TABLE t (id, x)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{tmp_path / 'any.db'}"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM nowhere",
        "SELEC * FROM t",
        "",
        "CREATE TABLE u (id)",
        "SELECT :later AS id",
        "SELECT 1; SELECT 2",
    ],
)
def test_a_query_that_fails(tmp_path: Path, query: str) -> None:
    url = database(tmp_path, [(1, 2)])
    with pytest.raises(SourceError, match=r"query failed \(\w+\)") as error:
        SqlSource(url, query, "id").read(["x"])
    broken(error)


def test_a_query_that_yields_a_column_twice(tmp_path: Path) -> None:
    url = database(tmp_path, [(1, 2)])
    with pytest.raises(SourceError, match="several columns 'x'"):
        SqlSource(url, "SELECT id, x, id AS x FROM t", "id").read(["x"])


def test_a_query_without_rows(tmp_path: Path) -> None:
    table = SqlSource(database(tmp_path, []), "SELECT * FROM t", "id").read(["x"])
    assert table.columns == ["id", "x"]
    assert len(table) == 0


def test_no_row_changes_how_another_is_read(tmp_path: Path, study: Study) -> None:
    """Databases with loose types: a column's type would be a guess from all of its rows."""
    values = [1, 0.5, "Iğdır", None, b"\xff", 2**62, "1", float("inf"), 1.0]
    url = database(tmp_path, list(enumerate(values)))
    whole = SqlSource(url, "SELECT * FROM t", "id").read(["x"])["x"].to_list()
    alone = [
        SqlSource(url, f"SELECT * FROM t WHERE id = {row}", "id").read(["x"])["x"][0]
        for row in range(len(values))
    ]
    assert whole == alone
    assert whole[:4] == ["1", "0.5", "Iğdır", None]


PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"postgresql+nodriver://u:{PASSWORD}@h/db", "NoSuchModuleError"),
        (f"mssql+pymssql://u:{PASSWORD}@h/db", "ModuleNotFoundError"),
        (f"postgresql://u:{PASSWORD}@h:port/db", ""),
        (f"no url at all {PASSWORD}", "ArgumentError"),
        (f"sqlite:////nowhere/{PASSWORD}.db", "OperationalError"),
    ],
)
def test_a_database_that_cannot_be_reached_keeps_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "pymssql", None)  # as if it were not installed
    source = SqlSource(url, "SELECT 1 AS id", "id")
    with pytest.raises(SourceError, match=rf"query failed \({reason}.*driver") as error:
        source.read(["x"])
    broken(error)
    shown = "".join(traceback.format_exception(error.value)) + repr(source) + str(source)
    assert PASSWORD not in shown


def test_a_driver_that_tells_the_url_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(url: str) -> None:
        raise RuntimeError(f"could not connect to {url}")

    monkeypatch.setattr(sqlalchemy, "create_engine", connect)
    with pytest.raises(SourceError, match="RuntimeError") as error:
        SqlSource(f"db://u:{PASSWORD}@h", "SELECT 1", "id").read([])
    assert PASSWORD not in "".join(traceback.format_exception(error.value))


# The cache.


@dataclass
class Counting:
    """A source that counts how often it is read."""

    inner: Source
    reads: int = 0
    id_column: str = field(default="müşteri")

    def read(self, features: Sequence[str], *, total: bool = False) -> pl.DataFrame:
        self.reads += 1
        return self.inner.read(features, total=total)

    def fingerprint(self) -> str | None:
        return self.inner.fingerprint()


def caches(folder: Path) -> list[str]:
    """Names of all files in a cache."""
    return sorted(path.name for path in folder.iterdir() if "-run-" not in path.name)


def test_a_file_is_coded_once_for_all_runs(tmp_path: Path, study: Study) -> None:
    source = Counting(write_csv(tmp_path))
    rows = CachedRows(source, study, tmp_path / "cache")
    rows.prepare("run-1")
    for run in ("run-1", "run-1", "run-2"):
        codes = rows.codes(run)
        assert (codes == encode(CUSTOMERS, study, "müşteri")).all()
    rows.prepare("run-2")
    assert source.reads == 1
    assert len(caches(tmp_path / "cache")) == 1


def test_a_query_is_coded_once_a_run(tmp_path: Path, study: Study) -> None:
    source = Counting(write_database(tmp_path))
    rows = CachedRows(source, study, tmp_path / "cache")
    for run, reads in (("run-1", 1), ("run-1", 1), ("run-2", 2), ("run-2", 2)):
        rows.prepare(run)
        assert (rows.codes(run) == encode(CUSTOMERS, study, "müşteri")).all()
        assert source.reads == reads
    assert len(caches(tmp_path / "cache")) == 1


def test_codes_are_a_read_only_memory_map(tmp_path: Path, study: Study) -> None:
    rows = CachedRows(write_parquet(tmp_path), study, tmp_path / "cache")
    codes = rows.codes("run")
    assert isinstance(codes, np.memmap)
    assert codes.dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        codes[0, 0] = 5


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_changed_file_is_coded_anew(tmp_path: Path, study: Study, write: Any) -> None:
    source = write(tmp_path)
    rows = CachedRows(source, study, tmp_path / "cache")
    before = np.array(rows.codes("run-1"))
    (first,) = caches(tmp_path / "cache")
    fewer = CUSTOMERS.head(4)
    if write is write_csv:
        fewer.write_csv(source.path)
    else:
        fewer.write_parquet(source.path)
    after = rows.codes("run-2")
    assert len(before) == 6
    assert len(after) == 4
    (second,) = caches(tmp_path / "cache")  # the old codes are gone
    assert first != second


def test_same_size_same_name_is_still_another_file(tmp_path: Path, study: Study) -> None:
    path = tmp_path / "a.csv"
    path.write_text("müşteri,gelir,yaş,şehir\n1,5,20,Iğdır\n")
    rows = CachedRows(FileSource(path, "müşteri"), study, tmp_path / "cache")
    assert rows.codes("run")[0, 2] == 1
    (tmp_path / "b.csv").write_text("müşteri,gelir,yaş,şehir\n1,5,20,unknown\n")
    assert (tmp_path / "b.csv").stat().st_size == path.stat().st_size
    os.replace(tmp_path / "b.csv", path)
    assert rows.codes("next run")[0, 2] == 3
    assert rows.codes("run")[0, 2] == 1  # a run keeps the rows with which it began


def test_a_study_has_a_cache_of_its_own(tmp_path: Path, study: Study) -> None:
    source = write_csv(tmp_path)
    other = small_study(features=FEATURES[:2], segmentation={"k": 2})
    for each in (study, other):
        CachedRows(source, each, tmp_path / "cache").prepare("run")
    assert len(caches(tmp_path / "cache")) == 2
    assert CachedRows(source, study, tmp_path / "cache").codes("run").shape == (6, 3)
    assert CachedRows(source, other, tmp_path / "cache").codes("run").shape == (6, 2)


def test_another_id_column_is_another_cache(tmp_path: Path, study: Study) -> None:
    """Which rows are one customer depends on it."""
    doubled = CUSTOMERS.with_columns(telefon=pl.lit("same"))
    doubled.write_csv(tmp_path / "a.csv")
    sizes = [
        len(CachedRows(FileSource(tmp_path / "a.csv", name), study, tmp_path / "c").codes("run"))
        for name in ("müşteri", "telefon")
    ]
    assert sizes == [6, 1]


@pytest.mark.parametrize("written", [0, 100])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    rows = CachedRows(write_csv(tmp_path), study, tmp_path / "cache")

    def full(file: BinaryIO, codes: object) -> None:
        file.write(b"x" * written)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(cache.np, "save", full)
        with pytest.raises(SourceError, match=r"No space left on device.*Free some space"):
            rows.prepare("run")
    assert caches(tmp_path / "cache") == []
    assert (rows.codes("run") == encode(CUSTOMERS, study, "müşteri")).all()


def test_an_interrupted_write_is_never_read(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends the writing before the move, the cache's name is not taken."""
    rows = CachedRows(write_csv(tmp_path), study, tmp_path / "cache")

    def interrupted(path: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rows.prepare("run")
    assert not any(name.endswith(".npy") for name in caches(tmp_path / "cache"))


def test_a_folder_that_cannot_be_made(tmp_path: Path, study: Study) -> None:
    (tmp_path / "cache").write_text("in the way")
    rows = CachedRows(write_csv(tmp_path), study, tmp_path / "cache")
    with pytest.raises(SourceError, match="cache cannot be written"):
        rows.prepare("run")


def test_a_client_without_customers_has_a_cache_too(tmp_path: Path, study: Study) -> None:
    (tmp_path / "a.csv").write_text("müşteri,gelir,yaş,şehir\n")
    rows = CachedRows(FileSource(tmp_path / "a.csv", "müşteri"), study, tmp_path / "cache")
    assert rows.codes("run").shape == (0, 3)


# A node whose source fails: a code leaves, the cause stays.


def test_a_node_without_its_source_is_unavailable(tmp_path: Path) -> None:
    study = small_study()
    node: Node = small_nodes(study, random_codes(study, 12))[0]
    source = FileSource(tmp_path / "secret-name.csv", "id")
    node.rows = lambda study: CachedRows(source, study, tmp_path / "cache")
    request = HelloRequest(study.hash, "a" * 32, SERVER.public).encoded
    assert node.hello(request) == refusal(RefusalCode.UNAVAILABLE)
    with node.store.transaction() as books:
        ((_, code, cause),) = books.refusals()
        assert books.run("a" * 32) is None
    assert code == RefusalCode.UNAVAILABLE
    assert "secret-name.csv" in cause
    (tmp_path / "secret-name.csv").write_text("id,x,y\n1,0.5,0.5\n")
    assert node.hello(request)[:1] == bytes([RefusalCode.OK])


def test_rows_that_are_old_serve_a_new_run(tmp_path: Path, study: Study) -> None:
    """The source did not change for longer than runs live; the run's own rows are not tidied."""
    rows = CachedRows(write_csv(tmp_path), study, tmp_path / "cache")
    rows.prepare("run-1")
    for path in (tmp_path / "cache").iterdir():
        os.utime(path, (0, 0))
    rows.prepare("run-2")
    (tmp_path / "a.csv").unlink(missing_ok=True)
    assert len(rows.codes("run-2")) == len(CUSTOMERS)


def test_a_classifier_s_run_never_reads_ids_twice(tmp_path: Path) -> None:
    """With another id column, or with new ids, its customers would change sides within the run."""
    frame = churn_frame(50).with_columns(pl.Series("new", [f"n{place}" for place in range(50)]))
    frame.write_csv(tmp_path / "a.csv")
    study, folder = churn_study(), tmp_path / "cache"
    rows = CachedRows(FileSource(tmp_path / "a.csv", "id"), study, folder)
    rows.prepare("run")
    assert (rows.codes("run") == encode(frame, study, "id")).all()
    other = CachedRows(FileSource(tmp_path / "a.csv", "new"), study, folder)
    with pytest.raises(SourceError, match="rows with which the run began are gone"):
        other.codes("run")
    rows.release("run")
    with pytest.raises(SourceError, match="rows with which the run began are gone"):
        rows.codes("run")
