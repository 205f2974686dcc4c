"""A network as ONNX: the whole numbers of `kesit_privacy.network`, in double.

A number's code is found by halving in its table of GRID thresholds, comparisons only, so it is
Kesit's own to the bit. All that follows are sums of whole numbers below 2^53 and divisions by
powers of two, which double has exactly in any order: points are Kesit's own, too, and chances
differ as much as a softmax in double differs from one in steps of 2^-14.
"""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import GRID, GRID_BITS, Categorical, Feature, FloatArray, Numeric
from kesit_privacy.network import LARGEST_HIDDEN, LARGEST_INPUT, SCALE_BITS, WEIGHT, Network
from kesit_privacy.scorecard import LARGEST, LOGIT
from kesit_server.classification.telling.onnx_graph import Graph


def network(graph: Graph, features: tuple[Feature, ...], model: Network) -> str:
    """Logits of a network, (customers, logits)."""
    first, bias, second, last = model.layers
    total, place, number = graph.constant("bias", bias[None] * GRID), 0, 0
    for index, feature in enumerate(features):
        name = f"f{index}"
        width = feature.cells if isinstance(feature, Categorical) else 2
        weights = first[:, place : place + width].T
        if isinstance(feature, Categorical):
            found = _level(graph, name, feature, weights)
        else:
            moved = model.inputs.centres[number], model.inputs.scales[number]
            found = _number(graph, name, feature, weights, moved)
            number += 1
        total = graph.add("Add", [total, found])
        place += width
    hidden = _whole(graph, "hidden", total, WEIGHT, 0, LARGEST_HIDDEN)
    led = graph.add("MatMul", [hidden, graph.constant("second", second.T)])
    led = graph.add("Add", [led, graph.constant("last", last[None] * GRID)])
    points = _whole(graph, "points", led, WEIGHT * GRID // LOGIT, -LARGEST, LARGEST)
    return graph.add("Div", [points, graph.constant("logit", np.array([[float(LOGIT)]]))])


def _level(graph: Graph, name: str, feature: Categorical, weights: FloatArray) -> str:
    """What a list's value adds to the hidden units, (customers, hidden): weights of its input."""
    table = graph.constant(f"{name}.weights", weights * GRID)
    return graph.add("Gather", [table, graph.flat(name, graph.level(feature))], axis=0)


def _number(
    graph: Graph, name: str, feature: Numeric, weights: FloatArray, moves: tuple[int, int]
) -> str:
    """What a number adds to the hidden units, (customers, hidden): (code - centre)·scale times the
    weights of its first input, or those of its second where it is missing.

    Args:
        moves: centre and scale.
    """
    centre, scale = map(float, moves)
    code = graph.add("Cast", [_code(graph, name, feature)], to=graph.helper.TensorProto.DOUBLE)
    moved = graph.add("Sub", [code, graph.constant(f"{name}.centre", [[centre]])])
    moved = graph.add("Mul", [moved, graph.constant(f"{name}.scale", [[scale]])])
    step = 1 << SCALE_BITS
    moved = _whole(graph, f"{name}.moved", moved, step, -LARGEST_INPUT, LARGEST_INPUT)
    seen = graph.add("Mul", [moved, graph.constant(f"{name}.weights", weights[:1])])
    absent = graph.constant(f"{name}.absent", weights[1:] * GRID)
    return graph.add("Where", [graph.missing(name, feature), absent, seen])


def _code(graph: Graph, name: str, feature: Numeric) -> str:
    """How many of the feature's thresholds a value reaches, (customers, 1); 0 for no number.

    Halving: whoever reaches threshold `found + step` (counted from 1) goes there. Steps add up to
    GRID - 1, so a last step of 1 leads to the end of the table.
    """
    thresholds = [feature.decode(step + 0.5) for step in range(GRID)]
    table = graph.constant(f"{name}.thresholds", np.array(thresholds))
    before = graph.constant(f"{name}.before", np.array([[1]]))
    zero = graph.constant(f"{name}.start", np.array([[0]]))
    # The place to begin, of the input's shape.
    reached = graph.add("IsNaN", [feature.name])
    place = graph.add("Cast", [reached], to=graph.helper.TensorProto.INT64)
    place = graph.add("Mul", [place, zero])
    for number, step in enumerate([*(1 << bit for bit in reversed(range(GRID_BITS))), 1]):
        ahead = graph.add("Add", [place, graph.constant(f"{name}.step{number}", [[step]])])
        value = graph.add("Gather", [table, graph.add("Sub", [ahead, before])], axis=0)
        reached = graph.add("GreaterOrEqual", [feature.name, value])
        place = graph.add("Where", [reached, ahead, place])
    return place


def _whole(graph: Graph, name: str, total: str, step: int, low: int, high: int) -> str:
    """Down to a whole number of `step`, within bounds."""
    divided = graph.add("Div", [total, graph.constant(f"{name}.unit", [[float(step)]])])
    ends = [
        graph.constant(f"{name}.{side}", float(x)) for side, x in (("low", low), ("high", high))
    ]
    return graph.add("Clip", [graph.add("Floor", [divided]), *ends])
