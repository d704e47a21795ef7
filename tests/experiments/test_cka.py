"""The main launcher: numbers against the oracles, resuming, and one-line errors."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import cka as launcher
from experiments.common import encoders as panel
from experiments.common import launch
from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.encoders import encoder_spec, load_encoder
from substrate_jax.features import FeatureStore, extract, forward
from substrate_jax.kernels.reference import statistics as reference
from substrate_jax.mesh import make_mesh
from tests.golden import result_keys
from tests.helpers import tolerance

ENCODERS = ["mini_vit_base", "mini_mae_base", "mini_clip_base"]
SMALL = {
    "encoders": ENCODERS,
    "domains": "texture,writing",
    "n": 48,
    "k": ["5", "10"],
    "components": 4,
    "batch_size": 24,
    "quiet": True,
}
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def near_ties(x: np.ndarray, k: int, margin: float) -> int:
    """Rows whose k-th and next neighbors are closer in cosine than rounding can tell apart."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    ranked = -np.sort(-cosine, axis=1)
    return int((ranked[:, k - 1] - ranked[:, k] < margin).sum())


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**SMALL | {"out": str(out)} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("cka")
    return out, run(out)


def test_numbers_are_those_of_the_oracles(finished):
    _, result = finished
    assert [encoder["name"] for encoder in result["encoders"]] == ENCODERS
    encoders = [load_encoder(name) for name in ENCODERS]
    rows, columns = np.triu_indices(len(ENCODERS), 1)
    for name, domain in result["domains"].items():
        features = extract(encoders, take(open_source(name), 48, 0), batch_size=24)
        blocks = [features[encoder].astype(np.float64) for encoder in ENCODERS]
        limit = tolerance(48 * 96)
        for key, debiased in (("cka", False), ("cka_debiased", True)):
            want = reference.pairwise_cka(blocks, debiased=debiased)
            np.testing.assert_allclose(domain[key], want, atol=limit * 10)
        for i, j in zip(rows, columns, strict=True):
            for k in (5, 10):
                got = domain["mutual_knn"][str(k)]["recall"][i][j]
                # A recall counts common neighbors over 48 k; a near tie may change it by one.
                ties = sum(near_ties(blocks[e], k, tolerance(96)) for e in (i, j))
                want = reference.mutual_knn(blocks[i], blocks[j], k)
                assert abs(got - want) * 48 * k < ties + 0.5
        calibrated = domain["calibrated"]
        score, tau = np.array(calibrated["score"]), np.array(calibrated["tau"])
        raw = np.array(domain["cka"])
        np.testing.assert_allclose(
            score, np.maximum((raw - tau) / (1 - tau), 0), atol=tolerance(1, condition=10)
        )
        assert calibrated["p_value"][0][0] is None
        q, p = (np.array(calibrated[key], float)[rows, columns] for key in ("q_value", "p_value"))
        assert (q >= p).all()
        assert domain["separation"]["ratio"] is None  # one discriminative and one masked encoder


def test_the_result_has_the_recorded_keys(finished):
    _, result = finished
    want = result_keys.recorded("cka")
    del want["domains"]["*"]["measures"]  # none was asked for
    assert result_keys.differences(result_keys.key_tree(result), want) == []


def test_pcka_is_that_of_separate_substrates(finished):
    _, result = finished
    encoders = [load_encoder(name) for name in ENCODERS]
    xs, bases = [], []
    for name in ("texture", "writing"):
        features = extract(encoders, take(open_source(name), 48, 0), batch_size=24)
        x = np.concatenate([features[encoder] for encoder in ENCODERS], axis=1).astype(np.float64)
        x = (x - x.mean(0)) / x.std(0)
        xs.append(x)
        bases.append(np.linalg.svd(x, full_matrices=False)[2][:4].T)
    want = reference.pcka(xs[0], bases[0], xs[1], bases[1])
    # A basis is known to the solver's residual, 1e-5, over the gap to the next component.
    assert result["pcka"]["matrix"][0][1] == pytest.approx(want, abs=1e-3)
    assert result["pcka"]["median"] == result["pcka"]["min"] == result["pcka"]["matrix"][0][1]
    assert result["pcka"]["min_pair"] == ["texture", "writing"]


def test_second_run_reads_the_store_and_repeats_the_numbers(finished, monkeypatch):
    out, first = finished

    def refuse(*arguments):
        raise AssertionError("computed features that were in the store")

    monkeypatch.setattr(forward, "program", refuse)
    second = run(out)
    varying = ("seconds", "command")
    assert {k: v for k, v in second.items() if k not in varying} == {
        k: v for k, v in first.items() if k not in varying
    }
    assert (out / "report.html").is_file()


