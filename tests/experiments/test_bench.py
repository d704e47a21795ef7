"""The benchmark: counts of flops and bytes, growth, one-line errors, and small runs end to end."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import bench as launcher
from experiments.benchmarks import cases, growth, kernel_calls, measure, peers, score_times, work
from experiments.benchmarks.page import bench_page
from experiments.benchmarks.results import (
    BenchResult,
    ForwardRate,
    KernelTime,
    PeerTime,
    Rates,
    ScoreTime,
    SkippedStep,
)
from experiments.benchmarks.work import Size
from substrate_jax.analyses.transferability.scores.table import SCORES, SOURCE
from substrate_jax.kernels import MEASURES
from substrate_jax.report.files import write_report
from substrate_jax.report.run import Run

QUICK = {"rows": ["48"], "shrink": 64, "repeats": 1, "peer_seconds": 0.0, "quiet": True}


@pytest.fixture(autouse=True)
def parsed_flags():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


def run(out: Path, **changes) -> dict:
    with flagsaver.flagsaver(**QUICK | {"out": str(out)} | changes):
        launcher.run()
    return json.loads((out / "result.json").read_text())


def symmetric_product_flops(rows: int, length: int) -> int:
    """Counted entry by entry: the upper triangle of A A' for A [rows, length]."""
    return sum(2 * length for i in range(rows) for _ in range(i, rows))


def gram_by_hand(n: int, widths: tuple[int, ...]) -> int:
    grams = sum(symmetric_product_flops(n, d) for d in widths)
    pairs = list(itertools.combinations_with_replacement(widths, 2))
    return grams + sum(2 for _ in pairs for i in range(n) for _ in range(i, n))


def feature_by_hand(n: int, widths: tuple[int, ...]) -> int:
    entries = sum(1 for i in range(sum(widths)) for _ in range(i, sum(widths)))
    return entries * (2 * n + 2)


def test_flops_of_cka_are_those_counted_entry_by_entry():
    wide, long = Size(3, (4, 5)), Size(20, (2, 1))
    assert work.cka(wide).flops == gram_by_hand(3, (4, 5)) < feature_by_hand(3, (4, 5))
    assert work.cka(long).flops == feature_by_hand(20, (2, 1)) < gram_by_hand(20, (2, 1))
    assert work.cka(wide).bytes == 4 * (3 * 9 + 3)


# Kernel and size -> flops and bytes written out by hand.
BY_HAND = {
    # products 6 entries x (2 x 4 + 2); norms 4 x 2 times rows 4 x 3; one batch of 6 + 2 x 3 sums
    "streaming_cka": (Size(4, (2, 1)), 60 + 2 * 2 * 3 * 4, 4 * (12 + 2 * (6 + 6))),
    # Grams 6 entries x 2 x 3, 3 pairs x 6 entries x 2, 200 draws x 1 pair x 6 entries x 2
    "permutation_null": (Size(3, (2, 1)), 36 + 36 + 200 * 12, 4 * (9 + 3 + 200)),
    # 3 pairs of rows x 2 x 5
    "mutual_knn": (Size(3, (2, 3), 1), 30, 4 * (15 + 3)),
    # scatter 3 entries x 2 x 6, 4/3 x 8 and 2 x 4 for the vectors
    "exact_pca": (Size(6, (2,), 1), 36 + 32 / 3 + 8, 4 * (12 + 2)),
    # X Q and X'Y: 2 x (2 x 6 x 50 x 18)
    "subspace_pass": (Size(6, (50,), 2), 21600, 4 * (300 + 2 * 50 * 18)),
    # the same products with 3 x 2 + 16 columns; two batches
    "streaming_pca": (Size(1200, (50,), 2), 4 * 1200 * 50 * 22, 4 * (60000 + 3 * 2 * 50 * 22)),
    # B'A 2 x 10 x 9, SVD 22 x 27, product 2 x 27
    "procrustes": (Size(10, (3,), 3), 180 + 594 + 54, 4 * (60 + 9)),
    # 4 projections x 2 x 5 x 4 x 2; twice 1 cross 2 x 5 x 4 and 2 symmetric 3 x 2 x 5
    "pcka": (Size(5, (4, 4), 2), 320 + 2 * (40 + 60), 4 * (2 * 4 * 7 + 3)),
}


