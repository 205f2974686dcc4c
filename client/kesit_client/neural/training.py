"""Training at a client: whether it can, and the door to Opacus, which is imported on first use."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.noise import NoiseSource
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.wire import Refusal, RefusalCode

NEEDED = ("torch", "opacus")

REMEDY = "Install them with `pip install 'kesit[neural]'`."


def missing() -> list[str]:
    """Packages that a training needs and that are not installed; none is imported to see."""
    return [name for name in NEEDED if find_spec(name) is None]


def check_installed(study: Study) -> None:
    """Refuse a study that trains where Opacus cannot be used, before any hello.

    It is imported, for a broken installation is found by its spec: a member that learned of it in
    a round would have paid for the round.

    Raises:
        Refusal: with code UNAVAILABLE.
    """
    if study.training is None:
        return
    absent = missing()
    if absent:
        raise Refusal(
            RefusalCode.UNAVAILABLE,
            f"The study trains a neural network, and {' and '.join(absent)} cannot be imported.",
            remedy=REMEDY,
        )
    for name in NEEDED:
        try:
            import_module(name)
        except Exception as error:  # a library that does not load fails in many ways
            raise Refusal(
                RefusalCode.UNAVAILABLE,
                f"The study trains a neural network, and {name} is installed but does not load"
                f" ({error}).",
                remedy="Install it again: `pip install --force-reinstall 'kesit[neural]'`.",
            ) from error


def train(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
    """One training over the rows that count, (n, columns): weights in steps of 2^-16, (length,).

    A client without rows trains like any other: its steps are noise alone.
    """
    from kesit_client.neural.dpsgd import trained

    rows, labels = query.side.counted(codes, query.target)
    return trained(query.model, query.training, rows, labels, noise)
