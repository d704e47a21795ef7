"""How many images a run takes, with and without --n."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cka, domains, layers
from experiments.common import encoders as panel
from substrate_jax.data.sources import Source


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def of_size(size: int) -> Source:
    ids = tuple(map(str, range(size)))
    return Source("some", ids, None, "0", lambda row: np.zeros((8, 8, 3), np.uint8))


# --n, images there are, --n may ask for more -> images taken, and whether a note says they are few
TAKEN = {
    "as many as there are": (None, 300, False, 300, "fewer than the 512 that are taken by default"),
    "the default": (None, 700, False, 512, None),
    "just the default": (None, 512, False, 512, None),
    "as asked": (600, 700, False, 600, None),
    "fewer than asked": (600, 300, True, 300, "fewer than the 600: all are used"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_images_taken(case):
    n, size, fewer, want, said = TAKEN[case]
    with flagsaver.flagsaver(n=n):
        taken = panel.take_images("mine", of_size(size), 4, "this", fewer=fewer)
        notes = panel.few_images_note("mine", taken)
    assert len(taken) == want
    assert [said in note for note in notes] == [True] * (said is not None)


REFUSED = {
    "more than there are": (600, 300, "n=600: some has 300 images; give 1 to 300"),
    "too few there": (None, 3, "'mine': 3 images are too few for this; give 4"),
    "too few asked for": (3, 300, "'mine': 3 images are too few for this; give 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_images_refused(case):
    n, size, message = REFUSED[case]
    with flagsaver.flagsaver(n=n), pytest.raises(ValueError, match=message):
        panel.take_images("mine", of_size(size), 4, "this")


PLANS = {
    "cka": (cka, {"domains": "a=sample:texture:120"}, "120 of 120 images"),
    "domains": (domains, {"domains": "a=sample:texture:120,writing"}, "120 of 120 images"),
    "layers": (layers, {"domain": "a=sample:texture:120", "n": None}, "domain: a, 120 images"),
    "cka with n": (cka, {"domains": "texture", "n": 200}, "200 of 512 images"),
    "layers with n": (layers, {"domain": "texture", "n": 200}, "domain: texture, 200 images"),
}


@pytest.mark.parametrize("case", PLANS)
def test_the_plan_says_how_many(case, tmp_path, capsys):
    launcher, changes, said = PLANS[case]
    encoders = {"encoders": ["mini_vit_base", "mini_clip_base"], "out": str(tmp_path / "out")}
    with flagsaver.flagsaver(dry_run=True, quiet=True, **encoders | changes):
        launcher.run()
    assert said in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_the_plan_of_a_run_that_would_refuse_refuses():
    with (
        flagsaver.flagsaver(dry_run=True, domains="texture", n=600, encoders=["mini_vit_base"]),
        pytest.raises(ValueError, match=r"n=600: .* has 512 images"),
    ):
        cka.run()
