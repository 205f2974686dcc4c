"""Real processes over TLS on this machine: Kesit's study beside plain Flower's rounds, and SecAgg+.

Three sides, one after the other in the same run, for processes that wait would disturb each other:
a whole study, as many rounds of empty messages over Flower's own processes, and as many sums by
Flower's own secure aggregation. Starting processes is left out on all sides. Everything stays on
loopback, and everything that was started ends with the benchmark, however it ends.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kesit_simulations.benchmarks import deployed_study, flower_plain, flower_secagg
from kesit_simulations.benchmarks.deployed_study import KesitTimes
from kesit_simulations.benchmarks.report import Report, Table, Tell, time_table, times
from kesit_simulations.benchmarks.stock_flower import StockFlower
from kesit_simulations.benchmarks.tether import tethered

ROUND_LIMIT, SUM_LIMIT = 60.0, 180.0
"""Longest wait for one of Flower's rounds and sums, in seconds."""

SHARE_OF_PLAIN, SHARE_OF_SECAGG = 2, 6
"""A study is to take at most this fraction of plain Flower's and of SecAgg+'s time."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        studies: of `customers` over `nodes` members.
        empty: rounds of an empty message over Kesit's nodes.
        plain, sums: rounds of plain Flower and sums of SecAgg+; 0 for as many as a study has.
            With fewer, a study's number of them is reckoned from the median.
    """

    nodes: int = 5
    customers: int = 10_000
    studies: int = 3
    empty: int = 20
    plain: int = 0
    sums: int = 0


@dataclass(frozen=True)
class FlowerTimes:
    """Seconds of each round of plain Flower and of each SecAgg+ sum, and the sums' bytes."""

    rounds: tuple[float, ...]
    sums: tuple[float, ...]
    sent: int
    received: int


def run(quick: bool, tell: Tell) -> Report:
    """Five members; two to three minutes if it is to be quick, six otherwise."""
    return measure(Size(studies=1, empty=5, plain=2, sums=1) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Run the three sides.

    Raises:
        KesitError: a process does not start or does not answer; the end of its log is shown.
    """
    with tempfile.TemporaryDirectory(prefix="kesit-") as folder, tethered():
        place = Path(folder)
        kesit = deployed_study.measure(
            place / "kesit", size.nodes, size.customers, size.studies, size.empty, tell
        )
        flower = _flower(place / "flower", size, kesit, tell)
    return _report(size, kesit, flower)


def _flower(folder: Path, size: Size, kesit: KesitTimes, tell: Tell) -> FlowerTimes:
    rounds, sums = size.plain or kesit.messages, size.sums or len(kesit.lengths)
    tell(f"deployment: starting Flower's server and {size.nodes} nodes")
    with StockFlower(folder, size.nodes) as stock:
        stock.start()
        tell(f"deployment: {rounds} rounds of plain Flower")
        plain = stock.run(flower_plain, rounds, 120 + rounds * ROUND_LIMIT)
        tell(f"deployment: {sums} sums of Flower's SecAgg+")
        length = round(statistics.mean(kesit.lengths))
        secure = stock.run(flower_secagg, sums, 120 + sums * SUM_LIMIT, length)
    return FlowerTimes(
        tuple(plain["rounds"]), tuple(secure["rounds"]), secure["sent"], secure["received"]
    )


def _report(size: Size, kesit: KesitTimes, flower: FlowerTimes) -> Report:
    messages, sums = kesit.messages, len(kesit.lengths)
    plain = _whole(flower.rounds, messages)
    secagg = _whole(flower.sums, sums)
    studies = [run.messages_seconds for run in kesit.studies]
    rounds = [seconds for run in kesit.studies for seconds in run.rounds]
    whole = time_table(
        f"A study over {size.nodes} members with {size.customers:,} customers: "
        f"{messages} messages a client, {sums} sums",
        [
            times("Kesit's whole study, hello to end", studies, "s"),
            times(f"plain Flower, {messages} empty rounds{_reckoned(size.plain)}", [plain], "s"),
            times(
                f"ratio (at most {1 / SHARE_OF_PLAIN:.3f})",
                [seconds / plain for seconds in studies],
                "x",
            ),
            times(f"Flower's SecAgg+, {sums} sums{_reckoned(size.sums)}", [secagg], "s"),
            times(
                f"ratio (at most {1 / SHARE_OF_SECAGG:.3f})",
                [seconds / secagg for seconds in studies],
                "x",
            ),
            times(
                "after Kesit's study: portrait and files",
                [run.portrait_seconds for run in kesit.studies],
                "s",
            ),
        ],
    )
    single = time_table(
        "One at a time",
        [
            times("Kesit, a round of a study", rounds, "s"),
            times("Kesit, a round of an empty message", kesit.empty, "s"),
            times("plain Flower, a round of an empty message", flower.rounds, "s"),
            times("Flower's SecAgg+, a sum", flower.sums, "s"),
        ],
    )
    values = {
        **asdict(size),
        "kesit": asdict(kesit),
        "flower": asdict(flower),
        "messages": messages,
        "ratio_to_plain": kesit.seconds / plain,
        "ratio_to_secagg": kesit.seconds / secagg,
    }
    return Report((whole, single, _bytes(size, kesit, flower)), values, _notes(kesit))


def _whole(each: Sequence[float], count: int) -> float:
    """Seconds of `count`: what was measured, or reckoned from the median of what was."""
    return sum(each) if len(each) == count else statistics.median(each) * count


def _reckoned(fewer: int) -> str:
    return f" (reckoned from {fewer})" if fewer else ""


def _bytes(size: Size, kesit: KesitTimes, flower: FlowerTimes) -> Table:
    study, sums = kesit.studies[0], len(kesit.lengths)
    share = sums / len(flower.sums) / size.nodes

    def row(name: str, to_client: float, from_client: float) -> tuple[str, str, str]:
        return name, f"{to_client / 1000:.1f}", f"{from_client / 1000:.1f}"

    return Table(
        "Kilobytes of messages a client",
        ("", "to it", "from it"),
        (
            row("Kesit's whole study", study.sent / size.nodes, study.received / size.nodes),
            row(f"Flower's SecAgg+, {sums} sums", flower.sent * share, flower.received * share),
        ),
        (1, 2),
    )


def _notes(kesit: KesitTimes) -> tuple[str, ...]:
    lengths = ", ".join(f"{length:,}" for length in kesit.lengths)
    mean = round(statistics.mean(kesit.lengths))
    return (
        "Both federations: TLS, a SQLite database and authenticated nodes, all on this machine. "
        "Starting processes is left out; what Kesit's members and server compute is not. Flower's "
        "clients compute nothing.",
        f"Kesit's sums have {lengths} numbers; each of SecAgg+'s has {mean:,}.",
    )
