"""The launcher of the mini panel: a member trained for two steps, resumed, refused and listed."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import pretrain as launcher
from substrate_jax.encoders import load_encoder

NAME = "mini_mae_base"


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes of images that differ in brightness, two batches of them."""
    rng, labels = np.random.default_rng(0), np.arange(256) % 2
    pixels = rng.integers(0, 128, (256, 32, 32, 3)) + 127 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "pixels.npz"
    np.savez(path, train_images=pixels.astype(np.uint8), train_labels=labels)
    return f"npz:{path}"


def run(out: Path, images: str, **changes):
    fields = {"encoder": NAME, "data": images, "test_data": images, "epochs": 1, "quiet": True}
    # optax's schedules multiply a count by Python numbers.
    promotion = jax.numpy_dtype_promotion("standard")
    with promotion, flagsaver.flagsaver(**fields | {"out": str(out)} | changes):
        launcher.run()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("pretrain")
    run(out, data)
    return out


@pytest.mark.long
def test_a_member_is_written_with_its_record_and_card(trained, data):
    record = json.loads((trained / f"{NAME}.json").read_text())
    assert (record["encoder"], record["data"], record["images"]) == (NAME, data, 256)
    assert (record["steps"], record["recipe"]["epochs"], record["seed"]) == (2, 1, 0)
    assert record["accuracy"]["probe"] > 0.9  # brightness is linear in any features
    assert set(record["accuracy"]) == {"probe", "random_probe"}
    assert record["run"]["experiment"] == "pretrain"
    assert {"load", "train", "measure", "total"} == set(record["run"]["seconds"])
    encoder = load_encoder(NAME, trained)
    assert encoder.sha256 == record["sha256"]
    card = (trained / "README.md").read_text()
    assert f"| {NAME} | mae | {record['parameters']:,} | 1 | 2 | - |" in card


@pytest.mark.long
def test_the_same_command_ends_with_the_same_weights(trained, data, capsys):
    before = (trained / f"{NAME}.safetensors").read_bytes()
    run(trained, data)
    assert (trained / f"{NAME}.safetensors").read_bytes() == before
    assert json.loads((trained / f"{NAME}.json").read_text())["final_loss"] is None
    assert "step" not in capsys.readouterr().out  # nothing was left to train


@pytest.mark.long
@pytest.mark.parametrize(("flag", "value"), [("seed", 1), ("epochs", 2)])
def test_a_run_does_not_go_on_with_other_flags(trained, data, flag, value):
    before = (trained / f"{NAME}.safetensors").read_bytes()
    with pytest.raises(ValueError, match=f"{flag}={value}: .* was begun with .*another --out"):
        run(trained, data, **{flag: value})
    assert (trained / f"{NAME}.safetensors").read_bytes() == before


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, data, capsys):
    run(tmp_path / "never", data, dry_run=True)
    printed = capsys.readouterr().out
    for words in (NAME, "458,592 parameters", "mae, muon", "1 epochs, 2 steps", "256 images"):
        assert words in printed
    assert not (tmp_path / "never").exists()


@pytest.mark.long
def test_the_card_is_rewritten_alone(trained):
    card = (trained / "README.md").read_text()
    (trained / "README.md").unlink()
    run(trained, "nowhere", encoder="card")
    assert (trained / "README.md").read_text() == card


BAD = {
    "no test images": ({"test_data": ""}, "source '' is unknown"),
    "member": ({"encoder": "resnet50"}, "encoder='resnet50': choose one of mini_resnet50"),
    "epochs": ({"epochs": 0}, "epochs=0: give 1 or more"),
    "few": ({"data": "sample:texture:16"}, "16 images, fewer than a batch of 128"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path, data):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", data, **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
