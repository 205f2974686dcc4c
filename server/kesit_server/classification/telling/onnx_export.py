"""A model as ONNX: raw values in, chances out, without Kesit.

Each feature is an input of shape (customers, 1): double for a number (NaN is missing), string for a
list ("" is missing). A number's cell is how many of the cells' lower ends it reaches, which is to
the bit what Kesit's own coding finds, and a network is computed in whole numbers (`onnx_network`);
a line is evaluated in double and may differ by a point (2^-10 of a logit). Needs onnx
(`kesit[onnx]`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kesit_privacy.errors import ModelError
from kesit_privacy.features import GRID, Categorical, Feature, FloatArray, Numeric
from kesit_privacy.model_file import ScoringModel
from kesit_privacy.network import Network
from kesit_privacy.scorecard import LOGIT, Cells, Line, Scorecard
from kesit_server.classification.telling.onnx_graph import OUTPUT, Graph, unlike
from kesit_server.classification.telling.onnx_network import network

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, ML_OPSET, IR = 18, 3, 9


def onnx_model(model: ScoringModel) -> ModelProto:
    """The model as an ONNX graph with one output, `chances` (customers, classes).

    Raises:
        ModelError: onnx is not installed, or a feature has the name of the output.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise ModelError(
            "ONNX export needs the package onnx.", remedy="pip install 'kesit[onnx]'."
        ) from error
    names = [feature.name for feature in model.features]
    if OUTPUT in names:
        raise ModelError(
            f"A feature of the model is called {OUTPUT!r}, as the output of the ONNX graph is.",
            remedy="Call it otherwise in the study and run it again; model.json can be used as it"
            " is.",
        )
    graph = Graph(helper, unlike(names))
    if isinstance(model.model, Network):
        total = network(graph, model.features, model.model)
    else:
        total = _additive(graph, model.features, model.model)
    if len(model.classes) == 2:
        nothing = graph.add("Mul", [total, graph.constant("zero", np.zeros((1, 1)))])
        total = graph.add("Concat", [nothing, total], axis=1)
    graph.nodes.append(helper.make_node("Softmax", [total], [OUTPUT], axis=1))
    inputs = [
        helper.make_tensor_value_info(
            feature.name,
            TensorProto.DOUBLE if isinstance(feature, Numeric) else TensorProto.STRING,
            _shape(1),
        )
        for feature in model.features
    ]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, _shape(len(model.classes)))
    made = helper.make_model(
        helper.make_graph(graph.nodes, "kesit", inputs, [output], graph.constants),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
        ir_version=IR,
        producer_name="kesit",
    )
    helper.set_model_props(
        made,
        {
            "classes": ", ".join(model.classes),
            "purpose": model.purpose,
            "target": model.target,
        },
    )
    checker.check_model(made)
    return made


def _additive(graph: Graph, features: tuple[Feature, ...], model: Scorecard) -> str:
    """Logits of features that add up, (customers, logits)."""
    total = graph.constant("intercept", np.array([model.intercept]) / LOGIT)
    for place, (feature, part) in enumerate(zip(features, model.parts, strict=True)):
        total = graph.add("Add", [total, _part(graph, f"f{place}", feature, part)])
    return total


def _part(graph: Graph, name: str, feature: Feature, part: Cells | Line) -> str:
    """Logits of one feature, (customers, logits)."""
    if isinstance(feature, Categorical):
        assert isinstance(part, Cells)
        return _gather(graph, name, part, graph.level(feature))
    if isinstance(part, Cells):
        return _gather(graph, name, part, _cell(graph, name, feature, len(part.values) - 1))
    return _line(graph, name, feature, part)


def _gather(graph: Graph, name: str, part: Cells, cell: str) -> str:
    table = graph.constant(f"{name}.points", part.array / LOGIT)
    return graph.add("Gather", [table, graph.flat(name, cell)], axis=0)


def _cell(graph: Graph, name: str, feature: Numeric, bins: int) -> str:
    ends = graph.constant(f"{name}.ends", lower_ends(feature, bins)[None])
    reached = graph.add("GreaterOrEqual", [feature.name, ends])
    whole = graph.add("Cast", [reached], to=graph.helper.TensorProto.INT64)
    axis = graph.constant(f"{name}.sum", np.array([1]))
    cell = graph.add("ReduceSum", [whole, axis], keepdims=1)
    missing = graph.missing(name, feature)
    return graph.add("Where", [missing, graph.constant(f"{name}.last", np.array([[bins]])), cell])


def _line(graph: Graph, name: str, feature: Numeric, part: Line) -> str:
    value = feature.name
    if feature.transform == "signed-log":
        size = graph.add("Abs", [value])
        one = graph.constant(f"{name}.one", np.ones((1, 1)))
        bent = graph.add("Log", [graph.add("Add", [size, one])])
        value = graph.add("Mul", [graph.add("Sign", [value]), bent])
    elif feature.transform == "amount":
        value = _amount(graph, name, feature)
    low, high = feature.forward(feature.lower), feature.forward(feature.upper)
    moved = graph.add("Sub", [value, graph.constant(f"{name}.low", np.array([[low]]))])
    width = graph.constant(f"{name}.width", np.array([[high - low]]))
    along = graph.add("Div", [moved, width])
    floor = graph.add("Max", [along, graph.constant(f"{name}.0", np.zeros((1, 1)))])
    place = graph.add("Min", [floor, graph.constant(f"{name}.1", np.ones((1, 1)))])
    ends = np.array([part.lower, part.upper]) / LOGIT
    slope = graph.constant(f"{name}.slope", (ends[1] - ends[0])[None])
    start = graph.constant(f"{name}.start", ends[:1])
    points = graph.add("Add", [graph.add("Mul", [place, slope]), start])
    missing = graph.constant(f"{name}.missing", np.array([part.missing]) / LOGIT)
    return graph.add("Where", [graph.missing(name, feature), missing, points])


def _amount(graph: Graph, name: str, feature: Numeric) -> str:
    """An amount's place: what lies between each two of its knots, times the slope there."""
    values, places = (np.array(line) for line in feature.knots)
    size = graph.add("Abs", [feature.name])
    above = graph.add("Sub", [size, graph.constant(f"{name}.knots", values[None, :-1])])
    floor = graph.add("Max", [above, graph.constant(f"{name}.zero", np.zeros((1, 1)))])
    ends = np.diff(values)
    ends[-1] = np.inf  # beyond the last knot as before it
    inside = graph.add("Min", [floor, graph.constant(f"{name}.widths", ends[None])])
    slopes = graph.constant(f"{name}.slopes", (np.diff(places) / np.diff(values))[:, None])
    return graph.add(
        "Mul", [graph.add("Sign", [feature.name]), graph.add("MatMul", [inside, slopes])]
    )


def _shape(width: int) -> list[str | int | None]:
    return ["customers", width]


def lower_ends(feature: Numeric, bins: int) -> FloatArray:
    """The least value of each cell of a number but the first, shape (bins - 1,)."""
    codes = [-(-cell * GRID // bins) for cell in range(1, bins)]
    return np.array([feature.decode(code - 0.5) for code in codes])
