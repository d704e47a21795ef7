"""Documents that are generated say what the code says."""

import doctest
import re
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from substrate_jax.encoders import encoder_spec, list_encoders, registry, table
from substrate_jax.encoders.weights import parameter_count
from substrate_jax.features import Features
from tests.helpers import long
from tests.test_doctests import Checker

ROOT = Path(__file__).parents[1]
APPLICATIONS = ROOT / "docs" / "applications.md"
EMBEDDING = ROOT / "docs" / "embedding.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "add_encoder.md"


@pytest.mark.parametrize("path", table.documents(ROOT), ids=lambda path: path.name)
def test_encoder_tables_are_the_registrys(path):
    assert path.read_text() == table.documents(ROOT)[path], (
        "run python -m substrate_jax.encoders.table"
    )


def test_every_encoder_has_its_parameters_counted():
    assert table.parameters().keys() == set(list_encoders())


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny", "mini_mae_base", "efficientnet_b0"])
def test_counts_are_those_of_the_networks(name):
    assert table.parameters()[name] == parameter_count(encoder_spec(name).config)


def test_the_text_table_has_a_line_for_each_encoder():
    lines = table.text_table().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list_encoders()
    assert len({line.index("timm/") for line in lines if "timm/" in line}) == 1


@pytest.mark.parametrize("path", [long(APPLICATIONS), TUTORIAL], ids=lambda path: path.stem)
def test_examples_of_a_page_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    report = []
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=doctest.ELLIPSIS)
    text = path.read_text().replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, None, 0)
    runner.run(test, out=report.append)
    assert runner.tries > 8
    assert not runner.failures, "".join(report)


def test_hooks_of_the_applications_write_files_that_are_read(tmp_path, monkeypatch):
    """The lines themselves, on stand-ins for torch and a network."""
    (block,) = re.findall(
        r"```python\n(import numpy as np, torch.*?)```", APPLICATIONS.read_text(), re.S
    )
    monkeypatch.chdir(tmp_path)
    torch = types.ModuleType("torch")
    vars(torch)["no_grad"] = np.errstate  # any context
    monkeypatch.setitem(sys.modules, "torch", torch)

    class Tensor(np.ndarray):
        def float(self):
            return self.astype(np.float32).view(Tensor)

        def cpu(self):
            return self

        def numpy(self):
            return np.asarray(self)

    class Network:
        hooks: dict = {}  # noqa: RUF012

        def get_submodule(self, name):
            register = lambda hook: self.hooks.update({name: hook})  # noqa: E731
            return types.SimpleNamespace(register_forward_hook=register)

        def __call__(self, images):
            for place, hook in enumerate(self.hooks.values()):
                hook(None, None, (images + place).view(Tensor))

    images = np.arange(24.0).reshape(6, 4)
    loader = [(images[i : i + 2], [f"{row}.png" for row in (i, i + 1)]) for i in (4, 0, 2)]
    exec(block, {"network": Network(), "loader": loader})
    features = Features.read("layer4.npz").matched([f"{row}.png" for row in range(6)])
    np.testing.assert_array_equal(features["features"], images + 1)


def test_blocks_of_the_embedding_page_run_one_after_another(tmp_path, monkeypatch):
    """On what the page takes for given; its losses fall, and agree over devices."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(256, 8, 8, 3)).astype(np.float32)
    flat, ids = images.reshape(256, -1), tuple(f"{row}.png" for row in range(256))
    seen: dict = {
        **{f"features_{name}": flat[:, :width] for name, width in (("a", 5), ("b", 7), ("c", 3))},
        "features": Features(ids, None, {"one": flat[:, :20], "two": flat[:, 10:40] ** 2}),
        "train_ids": ids[::-1],
        "images": images[::-1],
        "labels": (images[::-1, 0, 0, 0] > 0).astype(np.int32),
        "batch_features": flat[:64],
        "projection": np.ones((192, 16), np.float32),
        "blocks": [flat[:16, :5]],
        "batches": [[np.tile(flat[:8], 12)[:, :width] for width in (2048, 768)]],
    }
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        for block in re.findall(r"^```python\n(.*?)^```", EMBEDDING.read_text(), re.S | re.M):
            if "batch_scores" in block:
                seen["batch_scores"] = seen["target"].scores[:64]
            exec(block, seen)
            if "by_hand" in block:
                one_device = jax.jit(jax.grad(seen["loss"]))(seen["parameters"], *seen["batch"])
        fresh = seen["Student"](seen["nnx"].Rngs(0))
        before, after = (
            float(seen["sj"].losses.cka_loss(student.features(seen["images"]), seen["scores"]))
            for student in (fresh, seen["student"])
        )
    assert after < before - 0.1
    np.testing.assert_allclose(seen["value"], seen["by_compiler"][2], rtol=1e-5)
    for found, want in zip(*map(jax.tree.leaves, (seen["slope"], one_device)), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())
    assert np.isfinite([seen[name] for name in ("error", "weight", "alignment")]).all()
    np.testing.assert_allclose(np.diagonal(seen["matrix"]), 1, rtol=1e-5)
