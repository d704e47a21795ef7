"""The smallest result that can be written."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure

from substrate_jax.report.drawing import png
from substrate_jax.report.run import EncoderRecord, Run
from substrate_jax.report.values import INLINE

PIXEL = png(Figure(figsize=(0.01, 0.01), dpi=100))


@dataclasses.dataclass(frozen=True)
class TinyResult:
    run: Run = dataclasses.field(metadata=INLINE)
    zeta: object
    matrix: np.ndarray
    alpha: tuple[int, ...]
    absent: float | None = None


def tiny_result(**changes) -> TinyResult:
    run = Run(
        experiment="tiny",
        command="python -m experiments.tiny",
        versions={"jax": "0.10.2"},
        devices={"count": 1, "mesh": "data=1"},
        seconds={"load": 33.41, "report": None},
        arguments={"encoders": ["all"], "store": None},
        encoders=[EncoderRecord("a", "vit", "supervised", 8, 99, "a.safetensors", None, None)],
        notes=["Weights are drawn at random."],
    )
    matrix = np.array([[np.nan, 0.5], [0.25, np.inf]], np.float32)
    return dataclasses.replace(TinyResult(run, np.float32(0.5), matrix, (1, 2)), **changes)
