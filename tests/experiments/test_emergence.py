"""The launcher of emergence: a tiny student watched, interrupted, resumed, and one-line errors."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import emergence as launcher
from substrate_jax.analyses.emergence import compare
from substrate_jax.analyses.emergence.watch import Watched, Watcher
from substrate_jax.substrate import pcka
from tests.training.tiny import TINY, tiny_student

SHORT = {
    "student": TINY,
    "encoders": ["mini_vit_base"],
    "seeds": 2,
    "epochs": 2,
    "n": 40,
    "train_batch": 8,
    "probe_images": 34,
    "mesh": "data=1",
}


@pytest.fixture(autouse=True)
def prepared(monkeypatch):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    tiny_student(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes that differ in brightness: 40 images to train on and 40 to judge by."""
    rng, found = np.random.default_rng(0), {}
    for split in ("train", "test"):
        labels = np.arange(40) % 2
        pixels = rng.integers(0, 128, (40, 32, 32, 3)) + 127 * labels[:, None, None, None]
        found |= {f"{split}_images": pixels.astype(np.uint8), f"{split}_labels": labels}
    path = tmp_path_factory.mktemp("data") / "pixels.npz"
    np.savez(path, **found)
    return {"data": f"npz:{path}:train", "test_data": f"npz:{path}:test"}