@pytest.mark.long
def test_numbers_do_not_depend_on_the_mesh(finished, tmp_path):
    _, eight = finished
    one = run(tmp_path, mesh="data=1")
    encoders = [load_encoder(name) for name in ENCODERS]
    for name, domain in eight["domains"].items():
        other = one["domains"][name]
        by_eight, by_one = (
            extract(encoders, take(open_source(name), 48, 0), batch_size=24, mesh=make_mesh(mesh))
            for mesh in ("data=8", "data=1")
        )
        ties = 0
        for encoder in ENCODERS:
            a, b = (f[encoder].astype(np.float64) for f in (by_eight, by_one))
            # A cosine moves by at most twice the change of the unit vectors, either side of a gap.
            unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
            change = np.linalg.norm(unit[0] - unit[1], axis=1).max()
            ties += near_ties(a, 10, 4 * change + tolerance(96))
        for key in ("cka", "cka_debiased"):
            np.testing.assert_allclose(domain[key], other[key], atol=10 * tolerance(48 * 96))
        recalls = (np.array(d["mutual_knn"]["10"]["recall"]) for d in (domain, other))
        assert np.abs(np.subtract(*recalls)).max() * 480 < ties + 0.5


@pytest.mark.long
def test_permutation_calibration_follows_the_closed_form(finished, tmp_path):
    out, closed = finished
    sampled = run(
        tmp_path, calibration="permutation", permutations=400, store=str(out / "features")
    )
    for name, domain in sampled["domains"].items():
        assert domain["calibrated"]["method"] == "permutation"
        p = np.array(domain["calibrated"]["p_value"], float)[np.triu_indices(3, 1)]
        assert (p >= 1 / 401).all()
        tau, exact = (
            np.array(d["domains"][name]["calibrated"]["tau"])[np.triu_indices(3, 1)]
            for d in (sampled, closed)
        )
        # 400 draws give the 5 % quantile the spread of the null's 3.4 to 7.1 % quantiles (three
        # binomial deviations); a gamma tail puts those within 12 % of each other at this shape.
        np.testing.assert_allclose(tau, exact, rtol=0.2)


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "never"
    with flagsaver.flagsaver(**SMALL | {"out": str(out), "dry_run": True, "panel": "paper"}):
        launcher.run()
    printed = capsys.readouterr().out
    assert "mini_vit_base" in printed
    assert "to download: 0 MiB" in printed
    assert not out.exists()


@pytest.mark.long
def test_dry_run_estimates_the_seconds_of_its_stages(capsys):
    changes = {"dry_run": True, "encoders": ["mini_vit_base"]}
    with flagsaver.flagsaver(**SMALL | changes):
        launcher.run()
    *_, first, extract, analyse, report, total = capsys.readouterr().out.splitlines()
    assert first.startswith("estimate for 8 devices of cpu, rates measured now")
    seconds = [float(line.split()[1]) for line in (extract, analyse, report, total)]
    assert seconds[-1] == pytest.approx(sum(seconds[:-1]), abs=0.2)
    assert "decoding" in extract