@pytest.mark.parametrize("kernel", BY_HAND)
def test_work_is_what_a_hand_count_gives(kernel):
    size, flops, bytes_moved = BY_HAND[kernel]
    counted = getattr(work, kernel)(size)
    assert counted.flops == pytest.approx(flops, rel=1e-12)
    assert counted.bytes == bytes_moved
    assert (counted * 3).flops == pytest.approx(3 * flops)
    assert counted.intensity == counted.flops / counted.bytes


def test_every_benchmark_counts_work_at_all_of_its_sizes():
    for benchmark in cases.BENCHMARKS:
        for axis, sizes in benchmark.ladders.items():
            along = measure.AXES[axis]
            assert len({along(size) for size in sizes}) == len(sizes) > 2
            others = {
                tuple(f(size) for name, f in measure.AXES.items() if name != axis) for size in sizes
            }
            assert len(others) == 1, (benchmark.label, axis)
            for size in sizes:
                counted = benchmark.work(size)
                assert counted.flops > 0
                assert counted.bytes >= 4 * size.n
                assert benchmark.expected_flops(size) >= counted.flops


def synthetic_row(n: int, exponent: float, **changes) -> KernelTime:
    fields = {
        "benchmark": "cka",
        "variant": "",
        "label": "cka",
        "axes": ["N"],
        "n": n,
        "widths": (4, 4),
        "total_width": 8,
        "encoders": 2,
        "k": None,
        "passes": 1.0,
        "seconds": 3e-9 * n**exponent,
        "repeats": 1,
        "compile_seconds": 1.0,
        "flops": 5.0 * n**2,
        "bytes": 1.0,
        "intensity": 1.0,
        "flops_per_second": 1.0,
        "bytes_per_second": 1.0,
        "memory_bytes": None,
        "peers": [],
    }
    return KernelTime(**fields | changes)


def test_growth_is_the_exponent_of_a_power_law():
    def peer(n):
        words = "2 of 14 encoders" if n == 100 else None
        named = {"name": "other", "package": "other", "version": "1", "quantity": "", "note": ""}
        return PeerTime(**named, seconds=n**3.0, extrapolated_from=words)

    rows = [synthetic_row(n, 1.7, peers=[peer(n)]) for n in (100, 200, 800)]
    ours, theirs = growth.growth(rows)
    assert (ours.method, ours.axis, ours.points) == ("substrate_jax", "N", 3)
    assert ours.seconds == pytest.approx(1.7)
    assert ours.flops == pytest.approx(2.0)
    assert (theirs.method, theirs.points, theirs.flops) == ("other", 2, None)
    assert theirs.seconds == pytest.approx(3.0)
    assert growth.growth(rows[:1]) == []
    # Slopes are of least squares: a factor on the middle of three evenly spaced sizes cancels.
    rows = [synthetic_row(n, 2.0) for n in (100, 200, 400)]
    rows[1] = dataclasses.replace(rows[1], seconds=5 * rows[1].seconds)
    assert growth.growth(rows)[0].seconds == pytest.approx(2.0)


def test_drift_is_the_share_that_the_least_ceiling_is_below_the_largest():
    rates = {"before": Rates(10.0, 4.0), "middle": Rates(8.0, 5.0), "after": Rates(9.0, 5.0)}
    found = growth.summary(rates)
    assert found.best == Rates(10.0, 5.0)
    assert dataclasses.astuple(found.drift) == pytest.approx((0.2, 0.2))


def fake_peer(**changes) -> peers.Peer:
    """A peer that knows the answer to `features`: zeros [E, E] against ours."""
    fields = {
        "name": "zeros",
        "package": "numpy",
        "module": "numpy",
        "prepare": lambda size, blocks: lambda: np.zeros((len(blocks), len(blocks))),
        "quantity": "cka",
        "flops": lambda size: 100.0 * size.encoders,
        "least": 2,
    }
    return peers.Peer(**fields | changes)