def run(out: Path, **changes) -> dict:
    # optax's schedules multiply a count by Python numbers.
    promotion = jax.numpy_dtype_promotion("standard")
    with promotion, flagsaver.flagsaver(**{"out": str(out), "quiet": True} | SHORT | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("emergence")
    with pytest.MonkeyPatch.context() as patch:
        tiny_student(patch)
        return out, run(out, **data)


def test_every_training_has_its_curves(finished):
    out, result = finished
    assert result["steps"] == [0, 1, 2, 4, 5, 7, 10]
    assert [(one["objective"], one["seed"]) for one in result["trainings"]] == [
        ("supervised", 0),
        ("supervised", 1),
        ("shuffled", 0),
        ("shuffled", 1),
    ]
    targets = ["panel", "untrained_panel", "pixels"]
    for one in result["trainings"]:
        seeds = ["another_seed"] * (one["objective"] == "supervised")
        assert list(one["alignments"]) == targets + seeds
        for found in one["alignments"].values():
            assert np.shape(found["debiased_cka"]) == (7,)
        assert one["settled"][-1] == pytest.approx(1, abs=1e-5)
        assert one["alpha"] == [None] * 7  # 24 features
        assert 1 <= one["effective_rank"][0] <= 24
    # The first step has rate 0, and there is no normalization with running means.
    first = result["trainings"][0]["alignments"]["panel"]["cka"]
    assert first[0] == pytest.approx(first[1], abs=1e-6)
    assert len(list((out / "watched").rglob("*.safetensors"))) == 4 * 7


@pytest.mark.long
def test_curves_are_of_the_features_that_are_kept(finished):
    out, result = finished
    ends = [Watched.load(out / "watched" / f"supervised-{seed}" / "00000010.safetensors")
            for seed in (0, 1)]  # fmt: skip
    start = Watched.load(out / "watched" / "supervised-0" / "00000000.safetensors")
    one = result["trainings"][0]
    assert one["accuracy"][-1] == ends[0].accuracy
    want = pcka({"x": start.features}, {"x": ends[0].features})
    assert one["settled"][0] == pytest.approx(want, abs=1e-5)
    scores = compare.scores({"x": ends[1].features})
    (found,) = compare.alignment([ends[0].features], scores).debiased_cka
    assert one["alignments"]["another_seed"]["debiased_cka"][-1] == pytest.approx(found, abs=1e-6)


def test_rises_are_of_the_curves(finished):
    _, result = finished
    first = result["rises"][0]
    assert (first["objective"], first["curve"]) == ("supervised", "accuracy")
    ends = [one["accuracy"][-1] for one in result["trainings"][:2]]
    assert first["end"]["mean"] == pytest.approx(np.mean(ends))
    assert first["lead"]["mean"] in (0, None)  # of itself; none where it does not rise


def test_the_page_says_it_all(finished):
    out, _ = finished
    page = (out / "report.html").read_text("utf-8")
    assert page.index("Agreement and accuracy") < page.index("Controls") < page.index("Caveats")
    assert "12.7" in page  # two seeds
    assert "Held out, class by class" not in page


@pytest.mark.long
def test_interrupted_it_goes_on_to_the_same_bits(finished, data, tmp_path, monkeypatch):
    _, want = finished
    whole = Watcher.watch

    def stopped(self, training, step, network, **options):
        if (training, step) == ("supervised-1", 7):
            raise KeyboardInterrupt
        whole(self, training, step, network, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "watch", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, **data)
    assert not (tmp_path / "result.json").exists()
    assert (tmp_path / "checkpoints" / "supervised-1" / "5").is_dir()
    again = run(tmp_path, **data)
    assert again["trainings"] == want["trainings"]
    assert again["rises"] == want["rises"]


@pytest.mark.long
def test_eight_devices_give_what_one_gives(finished, data, tmp_path):
    _, one = finished
    eight = run(tmp_path, mesh="data=8", against=["none"], **data)
    assert (one["devices"]["mesh"], eight["devices"]["mesh"]) == ("data=1", "data=8")
    assert list(eight["targets"]) == ["panel"]
    for ours, theirs in zip(eight["trainings"], one["trainings"], strict=False):
        for curve, values in ours["alignments"]["panel"].items():
            if curve == "p_value":
                continue
            # Ten steps of Adam, whose first are signs of gradients, amplify float32's rounding; of
            # 340 neighbors a few change places.
            atol = 5 / 340 if curve == "mutual_knn" else 2e-3
            np.testing.assert_allclose(
                values, theirs["alignments"]["panel"][curve], atol=atol, err_msg=curve
            )


@pytest.mark.long
def test_more_seeds_and_objectives_are_trained_beside_what_is_there(finished, data, tmp_path):
    out, before = finished
    shutil.copytree(out, tmp_path / "out")
    found = run(tmp_path / "out", against=["self_supervised"], **data)
    assert found["trainings"][0]["accuracy"] == before["trainings"][0]["accuracy"]
    views = found["trainings"][2]
    assert views["objective"] == "self_supervised"
    assert views["accuracy"] == [None] * 7
    curves = [one["curve"] for one in found["rises"] if one["objective"] == "self_supervised"]
    assert "accuracy" not in curves
    assert "probe_accuracy" in curves


def test_plans_write_nothing(data, tmp_path, capsys):
    out = str(tmp_path / "out")
    with flagsaver.flagsaver(**SHORT | data, dry_run=True, out=out, against=["all"]):
        launcher.run()
    said = capsys.readouterr().out
    assert "trainings: supervised, shuffled, self_supervised, seeds 0, 1" in said
    assert "watched: 0, 1, 2, 4, 5, 7, 10" in said
    assert "TFLOP" in said
    assert not (tmp_path / "out").exists()


BAD = {
    "unknown student": ({"student": "resnet19"}, "student='resnet19': choose one of resnet18"),
    "unknown comparison": ({"against": ["labels"]}, "against: 'labels' is none; give all, none"),
    "few probes": ({"probe_images": 33}, "probe_images=33: too few for 16 components"),
    "more probes than images": ({"probe_images": 41}, "probe_images=41: there are 40 test images"),
    "batch above the images": ({"train_batch": 48}, "train_batch=48: there are 40 images"),
    "batch over devices": (
        {"train_batch": 12, "mesh": "data=8"},
        "train_batch=12: the mesh has 8 devices",
    ),
    "no epochs": ({"epochs": 0}, "epochs=0"),
    "no rate": ({"learning_rate": -1.0}, "learning_rate=-1.0"),
    "no level": ({"alpha": 1.0}, "alpha=1.0"),
    "several processes": ({"coordinator": "auto"}, "coordinator: networks are trained by one"),
    "an n below the classes": ({"n": 1}, "n=1"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_writes_nothing(changes, message, data, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        run(tmp_path / "out", **data | changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["no labels", "one class"])
def test_data_without_two_classes_is_refused(kind, tmp_path):
    path = tmp_path / "bad.npz"
    found: dict[str, np.ndarray] = {"train_images": np.zeros((40, 32, 32, 3), np.uint8)}
    if kind == "one class":
        found["train_labels"] = np.zeros(40, int)
    np.savez(path, allow_pickle=False, **found)
    with pytest.raises(ValueError, match=kind):
        run(tmp_path / "out", data=f"npz:{path}", test_data=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "given"), [("epochs", 3), ("learning_rate", 1e-3), ("probe_images", 35)]
)
def test_a_run_does_not_go_on_with_other_flags(flag, given, finished, data):
    out, _ = finished
    with pytest.raises(ValueError, match=f"{flag}={given}: the run that .* was begun with"):
        run(out, **data | {flag: given})


def test_training_that_runs_away_ends_in_one_line(data, tmp_path):
    said = "supervised-0: no finite features after step 2; lower the learning rate"
    with pytest.raises(ValueError, match=said):
        run(tmp_path, learning_rate=1e38, against=["none"], seeds=1, **data)
    assert not (tmp_path / "result.json").exists()