BAD = {
    "unknown encoder": ({"encoders": ["resnet51"]}, "unknown encoder 'resnet51'.*resnet50"),
    "unknown domain": ({"domains": "textures"}, "textures.*texture"),
    "missing folder": ({"domains": "mine=dir:absent"}, "absent"),
    "missing npz": ({"domains": "mine=npz:absent.npz"}, "absent.npz"),
    "too many images": ({"n": 5000}, "5000.*512"),
    "k beyond the default n": ({"n": None, "k": ["600"]}, "n=512 .*k=600.*--n=601"),
    "few images": (
        {"n": None, "domains": "texture=sample:texture:9"},
        "'texture': 9 images are too few for k=10 neighbors and 4 components; give 11",
    ),
    "k beyond n": ({"k": ["60"]}, "n=48 .*k=60.*--n=61"),
    "k is no number": ({"k": ["ten"]}, "k='ten'"),
    "k below one": ({"k": ["0"]}, "k='0'"),
    "components beyond n": ({"components": 60}, "n=48 .*60 components"),
    "alpha": ({"alpha": 1.5}, "alpha=1.5"),
    "mesh": ({"mesh": "data=9"}, "data=9.*8"),
    "no permutations": ({"calibration": "permutation", "permutations": 3}, "permutations.*19"),
    "empty group": ({"encoders": ["image_text"], "panel": "mini", "n": 2}, "n=2 "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.long
def test_corrupt_image_is_named_and_can_be_skipped(tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(48):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (folder / "07.png").write_bytes((folder / "07.png").read_bytes()[:60])
    changes = {"domains": f"mine=dir:{folder}", "encoders": ENCODERS[:2], "mesh": "data=1"}
    with pytest.raises(ValueError, match=r"07\.png"):
        run(tmp_path / "out", **changes)
    assert not (tmp_path / "out" / "result.json").exists()
    result = run(tmp_path / "out", skip_bad=True, n=None, **changes)
    assert result["domains"]["mine"]["n"] == 47
    assert result["pcka"] is None
    said = "mine has 48 images, fewer than the 512 that are taken by default: all are used."
    assert said in result["notes"]
    assert said in " ".join((tmp_path / "out" / "report.html").read_text().split())


def test_an_encoder_whose_features_are_constant_is_named(finished, tmp_path, monkeypatch):
    extracted = panel.extract_features

    def with_a_dead_encoder(encoders, source, *args, **options):
        found = extracted(encoders, source, *args, **options)
        if source.name != "sample:texture":
            return found
        dead = np.full_like(found[ENCODERS[1]], 0.25)
        return dataclasses.replace(found, arrays={**found.arrays, ENCODERS[1]: dead})

    monkeypatch.setattr(panel, "extract_features", with_a_dead_encoder)
    result = run(tmp_path, store=str(finished[0] / "features"))
    (note,) = (note for note in result["notes"] if "the same features" in note)
    assert note.startswith(f"{ENCODERS[1]} gives every image of texture the same features")
    assert note.split(":")[0] in " ".join((tmp_path / "report.html").read_text().split())
    cka = np.array(result["domains"]["texture"]["cka"], float)
    assert (cka[1] == 0).all()
    assert not any("the same features" in note for note in finished[1]["notes"])


def test_weights_that_are_absent_are_in_the_plan(tmp_path, capsys):
    changes = {"encoders": ["resnet18"], "out": str(tmp_path / "out"), "dry_run": True}
    (tmp_path / "weights").mkdir()
    for present in (False, True):
        if present:
            (tmp_path / "weights" / "resnet18.safetensors").touch()
        with flagsaver.flagsaver(**SMALL | changes, weights_dir=str(tmp_path / "weights")):
            launcher.run()
        printed = capsys.readouterr().out
        (line,) = (line for line in printed.splitlines() if "resnet18 " in line)
        assert line.endswith("at hand") == ("to download: 0 MiB" in printed) == present
        where = f"not in {tmp_path / 'weights'}: put timm/resnet18.a1_in1k"
        assert line.endswith(where) != present


@pytest.mark.long
def test_decoding_processes_give_the_same_features(finished, tmp_path):
    out, _ = finished
    source, store = take(open_source("texture"), 48, 0), FeatureStore(tmp_path)
    with flagsaver.flagsaver(**SMALL | {"workers": 1}):
        encoders = [panel.load(encoder_spec("mini_mae_base"))]
        panel.extract_features(encoders, source, store, make_mesh(), None)
    (chunk,) = tmp_path.glob("*/000000.npy")
    assert chunk.read_bytes() == (out / "features" / chunk.relative_to(tmp_path)).read_bytes()


def test_a_paradigm_that_no_record_says_is_noted():
    specs = [encoder_spec("mini_mae_base")]
    assert panel.paradigm_notes(specs) == []
    specs.append(dataclasses.replace(specs[0], name="hf:org/some"))
    (note,) = panel.paradigm_notes(specs)
    assert note.startswith("hf:org/some is counted as masked reconstruction")


def test_absent_weights_say_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"resnet50.*weights=FOLDER.*mini panel"):
        run(tmp_path / "out", encoders=["resnet50"])
    with pytest.raises(ValueError, match=r"resnet50\.safetensors"):
        run(tmp_path / "out", encoders=["resnet50"], weights_dir=str(tmp_path))


def test_an_out_in_use_is_refused(tmp_path):
    with launch.claim(tmp_path / "out"), pytest.raises(ValueError, match="another run"):
        run(tmp_path / "out")


def test_command_line_prints_one_line_and_exits_with_2():
    """The error path of a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cka", "--encoders=resnet51"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: unknown encoder 'resnet51'")
    assert done.stdout == ""
