"""Small labeled sets that the tests of heads share, in two shapes: n > d and n < d."""

import dataclasses

import numpy as np

from substrate_jax.analyses.probe.episodes import Episodes, draw_episodes
from substrate_jax.analyses.probe.heads.batch import Batch, make_batch


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """Features of three classes, two episodes of them, and the batch."""

    x: np.ndarray
    drawn: Episodes
    batch: Batch

    def labeled(self, episode: int):
        rows = self.drawn.each[episode].train
        return self.x[rows], self.drawn.codes[rows]

    @property
    def judged(self):
        return self.x[self.drawn.test]


def case(width: int, shots: int) -> Case:
    rng = np.random.default_rng(width)
    labels = np.repeat([0, 1, 2], 50)
    deviations = np.arange(1, width + 1) ** -0.5
    x = (rng.normal(size=(150, width)) + rng.normal(size=(3, width))[labels]) * deviations + 3.0
    drawn = draw_episodes(labels, shots=(shots,), episodes=2)
    return Case(x, drawn, make_batch(x, drawn.codes, drawn.train(shots), drawn.test))
