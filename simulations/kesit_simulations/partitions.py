"""Splitting one table's rows among simulated clients.

Every partitioner returns one array of row indices per client. The arrays are sorted, disjoint, and
together hold each of `0..n-1` exactly once. Nothing here keeps state: the same arguments and a
generator in the same state give the same partition.

`iid` is the friendly case, `quantity_skew` makes clients differ in size only, `dirichlet_labels`
makes them differ in what their customers are like, and `by_column` follows a boundary that the
data already has (a country, a branch).

Sources:
    * Yurochkin et al., "Bayesian nonparametric federated learning of neural networks", ICML 2019:
      for each label, the clients' shares of it are one draw from a symmetric Dirichlet.
    * Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated
      visual classification", arXiv:1909.06335, 2019: alpha as the dial of label skew.
    * Li et al., "Federated learning on non-IID data silos: an experimental study", ICDE 2022:
      quantity skew, with clients' sizes from a symmetric Dirichlet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from kesit_simulations.errors import SimulationError

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = Sequence[Any] | npt.NDArray[Any] | pl.Series

MISSING = "(missing)"
"""Name of the client that `by_column` gives to rows whose value is null."""


def iid(n: int, clients: int, rng: np.random.Generator) -> list[IntArray]:
    """Deal the rows out at random, in sizes that differ by one at most.

    Args:
        n: number of rows.
        clients: number of clients, from 1 to `n`.
        rng: source of randomness; its state advances.

    Returns:
        `clients` arrays of sorted row indices, none empty.

    Raises:
        SimulationError: `clients` is below 1 or above `n`.
    """
    _check_clients(clients)
    _check_rows(n, clients)
    sizes = np.full(clients, n // clients, dtype=np.int64)
    sizes[: n % clients] += 1
    return _deal(rng.permutation(n), sizes)


def dirichlet_labels(
    labels: Values, clients: int, alpha: float, rng: np.random.Generator
) -> list[IntArray]:
    """Give each client its own mix of labels (label skew).

    For every label a vector of client shares is drawn from Dirichlet(alpha, ..., alpha), and the
    label's rows, in random order, are divided by those shares (Yurochkin et al. 2019; the use of
    alpha as the measure of skew is that of Hsu et al. 2019, who draw a mix of labels per client
    instead). A small alpha, such as 0.1, leaves most of a label with one client; a large one, such
    as 100, approaches `iid`. With a small alpha a client may end up with no rows at all.

    Args:
        labels: shape (n,), any levels that can be written as text; nulls and NaNs count as one
            more label.
        clients: number of clients, at least 1.
        alpha: concentration of the Dirichlet distribution, above 0.
        rng: source of randomness; its state advances.

    Returns:
        `clients` arrays of sorted row indices, some of which may be empty.

    Raises:
        SimulationError: `clients` is below 1, `alpha` is not a positive finite number, or `labels`
            is empty or not one-dimensional.
    """
    _check_clients(clients)
    _check_alpha(alpha)
    _, groups = _group_rows(labels, "labels")
    shares: list[list[IntArray]] = [[] for _ in range(clients)]
    for rows in groups:
        sizes = _apportion(rows.size, _draw_proportions(clients, alpha, rng))
        for share, part in zip(shares, _deal(rng.permutation(rows), sizes), strict=True):
            share.append(part)
    return [np.sort(np.concatenate(share)) for share in shares]


def quantity_skew(n: int, clients: int, alpha: float, rng: np.random.Generator) -> list[IntArray]:
    """Deal the rows out at random, in unequal sizes (quantity skew).

    Each client first gets one row; the other `n - clients` are divided by one draw from
    Dirichlet(alpha, ..., alpha), so that no client is empty however small alpha is (Li et al. 2022,
    apart from that first row).

    Args:
        n: number of rows.
        clients: number of clients, from 1 to `n`.
        alpha: concentration of the Dirichlet distribution, above 0; smaller is more unequal.
        rng: source of randomness; its state advances.

    Returns:
        `clients` arrays of sorted row indices, none empty.

    Raises:
        SimulationError: `clients` is below 1 or above `n`, or `alpha` is not a positive finite
            number.
    """
    _check_clients(clients)
    _check_rows(n, clients)
    _check_alpha(alpha)
    sizes = 1 + _apportion(n - clients, _draw_proportions(clients, alpha, rng))
    return _deal(rng.permutation(n), sizes)


def by_column(values: Values) -> tuple[list[str], list[IntArray]]:
    """Make one client of every distinct value of a column.

    Args:
        values: shape (n,), any levels that can be written as text.

    Returns:
        The clients' names in sorted order, and for each the sorted indices of its rows. Rows with
        a null (or NaN) belong to the client "(missing)".

    Raises:
        SimulationError: `values` is empty or not one-dimensional, or holds both nulls and the text
            "(missing)".
    """
    return _group_rows(values, "values")


def _deal(order: IntArray, sizes: IntArray) -> list[IntArray]:
    """Cut `order` into consecutive runs of the given sizes, and sort each run."""
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def _apportion(total: int, proportions: FloatArray) -> IntArray:
    """Whole numbers that add up to `total`, nearest to `total * proportions` (largest remainder).

    Rounding each share alone would miss the total by up to half a row per client.
    """
    exact = total * proportions
    sizes = np.floor(exact).astype(np.int64)
    short = total - int(sizes.sum())
    largest = np.argsort(sizes - exact, kind="stable")[:short]
    sizes[largest] += 1
    return sizes


def _draw_proportions(clients: int, alpha: float, rng: np.random.Generator) -> FloatArray:
    proportions = rng.dirichlet(np.full(clients, alpha))
    if not np.isclose(proportions.sum(), 1.0):  # under- or overflow inside the draw; also nan
        raise SimulationError(
            f"alpha = {alpha} is beyond what a Dirichlet draw can represent.",
            remedy="Use an alpha between 1e-3 and 1e6.",
        )
    return proportions


def _group_rows(values: Values, name: str) -> tuple[list[str], list[IntArray]]:
    """Sorted distinct values as text, and the sorted rows of each."""
    series = _as_series(values, name)
    if series.is_empty():
        raise SimulationError(f"`{name}` is empty.", remedy="Pass one value per row.")
    if series.dtype.is_nested() or series.dtype == pl.Object:
        raise SimulationError(
            f"`{name}` has type {series.dtype}, which cannot name clients.",
            remedy="Pass texts, numbers, dates or categories.",
        )
    text = series.cast(pl.String)
    if text.null_count() and bool((text == MISSING).any()):
        raise SimulationError(
            f'`{name}` holds both nulls and the text "{MISSING}", which names the nulls.',
            remedy="Rename that level, or fill the nulls.",
        )
    levels, codes = np.unique(
        text.fill_null(MISSING).to_numpy().astype(np.str_), return_inverse=True
    )
    # A stable sort keeps the rows of one level in ascending order.
    order = np.argsort(codes, kind="stable").astype(np.int64)
    sizes = np.bincount(codes, minlength=levels.size)
    return [str(level) for level in levels], np.split(order, np.cumsum(sizes)[:-1])


def _as_series(values: Values, name: str) -> pl.Series:
    if not isinstance(values, pl.Series):
        # Numpy would turn a None or NaN among a list's texts into text; objects keep them apart.
        array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
        if array.ndim != 1:
            raise SimulationError(
                f"`{name}` has {array.ndim} dimensions.",
                remedy="Pass one value per row, shape (n,).",
            )
        if array.dtype == object:
            return pl.Series(name, [_as_text(item) for item in array], dtype=pl.String)
        values = pl.Series(name, array)
    return values.fill_nan(None) if values.dtype.is_float() else values


def _as_text(item: object) -> str | None:
    missing = item is None or (isinstance(item, float) and math.isnan(item))
    return None if missing else str(item)


def _check_clients(clients: int) -> None:
    if clients < 1:
        raise SimulationError(
            f"clients = {clients}, but a partition needs one client at least.",
            remedy="Set clients to 1 or more.",
        )


def _check_rows(n: int, clients: int) -> None:
    if clients > n:
        raise SimulationError(
            f"clients = {clients} is more than the {n} rows there are to deal out.",
            remedy=f"Use at most {max(n, 1)} clients, or more rows.",
        )


def _check_alpha(alpha: float) -> None:
    if not (math.isfinite(alpha) and alpha > 0):
        raise SimulationError(
            f"alpha = {alpha}, but a Dirichlet concentration is a positive finite number.",
            remedy="Use, for example, 0.1 for strong skew or 100 for almost none.",
        )
