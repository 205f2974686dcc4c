"""The tree of density levels (HDBSCAN): from mutual reachability distances to clusters.

After Campello, Moulavi, Zimek and Sander (2015, ACM TKDD 10), with weights in the place of counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from kesit_privacy.features import FloatArray, IntArray

NOISE = -1


def spanning_tree(reach: FloatArray) -> list[tuple[float, int, int]]:
    """Edges (distance, a, b) of the minimum spanning tree, shortest first."""
    tiny = float(reach[reach > 0].min(initial=1.0)) * 1e-9  # SciPy takes 0 for "no edge"
    tree = minimum_spanning_tree(np.maximum(reach, tiny)).tocoo()
    order = np.lexsort((tree.col, tree.row, tree.data))
    return [(float(tree.data[i]), int(tree.row[i]), int(tree.col[i])) for i in order]


@dataclass
class Branch:
    """A branch of the condensed tree. λ is 1 / distance."""

    birth: float
    weight: float
    left: list[tuple[int, float]]  # points that fall out, and at which λ
    children: list[int]
    split: float = 0.0  # λ at which the children part


def condense(
    edges: list[tuple[float, int, int]], core: FloatArray, weights: FloatArray, smallest: float
) -> list[Branch]:
    """The tree of splits into two sides of `smallest` weight or more; lighter sides fall out."""
    m = len(weights)
    mass, sides, scale = list(map(float, weights)), [(-1, -1)] * m, [0.0] * m
    root = list(range(m))  # union-find over points

    def find(point: int) -> int:
        while root[point] != point:
            root[point] = root[root[point]]
            point = root[point]
        return point

    top = list(range(m))  # dendrogram node of each root
    for distance, a, b in edges:
        a, b = find(a), find(b)
        sides.append((top[a], top[b]))
        mass.append(mass[top[a]] + mass[top[b]])
        scale.append(1 / distance)
        root[b] = a
        top[a] = len(sides) - 1
    branches = [Branch(0.0, mass[-1], [], [])]
    stack = [(len(sides) - 1, 0)]
    while stack:
        node, branch = stack.pop()
        here = branches[branch]
        if node < m:  # one point that is heavy enough by itself stays to its own density
            here.left.append((node, float(1 / core[node]) if core[node] > 0 else np.inf))
            continue
        heavy = [side for side in sides[node] if mass[side] >= smallest]
        if len(heavy) == 2:
            here.split = scale[node]
            for side in heavy:
                here.children.append(len(branches))
                branches.append(Branch(scale[node], mass[side], [], []))
                stack.append((side, len(branches) - 1))
            continue
        for side in sides[node]:
            if mass[side] < smallest:
                here.left.extend((point, scale[node]) for point in _leaves(side, sides, m))
            else:
                stack.append((side, branch))
    return branches


def _leaves(node: int, sides: list[tuple[int, int]], m: int) -> list[int]:
    found, stack = [], [node]
    while stack:
        node = stack.pop()
        if node < m:
            found.append(node)
        else:
            stack.extend(sides[node])
    return found


def flatten(branches: list[Branch], weights: FloatArray, persistence: float) -> None:
    """Undo, from the leaves up, each split with a side that hardly persists.

    The noise of a synopsis makes small peaks everywhere; as in ToMATo (Chazal, Guibas, Oudot and
    Skraba 2013, Persistence-based clustering in Riemannian manifolds, J. ACM 60) a peak of little
    prominence goes to its neighbour.
    """
    last = _last(branches)
    for place in range(len(branches) - 1, -1, -1):  # children stand after their parents
        branch = branches[place]
        lasting = [_persistence(branches, child, weights, last) for child in branch.children]
        if not lasting or min(lasting) >= persistence:
            continue
        strong = branch.children[int(np.argmax(lasting))]
        for child in branch.children:
            if child != strong:
                branch.left += _points(branches, child)
        kept = branches[strong]
        branch.left += kept.left
        branch.children, branch.split = kept.children, kept.split


def _last(branches: list[Branch]) -> float:
    """The largest finite λ of the tree; what stays for ever is counted as leaving then."""
    finite = [scale for branch in branches for _, scale in branch.left if np.isfinite(scale)]
    return max([*finite, *(branch.split for branch in branches)])


def _persistence(branches: list[Branch], place: int, weights: FloatArray, last: float) -> float:
    """1 - (λ of birth) / (mean λ at which a customer leaves the branch and all below it)."""
    leaving = sum(weights[point] * min(scale, last) for point, scale in _points(branches, place))
    mean = float(leaving) / branches[place].weight
    return 1 - branches[place].birth / mean


def select(branches: list[Branch], m: int, weights: FloatArray) -> tuple[IntArray, FloatArray]:
    """Labels (m,) and persistence of the branches of the largest total excess of mass.

    Excess of mass: Σ weight·(λ at which it leaves the branch - λ of the branch's birth). The root
    is no cluster.
    """
    last, excess = _last(branches), []
    for branch in branches:
        own = sum(
            weights[point] * (min(scale, last) - branch.birth) for point, scale in branch.left
        )
        passed_on = sum(branches[child].weight for child in branch.children)
        excess.append(float(own + passed_on * (branch.split - branch.birth)))
    best, chosen = list(excess), [True] * len(branches)
    for place in range(len(branches) - 1, -1, -1):
        below = sum(best[child] for child in branches[place].children)
        if place == 0 or (branches[place].children and below > excess[place]):
            best[place], chosen[place] = below, False
    labels = np.full(m, NOISE, dtype=np.int64)
    lasting: list[float] = []
    stack = list(branches[0].children)
    while stack:
        place = stack.pop()
        if not chosen[place]:
            stack.extend(branches[place].children)
            continue
        labels[[point for point, _ in _points(branches, place)]] = len(lasting)
        lasting.append(_persistence(branches, place, weights, last))
    return labels, np.array(lasting, dtype=np.float64)


def _points(branches: list[Branch], place: int) -> list[tuple[int, float]]:
    """Every point that leaves a branch or one below it, and at which λ."""
    found, stack = [], [place]
    while stack:
        branch = branches[stack.pop()]
        found.extend(branch.left)
        stack.extend(branch.children)
    return found