def test_a_peer_is_compared_extrapolated_skipped_or_named():
    size, ours = Size(8, (1, 1, 1, 1)), {"cka": np.full((4, 4), 0.25)}
    blocks = kernel_calls.features(size, 0)
    whole = measure.peer_row(fake_peer(), size, blocks, ours, 1, flops=400.0)
    assert whole.difference == 0.25
    assert whole.version == np.__version__
    assert whole.extrapolated_from is None
    cut = measure.peer_row(fake_peer(), size, blocks, ours, 1, flops=399.0)
    assert cut.extrapolated_from == "3 of 4 encoders"
    assert cut.seconds > 0
    for peer, message in (
        (fake_peer(least=None), "too slow at this size"),
        (fake_peer(module="no_such_module_1"), "not installed (pip install numpy)"),
        (fake_peer(package="no-such-package-1"), "not installed (pip install no-such-package-1)"),
        (fake_peer(prepare=lambda size, blocks: [].pop()), "failed: IndexError"),
        (fake_peer(memory=lambda size: 1e15), "too slow at this size"),
    ):
        row = measure.peer_row(peer, size, blocks, ours, 1, flops=399.0)
        assert message in row.skipped
        assert row.seconds is None


def test_scipy_and_scikit_learn_agree_with_ours():
    for benchmark in cases.BENCHMARKS:
        for peer in benchmark.peers:
            if peer.package not in ("scipy", "scikit-learn") or peer is peers.INCREMENTAL_PCA:
                continue
            k = 4
            width = k if benchmark.name == "procrustes" else 40
            step = measure.Step(benchmark, Size(60, (width,), k), ("N",))
            row = measure.measure(step, seed=0, repeats=1, ceiling=1e12, peer_seconds=60)
            (found,) = row.peers
            assert found.difference < 1e-4, found
            if benchmark.name == "pca":
                assert max(found.sine, found.our_sine) < 1e-3
            assert row.passes >= 1


def test_a_stream_holds_no_more_with_more_rows():
    (benchmark,) = (each for each in cases.BENCHMARKS if each.name == "streaming_pca")
    one, two = (
        measure.measure(
            measure.Step(benchmark, Size(n, (40,), 4), ("N",)),
            seed=0,
            repeats=1,
            ceiling=1e12,
            peer_seconds=60,
        )
        for n in (work.BATCH, 2 * work.BATCH)
    )
    assert one.memory_bytes == two.memory_bytes
    # One pass on white noise of 40 features with 28 columns: near, not exact.
    assert two.peers[0].our_sine < 0.5


def test_batches_of_a_stream_are_nearly_equal():
    for n in (1, work.BATCH, work.BATCH + 1, 13394):
        steps, rows = work.batches(Size(n, (4,)))
        assert rows <= work.BATCH
        assert 0 <= steps * rows - n < steps


def test_a_peer_that_cannot_be_cut_to_its_seconds_is_not_counted():
    size = Size(64, (8, 8, 8))
    pairs = dataclasses.replace(peers.TORCH_PAIRS, package="numpy", module="numpy")
    benchmark = dataclasses.replace(cases.BENCHMARKS[0], peers=(pairs,))
    step = measure.Step(benchmark, size, ("N",))
    ceiling = pairs.flops(size.first(2)) / measure.EFFICIENCY  # two encoders in a second
    alone = step.seconds(ceiling, 3, 0.0)
    assert step.seconds(ceiling, 3, 0.9) == alone
    assert step.seconds(ceiling, 3, 1.1) == pytest.approx(alone + 1.1)


def test_every_measure_has_a_benchmark():
    own = {"cka", "debiased_cka", "mutual_knn"}  # of kernels that have one by another name
    measured = {each.variant for each in cases.BENCHMARKS if each.name == "measures"}
    assert measured == set(MEASURES) - own
    size = Size(6, (2, 3))
    for name in measured:
        counted = work.MEASURES[name](size)
        # At least the products of the rows of each encoder with each other, or of the pair.
        assert counted.flops >= min(2 * work.triangle(5) * 5, 2 * 6 * 2 * 3), name


