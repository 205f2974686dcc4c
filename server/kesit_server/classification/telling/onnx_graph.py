"""An ONNX graph while it grows, and how raw values enter it; needs onnx (`kesit[onnx]`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kesit_privacy.features import Categorical, Numeric

OUTPUT = "chances"


@dataclass
class Graph:
    """Nodes and constants of a graph; their names begin with `prefix`."""

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

    def level(self, feature: Categorical) -> str:
        """Code of a value of a list, (customers, 1)."""
        return self.add(
            "LabelEncoder",
            [feature.name],
            domain="ai.onnx.ml",
            keys_strings=[*feature.levels, ""],
            values_int64s=[*range(len(feature.levels)), feature.missing],
            default_int64=feature.unknown,
        )

    def missing(self, name: str, feature: Numeric) -> str:
        """Whether a number is missing, or no finite one, (customers, 1)."""
        absent = self.add("IsNaN", [feature.name])
        endless = self.add(
            "Equal",
            [
                self.add("Abs", [feature.name]),
                self.constant(f"{name}.inf", np.array([[np.inf]])),
            ],
        )
        return self.add("Or", [absent, endless])

    def flat(self, name: str, codes: str) -> str:
        """Codes of shape (customers, 1) as (customers,)."""
        return self.add("Squeeze", [codes, self.constant(f"{name}.axis", np.array([1]))])


def unlike(names: Sequence[str]) -> str:
    """What no name begins with: a feature may have any name, and a graph each name once."""
    prefix = "kesit."
    while any(name.startswith(prefix) for name in (*names, OUTPUT)):
        prefix += "_"
    return prefix
