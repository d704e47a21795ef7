"""The launcher of transferability: published tables, a panel of files, and one-line errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import transferability as launcher
from substrate_jax.analyses.transferability.judgment import STATIC
from tests.report.document import Document, csv_text

TABLE = "model,target,accuracy,s\n" + "".join(
    f"m{model},t{target},{80 + model + target},{-model * 1.5}\n"
    for model in range(5)
    for target in range(3)
)
NAMES = ("one", "two", "three", "four")


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**{"out": str(out), "quiet": True, "bootstrap": 50} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Features of four encoders on two domains, one npz each, better from one to the next."""
    folder = tmp_path_factory.mktemp("features")
    items = []
    for seed, domain in enumerate(("sky", "sea")):
        rng = np.random.default_rng(seed)
        labels = np.arange(60) % 3
        for strength, name in enumerate(NAMES):
            features = rng.normal(size=(60, 8)) + 0.4 * strength * np.eye(3, 8)[labels]
            path = folder / f"{domain}_{name}.npz"
            ids = np.array([f"{domain}/{row}" for row in range(60)])
            np.savez(path, features=features.astype(np.float32), ids=ids, labels=labels)
            items.append(f"{domain}:{name}={path}")
    return items


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("transferability")
    return out, run(out, features=files, components=4, scores=["logme", "h_score", "subs_rank"])


def test_a_panel_of_files(finished):
    out, result = finished
    table = result["tables"]["panel"]
    assert [encoder["name"] for encoder in result["encoders"]] == list(NAMES)
    assert table["judgment"]["targets"] == ["sky", "sea"]
    assert set(table["scores"]) == {"logme", "h_score", "subs_rank", "alignment", "pcka"}
    assert table["truth"] == "probe"
    assert any("no column: for 4 of 4 encoders none" in note for note in result["notes"])
    assert np.shape(table["accuracy"]) == (4, 2)
    assert table["targets"]["sky"]["held_out"] == 30
    tau = table["judgment"]["value"][table["judgment"]["scores"].index("logme")]
    assert tau[table["judgment"]["metrics"].index("tau")] > 0
    assert "LogME" in (out / "report.html").read_text("utf-8")


def test_the_table_of_a_run_can_be_judged_again(finished, tmp_path):
    """The CSV of a report is in the form that --table reads, and gives the same judgment."""
    out, result = finished
    page = Document((out / "report.html").read_text("utf-8"))
    path = tmp_path / "again.csv"
    path.write_text(csv_text(page, "table_panel.csv"), "utf-8")
    again = run(tmp_path / "out", table=[str(path)])["tables"]["again"]["judgment"]
    first = result["tables"]["panel"]["judgment"]
    assert again["scores"] == first["scores"]
    np.testing.assert_allclose(again["value"], first["value"], atol=1e-12)


def test_accuracies_of_a_file(finished, files, tmp_path):
    _, first = finished
    path = tmp_path / "fine-tuned.csv"
    lines = [
        f"{name},{target},{10 * place + shift}"
        for place, name in enumerate(reversed(NAMES))
        for shift, target in enumerate(("sea", "sky"))
    ]
    path.write_text("\n".join(["model,target,accuracy", *lines, "five,sea,1", "five,sky,2"]))
    options = {"features": files, "components": 4, "scores": ["logme"]}
    result = run(tmp_path / "out", truth=str(path), **options)
    table = result["tables"]["panel"]
    assert table["accuracy"] == [[31, 30], [21, 20], [11, 10], [1, 0]]  # sky, sea
    assert table["scores"]["logme"] == first["tables"]["panel"]["scores"]["logme"]
    assert table["truth"] == "fine-tuned.csv"
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Accuracy is that of fine-tuned.csv" in page
    path.write_text("model,target,accuracy\none,sky,1\none,sea,1\n")
    with pytest.raises(ValueError, match=r"'fine-tuned' has no model 'two' \(3 of 4 are absent\)"):
        run(tmp_path / "absent", truth=str(path), **options)


@pytest.mark.long
def test_fine_tuning_goes_on_where_it_ended(tmp_path, monkeypatch):
    """Accuracies are kept as they come; what is known is not trained again."""
    trained = []

    def stand_in(encoder, images, labels, fitted, *, recipe, **options):
        trained.append(encoder.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        assert images.shape == (len(labels), 32, 32, 3)
        assert recipe.epochs == 3
        return 50.0 + len(trained)

    monkeypatch.setattr("substrate_jax.training.finetune.fine_tuned_accuracy", stand_in)
    options = {
        "encoders": ["mini_vit_base", "mini_clip_base", "mini_mae_base"],
        "domains": "medical",
        "components": 4,
        "n": 32,
        "scores": ["h_score"],
        "truth": "finetune",
        "finetune_epochs": 3,
    }
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **options)
    result = run(tmp_path, **options)
    assert trained == ["mini_vit_base", "mini_clip_base", "mini_clip_base", "mini_mae_base"]
    table = result["tables"]["panel"]
    assert table["accuracy"] == [[51.0], [53.0], [54.0]]
    assert "source_accuracy" in table["scores"]
    with pytest.raises(ValueError, match=r"epochs=4.*was begun with 3"):
        run(tmp_path, **options | {"finetune_epochs": 4})


