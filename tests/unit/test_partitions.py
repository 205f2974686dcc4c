"""Partitions: every row goes to exactly one client, in the shape that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_simulations.errors import SimulationError
from kesit_simulations.partitions import (
    IntArray,
    Values,
    by_column,
    dirichlet_labels,
    iid,
    quantity_skew,
)

seeds = st.integers(0, 2**32)
alphas = st.floats(1e-3, 1e6)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_partition(parts: list[IntArray], n: int) -> None:
    assert all(part.dtype == np.int64 and part.ndim == 1 for part in parts)
    assert all((np.diff(part) > 0).all() for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@given(st.data(), st.integers(1, 200), seeds)
@settings(max_examples=40, deadline=None)
def test_iid_covers_all_rows_in_even_sizes(data: st.DataObject, n: int, seed: int) -> None:
    clients = data.draw(st.integers(1, n))
    parts = iid(n, clients, rng(seed))
    sizes = [part.size for part in parts]
    assert len(parts) == clients
    assert max(sizes) - min(sizes) <= 1
    assert_partition(parts, n)


@given(st.data(), st.integers(1, 200), alphas, seeds)
@settings(max_examples=40, deadline=None)
def test_quantity_skew_covers_all_rows_and_leaves_nobody_empty(
    data: st.DataObject, n: int, alpha: float, seed: int
) -> None:
    clients = data.draw(st.integers(1, n))
    parts = quantity_skew(n, clients, alpha, rng(seed))
    assert len(parts) == clients
    assert min(part.size for part in parts) >= 1
    assert_partition(parts, n)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(1, 12), alphas, seeds)
@settings(max_examples=40, deadline=None)
def test_dirichlet_labels_covers_all_rows(
    labels: list[int], clients: int, alpha: float, seed: int
) -> None:
    parts = dirichlet_labels(labels, clients, alpha, rng(seed))
    assert len(parts) == clients
    assert_partition(parts, len(labels))


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=100))
@settings(max_examples=40, deadline=None)
def test_by_column_gives_each_value_its_rows(values: list[str | None]) -> None:
    names, parts = by_column(values)
    assert names == sorted({"(missing)" if v is None else v for v in values})
    assert_partition(parts, len(values))
    for name, part in zip(names, parts, strict=True):
        assert {values[i] or "(missing)" for i in part} == {name}


@pytest.mark.parametrize(
    "split",
    [
        lambda g: iid(100, 7, g),
        lambda g: quantity_skew(100, 7, 0.5, g),
        lambda g: dirichlet_labels(np.arange(100) % 3, 7, 0.5, g),
    ],
)
def test_the_seed_decides(split: Callable[[np.random.Generator], list[IntArray]]) -> None:
    first, again, other = split(rng(1)), split(rng(1)), split(rng(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def skew(alpha: float) -> float:
    """Mean over clients of the largest label's fraction; 0.25 if every mix is that of the whole."""
    labels = np.arange(8_000) % 4
    parts = dirichlet_labels(labels, 10, alpha, rng())
    return float(np.mean([np.bincount(labels[p]).max() / p.size for p in parts if p.size]))


def test_a_smaller_alpha_skews_labels_more() -> None:
    assert skew(0.05) > 0.7 > skew(1.0) > 0.35 > skew(1_000.0)


def test_a_smaller_alpha_skews_sizes_more() -> None:
    largest = {
        alpha: max(p.size for p in quantity_skew(10_000, 10, alpha, rng()))
        for alpha in (0.1, 1_000.0)
    }
    assert largest[0.1] > 3_000
    assert largest[1_000.0] < 1_200


def test_each_row_is_equally_likely_to_go_to_each_client() -> None:
    counts = np.zeros((6, 2))
    generator = rng()
    for _ in range(2_000):
        for client, part in enumerate(iid(6, 2, generator)):
            counts[part, client] += 1
    # 1000 expected in each cell, with a standard deviation of 22.
    assert np.abs(counts - 1_000).max() < 112


def test_dirichlet_labels_takes_text_and_missing_labels() -> None:
    labels = pl.Series(["x", None, "y", "x", None])
    assert_partition(dirichlet_labels(labels, 2, 1.0, rng()), 5)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pl.Series(["b", "a", "b"]), ["a", "b"]),
        (pl.Series(["b", None], dtype=pl.Categorical), ["(missing)", "b"]),
        (np.array([2, 10, 2]), ["10", "2"]),
        (np.array([1.5, np.nan]), ["(missing)", "1.5"]),
        (["a", float("nan"), None], ["(missing)", "a"]),
        (np.array(["İzmir", "Ankara"]), ["Ankara", "İzmir"]),
    ],
)
def test_by_column_names(values: Values, names: list[str]) -> None:
    assert by_column(values)[0] == names


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda: iid(5, 0, rng()), "clients = 0"),
        (lambda: iid(5, 6, rng()), "more than the 5 rows"),
        (lambda: iid(0, 1, rng()), "more than the 0 rows"),
        (lambda: quantity_skew(5, -1, 1.0, rng()), "clients = -1"),
        (lambda: quantity_skew(5, 6, 1.0, rng()), "more than the 5 rows"),
        (lambda: quantity_skew(5, 2, 0.0, rng()), "alpha = 0.0"),
        (lambda: quantity_skew(5, 2, float("nan"), rng()), "alpha = nan"),
        (lambda: quantity_skew(5, 2, 1e308, rng()), "alpha = 1e"),
        (lambda: dirichlet_labels([1, 2], 0, 1.0, rng()), "clients = 0"),
        (lambda: dirichlet_labels([1, 2], 2, -1.0, rng()), "alpha = -1.0"),
        (lambda: dirichlet_labels([1, 2], 2, float("inf"), rng()), "alpha = inf"),
        (lambda: dirichlet_labels([], 2, 1.0, rng()), "`labels` is empty"),
        (lambda: dirichlet_labels(np.zeros((2, 2)), 2, 1.0, rng()), "2 dimensions"),
        (lambda: by_column([]), "`values` is empty"),
        (lambda: by_column(["(missing)", None]), "holds both nulls"),
        (lambda: by_column(pl.Series([[1], [2]])), "cannot name clients"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], cause: str) -> None:
    with pytest.raises(SimulationError) as caught:
        call()
    assert cause in caught.value.cause
    assert caught.value.remedy
