"""How long a client takes to import a million consents, and to say who counts in a sum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from kesit_client.consent.gate import Gate
from kesit_client.consent.importing import import_file
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import NEEDED_TERMS
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_simulations.benchmarks.report import Report, Table, Tell, seconds

PURPOSE: Final = "customer-segmentation"


@dataclass(frozen=True)
class Size:
    """Number of persons, and of sums after the first."""

    persons: int = 1_000_000
    sums: int = 5


def run(quick: bool, tell: Tell) -> Report:
    """1,000,000 persons, or 50,000."""
    return measure(Size(50_000) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """One import of a CSV and of a Parquet file, then the gate's filter before several sums.

    Raises:
        KesitError: the disk refuses.
    """
    with tempfile.TemporaryDirectory(prefix="kesit-") as folder:
        place = Path(folder)
        table = consents(size.persons)
        table.write_csv(place / "c.csv")
        table.write_parquet(place / "c.parquet")
        times = {}
        for name in ("c.parquet", "c.csv"):
            tell(f"consent: import of {size.persons:,} rows ({name})")
            home = place / name.replace(".", "-")
            home.mkdir()
            times[name] = seconds(_importing(home, place / name))
        tell("consent: filter")
        gate = Gate(place / "c-parquet", _study())
        keys = gate.pseudonyms(table["pii_principal_id"].to_list())
        rows = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, 16)
        entered: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
        first = seconds(lambda: entered.append(gate.enter(rows)))
        filters = [seconds(lambda: gate.mask("run", entered[0])) for _ in range(size.sums)]
        gate.close()
    middle = sorted(filters)[len(filters) // 2]
    rows_of = (
        ("import, Parquet", f"{times['c.parquet']:.1f}", "60"),
        ("import, CSV", f"{times['c.csv']:.1f}", "60"),
        ("a run begins: all consents are read", f"{first:.1f}", ""),
        (f"filter before a sum (median of {size.sums})", f"{middle:.2f}", "2"),
    )
    report = Table(
        f"{size.persons:,} persons with one consent each",
        ("what", "seconds", "at most"),
        rows_of,
        (1, 2),
    )
    values = {"persons": size.persons, "imports": times, "begin": first, "filters": filters}
    return Report((report,), values)


def consents(persons: int) -> pl.DataFrame:
    """A consent of each of so many persons, as a file has it."""
    ids = pl.int_range(persons, eager=True).cast(pl.String)
    fixed = {
        "purpose": PURPOSE,
        "lawful_basis": "explicit-consent",
        "event_type": "given",
        "event_time": "2025-03-02T10:00:00+03:00",
        "validity_duration": "P20Y",
        "notice_hash": "ab" * 32,
        "consent_text_hash": "cd" * 32,
        "notice_shown_at": "2025-03-02T09:58:00+03:00",
        "collection_channel": "branch",
        **dict.fromkeys(NEEDED_TERMS, "stated"),
    }
    return pl.DataFrame({"pii_principal_id": ids}).select(
        "pii_principal_id",
        record_id=pl.concat_str(pl.lit("r"), "pii_principal_id"),
        event_id=pl.concat_str(pl.lit("click-"), "pii_principal_id"),
        **{name: pl.lit(value) for name, value in fixed.items()},
    )


def _importing(home: Path, file: Path) -> Callable[[], object]:
    def work() -> object:
        with closing(ConsentStore.open(home)) as store:
            return import_file(store, file, purposes=(PURPOSE,))

    return work


def _study() -> Study:
    return study_from_tables(
        {
            "name": "bench",
            "purpose": PURPOSE,
            "legal_basis": "explicit-consent",
            "epsilon": 1.0,
            "delta": 1e-8,
            "declared_customers": 1_000_000,
            "segmentation": {"k": 3},
            "features": [{"kind": "numeric", "name": "x", "lower": 0.0, "upper": 1.0}],
        }
    )