def test_the_same_run_gives_the_same_numbers(finished, files, tmp_path):
    _, first = finished
    flags_ = {"features": files, "components": 4, "scores": ["logme", "h_score", "subs_rank"]}
    second = run(tmp_path, **flags_)
    for result in (first, second):
        result["tables"]["panel"].pop("seconds", None)
    assert second["tables"] == first["tables"]


def test_published_tables(tmp_path):
    result = run(tmp_path, table=["all"])
    assert set(result["tables"]) == {
        "supervised_cnn",
        "self_supervised",
        "model_spider",
        "medmnist",
    }
    for table in result["tables"].values():
        assert STATIC in table["judgment"]["scores"]
    assert result["tables"]["medmnist"]["directions"]["fu"] == -1
    assert (
        "Turned, since lower is better as published: fu." in (tmp_path / "report.html").read_text()
    )


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(TABLE)
    for sign, want in ((1, -1), (-1, 1)):
        result = run(tmp_path / f"out{sign}", table=[str(path)], direction=[f"s={sign}"])
        judged = result["tables"]["mine"]["judgment"]
        row = judged["scores"].index("s")
        assert judged["value"][row][judged["metrics"].index("tau")] == want


def test_plans(files, tmp_path, capsys):
    for changes in ({"table": ["all"]}, {"features": files}):
        with flagsaver.flagsaver(dry_run=True, out=str(tmp_path / "out"), components=4, **changes):
            launcher.run()
    said = capsys.readouterr().out
    assert "9 models x 11 targets" in said
    assert "lower is better: fu" in said
    assert "60 of 60" in said
    assert not (tmp_path / "out").exists()


BAD = {
    "unknown table": ({"table": ["nowhere.csv"]}, "'nowhere.csv' is no file"),
    "a table twice": ({"table": ["medmnist", "medmnist"]}, "'medmnist' is given twice"),
    "direction of a published table": (
        {"table": ["medmnist"], "direction": ["fu=1"]},
        "directions of published tables are known",
    ),
    "direction without a table": ({"direction": ["fu=1"]}, "direction='fu=1' without --table"),
    "direction without a sign": ({"table": ["medmnist"], "direction": ["fu"]}, "direction='fu'"),
    "unknown score": ({"scores": ["logme", "leap"]}, "scores='logme,leap': give all, or some"),
    "a score that needs a head": (
        {"scores": ["leep"], "encoders": ["mini_mae_base", "mini_dinov2_base"]},
        "scores='leep': no encoder of this run was trained",
    ),
    "one draw": ({"bootstrap": 1}, "bootstrap=1; give 0"),
    "no components": ({"components": 0}, "components=0: give 1 or more"),
    "few images": ({"domains": "texture", "n": 20}, "20 images are too few for 16 components"),
    "no such truth": ({"truth": "finetuned"}, "truth='finetuned': give probe, finetune, or a CSV"),
    "a rate of 0": (
        {"truth": "finetune", "finetune_learning_rate": 0.0},
        "finetune_learning_rate=0.0: give a positive",
    ),
    "fine-tuning in half precision": (
        {"truth": "finetune", "dtype": "bfloat16"},
        "weights train in float32",
    ),
    "alpha": ({"alpha": 0.0}, "alpha=0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


def test_encoders_with_classes_are_asked_for_them(files):
    from experiments.common import features as feature_files
    from substrate_jax.encoders import load_encoder

    encoders = [load_encoder(name) for name in ("mini_vit_base", "mini_clip_base")]
    rows = np.random.default_rng(0).normal(size=(6, 96)).astype(np.float32)
    features = {"sky": dict.fromkeys(("mini_vit_base", "mini_clip_base", "one"), rows)}
    with flagsaver.flagsaver(features=[f"one={files[0].partition('=')[2]}"]):
        opened = feature_files.open_files([])
    heads, without = launcher.source_heads(encoders, opened, features, ["sky"], None)
    assert {name: found.shape for name, found in heads["sky"].items()} == {
        "mini_vit_base": (6, 100)
    }
    assert without == {
        "mini_clip_base": "it was not trained on classes (image text)",
        "one": "of it there are only features",
    }
    assert launcher.source_heads(encoders, opened, features, ["sky"], ["logme"]) == ({}, {})
    with pytest.raises(
        ValueError, match="scores='leep': no encoder of this run has the classifier"
    ):
        launcher.source_heads(encoders[1:], opened, features, ["sky"], ["leep", "logme"])