def test_the_plan_replaces_rows_and_goes_from_cheap_to_dear():
    steps = measure.plan(["cka", "pca"], [], 1)
    assert {axis for step in steps for axis in step.axes} == {"N", "D", "E"}
    flops = [step.benchmark.expected_flops(step.size) for step in steps if not step.benchmark.peers]
    assert flops == sorted(flops)
    assert steps[-1].size.n == 13394
    assert [steps[i].repeats(1e11, 3) for i in (0, -1)] == [3, 1]
    rows = measure.plan(["cka"], [13394], 1)
    assert {(step.benchmark.label, step.size.n, step.size.total) for step in rows} == {
        ("cka", 13394, sum(cases.PAPER_WIDTHS)),
        ("cka (gram space)", 13394, sum(cases.NARROW_WIDTHS)),
        ("cka (feature space)", 13394, sum(cases.NARROW_WIDTHS)),
    }
    assert {step.axes for step in rows} == {("N",)}
    small = measure.plan(["cka"], [], 64)
    assert max(step.size.n for step in small) == 13394 // 64
    assert min(min(step.size.widths) for step in small) >= 4


def test_ratios_are_of_equal_sizes_and_a_choice_is_charged_with_its_loss():
    rows = [
        synthetic_row(n, 0.0, label=label, variant=variant, widths=[4, 4], seconds=seconds)
        for n, label, variant, seconds in (
            (16, "cka (gram space)", "gram space", 2.0),
            (16, "cka (feature space)", "feature space", 1.0),
            (99, "cka (feature space)", "feature space", 1.0),
        )
    ]
    (ratio,) = growth.ratios(rows)
    assert (ratio.label, ratio.n, ratio.ratio) == ("cka (feature space)", 16, 0.5)
    (choice,) = growth.choices_of_space(rows)  # 16 rows of 8 features: 8^2 < 16 (8 + 6 x 2^2)
    assert (choice.space, choice.loss) == ("feature", 1.0)
    rows[0] = dataclasses.replace(rows[0], seconds=0.25)
    assert growth.choices_of_space(rows)[0].loss == 4.0


LABELS = ("cka", "cka (gram space)", "cka (feature space)", "mutual_knn", "procrustes")


