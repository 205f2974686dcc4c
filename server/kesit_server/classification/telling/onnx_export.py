"""A model as ONNX: raw values in, chances out, without Kesit.

Each feature is an input of shape (customers, 1): double for a number (NaN is missing), string for a
list ("" is missing). A number's cell is how many of the cells' lower ends it reaches, which is to
the bit what Kesit's own coding finds; a line is evaluated in double and may differ by a point
(2^-10 of a logit). Needs onnx (`kesit[onnx]`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kesit_privacy.errors import ModelError
from kesit_privacy.features import GRID, Categorical, Feature, FloatArray, Numeric
from kesit_privacy.model_file import ScoringModel
from kesit_privacy.network import Network
from kesit_privacy.scorecard import LOGIT, Cells, Line

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET, ML_OPSET, IR = 18, 3, 9

OUTPUT = "chances"


def onnx_model(model: ScoringModel) -> ModelProto:
    """The model as an ONNX graph with one output, `chances` (customers, classes).

    Raises:
        ModelError: onnx is not installed, the model is a network, or a feature has the name of the
            output.
    """
    if isinstance(model.model, Network):
        raise ModelError(
            "ONNX export knows additive models, and this one is a neural network.",
            remedy="Score with `kesit client score`, or read the weights from model.json.",
        )
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
    graph = _Graph(helper, _unlike(names))
    total = graph.constant("intercept", np.array([model.model.intercept]) / LOGIT)
    for place, (feature, part) in enumerate(zip(model.features, model.model.parts, strict=True)):
        found = graph.part(f"f{place}", feature, part)
        total = graph.add("Add", [total, found])
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


@dataclass
class _Graph:
    """Nodes and constants of a graph while it grows; their names begin with `prefix`."""

    helper: Any
    prefix: str
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, values: Any) -> str:
        """A named array of the graph."""
        from onnx import numpy_helper

        name = f"{self.prefix}{name}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node; the name of its one output."""
        name = f"{self.prefix}n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def part(self, name: str, feature: Feature, part: Cells | Line) -> str:
        """Logits of one feature, (customers, logits)."""
        if isinstance(feature, Categorical):
            assert isinstance(part, Cells)
            return self._gather(name, part, self._level(feature))
        if isinstance(part, Cells):
            return self._gather(name, part, self._cell(name, feature, len(part.values) - 1))
        return self._line(name, feature, part)

    def _gather(self, name: str, part: Cells, cell: str) -> str:
        table = self.constant(f"{name}.points", part.array / LOGIT)
        flat = self.add("Squeeze", [cell, self.constant(f"{name}.axis", np.array([1]))])
        return self.add("Gather", [table, flat], axis=0)

    def _level(self, feature: Categorical) -> str:
        return self.add(
            "LabelEncoder",
            [feature.name],
            domain="ai.onnx.ml",
            keys_strings=[*feature.levels, ""],
            values_int64s=[*range(len(feature.levels)), feature.missing],
            default_int64=feature.unknown,
        )

    def _cell(self, name: str, feature: Numeric, bins: int) -> str:
        ends = self.constant(f"{name}.ends", lower_ends(feature, bins)[None])
        reached = self.add("GreaterOrEqual", [feature.name, ends])
        whole = self.add("Cast", [reached], to=self.helper.TensorProto.INT64)
        axis = self.constant(f"{name}.sum", np.array([1]))
        cell = self.add("ReduceSum", [whole, axis], keepdims=1)
        missing = self._missing(name, feature)
        return self.add("Where", [missing, self.constant(f"{name}.last", np.array([[bins]])), cell])

    def _amount(self, name: str, feature: Numeric, value: str) -> str:
        """An amount's place: what lies between each two of its knots, times the slope there."""
        values, places = (np.array(line) for line in feature.knots)
        size = self.add("Abs", [value])
        above = self.add("Sub", [size, self.constant(f"{name}.knots", values[None, :-1])])
        floor = self.add("Max", [above, self.constant(f"{name}.zero", np.zeros((1, 1)))])
        ends = np.diff(values)
        ends[-1] = np.inf  # beyond the last knot as before it
        inside = self.add("Min", [floor, self.constant(f"{name}.widths", ends[None])])
        slopes = self.constant(f"{name}.slopes", (np.diff(places) / np.diff(values))[:, None])
        return self.add("Mul", [self.add("Sign", [value]), self.add("MatMul", [inside, slopes])])

    def _missing(self, name: str, feature: Numeric) -> str:
        absent = self.add("IsNaN", [feature.name])
        endless = self.add(
            "Equal",
            [
                self.add("Abs", [feature.name]),
                self.constant(f"{name}.inf", np.array([[np.inf]])),
            ],
        )
        return self.add("Or", [absent, endless])

    def _line(self, name: str, feature: Numeric, part: Line) -> str:
        value = feature.name
        if feature.transform == "signed-log":
            size = self.add("Abs", [value])
            one = self.constant(f"{name}.one", np.ones((1, 1)))
            bent = self.add("Log", [self.add("Add", [size, one])])
            value = self.add("Mul", [self.add("Sign", [value]), bent])
        elif feature.transform == "amount":
            value = self._amount(name, feature, value)
        low, high = feature.forward(feature.lower), feature.forward(feature.upper)
        moved = self.add("Sub", [value, self.constant(f"{name}.low", np.array([[low]]))])
        width = self.constant(f"{name}.width", np.array([[high - low]]))
        along = self.add("Div", [moved, width])
        floor = self.add("Max", [along, self.constant(f"{name}.0", np.zeros((1, 1)))])
        place = self.add("Min", [floor, self.constant(f"{name}.1", np.ones((1, 1)))])
        ends = np.array([part.lower, part.upper]) / LOGIT
        slope = self.constant(f"{name}.slope", (ends[1] - ends[0])[None])
        start = self.constant(f"{name}.start", ends[:1])
        points = self.add("Add", [self.add("Mul", [place, slope]), start])
        missing = self.constant(f"{name}.missing", np.array([part.missing]) / LOGIT)
        return self.add("Where", [self._missing(name, feature), missing, points])


def _unlike(names: Sequence[str]) -> str:
    """What no name begins with: a feature may have any name, and a graph each name once."""
    prefix = "kesit."
    while any(name.startswith(prefix) for name in (*names, OUTPUT)):
        prefix += "_"
    return prefix


def _shape(width: int) -> list[str | int | None]:
    return ["customers", width]


def lower_ends(feature: Numeric, bins: int) -> FloatArray:
    """The least value of each cell of a number but the first, shape (bins - 1,)."""
    codes = [-(-cell * GRID // bins) for cell in range(1, bins)]
    return np.array([feature.decode(code - 0.5) for code in codes])
