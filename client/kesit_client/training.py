"""Training at a client: whether it can, and the door to Opacus, which is imported on first use."""

from __future__ import annotations

from importlib.util import find_spec

from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.noise import NoiseSource
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.wire import Refusal, RefusalCode

NEEDED = ("torch", "opacus")


def check_installed(study: Study) -> None:
    """Refuse a study that trains where Opacus is not installed, before any hello.

    Raises:
        Refusal: with code UNAVAILABLE.
    """
    if study.training is None:
        return
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Refusal(
            RefusalCode.UNAVAILABLE,
            f"The study trains a neural network, and {' and '.join(missing)} cannot be imported.",
            remedy='Install them with `pip install "kesit[neural]"`.',
        )


def train(query: TrainedWeights, codes: CodeArray, noise: NoiseSource) -> IntArray:
    """One training over the rows that count, (n, columns): weights in steps of 2^-16, (length,).

    A client without rows trains like any other: its steps are noise alone.
    """
    from kesit_client.dpsgd import trained

    rows, labels = query.side.counted(codes, query.target)
    return trained(query.model, query.training, rows, labels, noise)