def narrow(benchmark: cases.Benchmark) -> cases.Benchmark:
    """The same kernel for two encoders, which compile in a fraction of the time."""
    k = benchmark.ladders["N"][0].k and 4
    widths = (4,) if k and benchmark.ladders["N"][0].encoders == 1 else (8, 6)
    return dataclasses.replace(benchmark, ladders={"N": [Size(32, widths, k)]})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    out = tmp_path_factory.mktemp("bench")
    what = ["cka", "mutual_knn", "procrustes"]
    table = tuple(narrow(b) if b.name in what else b for b in cases.BENCHMARKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BENCHMARKS", table)
        return out, run(out, what=what, rows=["32", "48"], peer_seconds=60.0)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """The result that a run hands on, before it is JSON."""
    found = []
    monkeypatch.setattr(launcher.launch, "publish", lambda result, *rest: found.append(result))
    with flagsaver.flagsaver(**QUICK | {"what": ["ceilings"], "out": str(tmp_path / "run")}):
        launcher.run()
    return found[0]


def test_a_run_writes_all_keys_and_every_rate(finished):
    out, result = finished
    run, *own = dataclasses.fields(BenchResult)
    keys = {field.name for field in (*dataclasses.fields(Run), *own)}
    assert run.name == "run"
    assert keys - set(result) == {"batch_size", "dtype", "torch", "files"}  # of others
    assert [(row["label"], row["n"]) for row in result["rows"]] == [
        (name, n) for name in LABELS for n in (32, 48)
    ]
    assert {(row["label"], row["base"], row["n"]) for row in result["ratios"]} == {
        ("cka (feature space)", "cka (gram space)", n) for n in (32, 48)
    }
    assert any("cost model took the faster space at" in note for note in result["notes"])
    for row in result["rows"]:
        assert row["seconds"] > 0
        assert row["flops_per_second"] == pytest.approx(row["flops"] / row["seconds"])
        best = result["ceilings"]["best"]
        assert row["flops_fraction"] == pytest.approx(
            row["flops_per_second"] / best["flops_per_second"]
        )
        inputs = 4 * row["n"] * row["total_width"]
        assert row["memory_bytes"] >= inputs
    assert {g["label"] for g in result["growth"]} == set(LABELS)
    assert set(result["ceilings"]["measured"]) >= {"before", "after"}
    assert result["peak_memory_bytes"] > 1 << 20
    assert {p.name for p in out.iterdir()} == {".lock", "result.json", "report.html", "figures"}


def test_peers_are_timed_or_named_as_missing(finished):
    out, result = finished
    found = [peer for row in result["rows"] for peer in row["peers"]]
    assert {peer["package"] for peer in found} >= {"scipy", "torch", "pytorch-cka", "faiss-cpu"}
    for peer in found:
        if peer["version"] is None:
            assert peer["skipped"] == f"not installed (pip install {peer['package']})"
        elif "skipped" not in peer:
            assert peer["difference"] < 0.5
            assert peer["ratio"] > 0
    assert any(peer["package"] == "scipy" and peer["difference"] < 1e-4 for peer in found)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "LogME" in text
    for state in result["peers"].values():
        assert state in text


def test_the_report_shows_ceilings_roofline_growth_and_sizes(finished):
    out, _ = finished
    names = {path.stem for path in (out / "figures").iterdir()}
    assert names == {"bench-roofline", "bench-cka-n", "bench-mutual_knn-n", "bench-procrustes-n"}
    text = (out / "report.html").read_text(encoding="utf-8")
    for words in ("matrix product", "Copy, GB/s", "Exponent of the time", "% of product", "N^"):
        assert words in text
    assert ">nan<" not in text


def test_a_page_without_sizes_shows_the_ceilings(tmp_path):
    result = run(tmp_path, what=["ceilings"])
    assert result["rows"] == []
    assert set(result["ceilings"]["measured"]) == {"before", "after"}
    assert "Roofline" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.long
def test_stages_of_the_analysis_of_domains_are_timed(tmp_path, capsys):
    result = run(tmp_path, what=["domains"], rows=["24"])
    assert [part["stage"] for part in result["domain_stages"]] == ["comparison", "controls"]
    for part in result["domain_stages"]:
        assert part["first_seconds"] > 0
        assert part["seconds"] > 0
        assert part["rows"] == 24
    assert "comparison" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "controls     8 domains of 24 images" in capsys.readouterr().out


@pytest.mark.long
def test_scores_of_transferability_are_timed_beside_a_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(score_times, "WIDTHS", (768,))
    path = tmp_path / "LogME.py"
    path.write_text(
        "class LogME:\n    def fit(self, f, y):\n        return float(f[y == 0].mean())\n"
    )
    result = run(tmp_path, what=["transferability"], rows=["60"], shrink=48, logme=str(path))
    timed = {(row["score"], row["width"]) for row in result["score_times"]}
    titles = [score.title for score in SCORES.values() if SOURCE not in score.needs]
    assert timed == {(name, 16) for name in (*titles, score_times.PUBLISHED)}
    assert all(row["first_seconds"] > 0 and row["seconds"] > 0 for row in result["score_times"])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Published LogME / this" in page
    assert "subs-rank" in capsys.readouterr().out


def test_scores_beyond_the_budget_are_left_out_and_named(monkeypatch):
    monkeypatch.setattr(score_times, "WIDTHS", (768,))
    left = itertools.chain([1e9] * 13, itertools.repeat(0.0))
    found = list(score_times.measure_scores((60, 120), 48, 1, 0, None, lambda: next(left)))
    assert [type(each) for each in found] == [ScoreTime] * 13 + [SkippedStep] * 13
    assert all(step.estimated_seconds > 0 for step in found[13:])
    assert found[13].size == "N = 120, D = 16"


@pytest.mark.parametrize("text", ["", "import no_such_module_at_all", "def (", None])
def test_a_file_that_is_not_the_published_logme_is_refused(text, tmp_path):
    path = tmp_path / "LogME.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"logme=.*give LogME\.py") as caught:
        run(tmp_path / "out", what=["transferability"], rows=["60"], logme=str(path))
    assert "\n" not in str(caught.value)


def test_scores_need_some_rows(tmp_path):
    with pytest.raises(ValueError, match="rows=40: scores of 10 classes need 60 or more"):
        run(tmp_path / "out", what=["transferability"], rows=["40", "80"])


def test_logme_is_timed_with_the_scores_alone(tmp_path):
    with pytest.raises(ValueError, match="is timed with --what=transferability alone"):
        run(tmp_path / "out", what=["ceilings"], logme="LogME.py")


def test_steps_beyond_the_budget_are_left_out_and_named(tmp_path, capsys):
    result = run(tmp_path, what=["procrustes"], budget_seconds=1.0)
    assert result["rows"] == []
    assert [step["label"] for step in result["skipped"]] == ["procrustes"]
    assert "left out: procrustes N=48" in capsys.readouterr().out
    assert any("left out" in note for note in result["notes"])
    assert "Left out to keep to the budget" in (tmp_path / "report.html").read_text(
        encoding="utf-8"
    )


def test_a_step_that_does_not_fit_with_its_peers_runs_without(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "ceilings", lambda shrink: Rates(1e9, 1e9))
    flops = 400 * 1e9 * measure.EFFICIENCY  # within its seconds, beyond those of the run
    slow = dataclasses.replace(peers.SCIPY_PROCRUSTES, flops=lambda size: flops)
    table = tuple(
        dataclasses.replace(narrow(b), peers=(slow,)) if b.name == "procrustes" else b
        for b in cases.BENCHMARKS
    )
    monkeypatch.setattr(measure, "BENCHMARKS", table)
    result = run(tmp_path, what=["procrustes"], budget_seconds=300.0, peer_seconds=500.0)
    (row,) = result["rows"]
    assert row["peers"] == []
    (step,) = result["skipped"]
    assert step["label"] == "procrustes, peers"
    assert step["estimated_seconds"] == pytest.approx(500)
    assert "left out: procrustes, peers N=48" in capsys.readouterr().out
    assert any("and the peers of 1 more" in note for note in result["notes"])


def test_forward_rows_become_a_table(published, tmp_path):
    rates = [ForwardRate("resnet50", 2.0, 9.25), ForwardRate("resnet50", 2.0, 9.25, 7.5, 1.2333, 0)]
    result = dataclasses.replace(published, forward=rates, dtype="float32", batch_size=16)
    text = write_report(result, bench_page(result), tmp_path).read_text("utf-8")
    assert "resnet50" in text
    assert "9.250" in text
    assert "1.23×" in text


def test_forward_passes_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.clear_caches", lambda: None)  # those of the other tests
    changes = {"what": ["extract"], "encoders": ["mini_mae_base", "mini_clip_base"]}
    result = run(tmp_path, **changes)
    assert [row["encoder"] for row in result["forward"]] == changes["encoders"]
    for row in result["forward"]:
        assert row["compile_seconds"] > 0
        assert row["images_per_second"] > 0
        if "difference" in row:  # where timm is installed
            assert row["difference"] < 1e-4
    assert (result["batch_size"], result["dtype"]) == (16, "float32")
    assert "mini_mae_base" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, capsys):
    changes = {"what": ["all"], "dry_run": True, "out": str(tmp_path / "never")}
    with flagsaver.flagsaver(**QUICK | changes):
        launcher.run()
    printed = capsys.readouterr().out
    for words in (*cases.NAMES, "needed flops", "estimated", "N=48", "peer torch", "LogME"):
        assert words in printed
    assert not (tmp_path / "never").exists()


def test_an_interrupted_run_leaves_the_last_result_alone(tmp_path, monkeypatch, capsys):
    (tmp_path / "result.json").write_text("{}")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "measure", interrupted)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, what=["procrustes"])
    assert caught.value.code == 130
    assert "nothing was written" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "result.json"}
    assert (tmp_path / "result.json").read_text() == "{}"


BAD = {
    "unknown kernel": ({"what": ["cca"]}, "what='cca'.*cka.*procrustes.*all, ceilings, extract, "),
    "all with others": ({"what": ["all", "cka"]}, "what='all,cka': give all alone"),
    "no kernel": ({"what": []}, "what=''"),
    "rows": ({"rows": ["64", "many"]}, "rows='64,many': give whole numbers of 16 or more"),
    "few rows": ({"rows": ["3"]}, "rows='3': give whole numbers of 16"),
    "repeats": ({"repeats": 0}, "repeats=0: give 1 or more"),
    "shrink": ({"shrink": 0}, "shrink=0: give 1 or more"),
    "budget": ({"budget_seconds": float("nan")}, "budget_seconds=nan: give 1 or more seconds"),
    "peers": ({"peer_seconds": -1.0}, "peer_seconds=-1: give 0 or more seconds"),
    "encoder": ({"what": ["extract"], "encoders": ["resnet51"]}, "resnet51"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_flags_end_in_one_line(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
