"""The wheel, the sdist and the editable install, in environments of their own, from elsewhere."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from substrate_jax.encoders import list_encoders
from substrate_jax.version import __version__

ROOT = Path(__file__).parents[1]
LINKED = ("kernels", "experiments")  # folders of the checkout that are installed within ours
# They import others where those are installed.
BENCHMARKS = "substrate_jax/experiments/benchmarks/"
HEAVY = ("torch", "tensorflow", "transformers", "tensorflow_datasets")
PROBE = f"""
import importlib.util, json, sys
import substrate_jax
found = {{
    "file": substrate_jax.__file__,
    "version": substrate_jax.__version__,
    "heavy": [name for name in {HEAVY!r} if name in sys.modules],
    "kernels": importlib.util.find_spec("kernels") is not None,
    "experiments": importlib.util.find_spec("experiments") is not None,
    "encoders": substrate_jax.list_encoders(panel="mini"),
}}
import numpy as np
from substrate_jax.kernels import pairwise_cka
x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
found["cka"] = np.asarray(pairwise_cka([x, 2 * x])).tolist()
from substrate_jax.encoders.find import find_weights
from substrate_jax.encoders.registry import encoder_spec
found["weights"] = [find_weights(encoder_spec(name)).is_file() for name in found["encoders"]]
print(json.dumps(found))
"""


def call(*command, cwd):
    """Run to the end without this process's import paths; stdout, or all output on failure."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    environment |= {"JAX_PLATFORMS": "cpu", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, since building writes into it."""
    folder = tmp_path_factory.mktemp("source") / "checkout"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=unwanted)
    assert all((folder / "substrate_jax" / name).is_symlink() for name in LINKED)
    return folder


def environment(folder):
    """A fresh environment in which this one's packages can be imported, ours left out.

    A path file is read in the folder it lies in alone, so an editable install of the project
    here does not reach there.
    """
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    here = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (Path(paths["purelib"]) / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n")
    return Path(paths["scripts"]) / "python"


def install(python, *what, cwd):
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    # An installed copy in the environment around would be seen, and must not be touched.
    call(*pip, "--no-deps", "--no-build-isolation", "--ignore-installed", *what, cwd=cwd)


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
    """A folder with an sdist, and the wheel that was made of what is in it."""
    folder = tmp_path_factory.mktemp("built")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    call(*build, source, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_the_wheel_holds_the_package_and_nothing_else(contents):
    metadata = f"substrate_jax-{__version__}.dist-info"
    assert {name.split("/")[0] for name in contents} == {"substrate_jax", metadata}
    assert len(set(contents)) == len(contents)
    assert not [name for name in contents if "__pycache__" in name]


def test_the_wheel_holds_every_module(contents):
    # rglob does not follow links in every Python version: list those folders by themselves.
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "substrate_jax").rglob("*.py")
        if path.relative_to(ROOT).parts[1] not in LINKED
    }
    for name in LINKED:
        linked = {path.relative_to(ROOT).as_posix() for path in (ROOT / name).rglob("*.py")}
        assert f"{name}/__init__.py" in linked
        modules |= {f"substrate_jax/{path}" for path in linked}
    assert {name for name in contents if name.endswith(".py")} == modules


def test_the_wheel_holds_data_and_license(contents):
    weights = {f"substrate_jax/mini/{name}.safetensors" for name in list_encoders(panel="mini")}
    templates = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "substrate_jax" / "report" / "templates").iterdir()
    }
    presets = {
        f"substrate_jax/{path.relative_to(ROOT).as_posix()}"
        for path in (ROOT / "experiments" / "presets").glob("*/*.flags")
    }
    assert templates
    assert presets
    assert weights | templates | presets | {"substrate_jax/py.typed"} <= set(contents)
    assert [name for name in contents if name.endswith("/LICENSE")]


def test_what_an_index_shows_is_well_formed(source, built, contents, wheel):
    """As twine checks it, but for how the README renders."""
    (sdist,) = built.glob("*.tar.gz")
    folder = sdist.name.removesuffix(".tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"{folder}/") for name in archive.getnames()}
        in_sdist = archive.extractfile(f"{folder}/PKG-INFO").read()
    assert {name for name in contents if name.startswith("substrate_jax/")} <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.cfg"} <= names
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = archive.read(f"substrate_jax-{__version__}.dist-info/METADATA")
    for text in (in_sdist, in_wheel):
        metadata = Metadata.from_email(text, validate=True)
        assert (metadata.name, str(metadata.version)) == ("substrate-jax", __version__)
        assert metadata.description_content_type == "text/markdown"
        assert metadata.description == (source / "README.md").read_text()


def check_probe(output, inside):
    found = json.loads(output)
    assert Path(found["file"]).resolve().is_relative_to(inside.resolve())
    assert found["version"] == __version__
    assert found["heavy"] == []
    assert not found["kernels"]
    assert not found["experiments"]
    assert found["encoders"] == list_encoders(panel="mini")
    assert all(found["weights"])
    for row in found["cka"]:
        for value in row:
            assert abs(value - 1) < 1e-5


def test_the_wheel_works_from_elsewhere(wheel, tmp_path):
    python = environment(tmp_path / "venv")
    install(python, wheel, cwd=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    output = call(python, "-c", PROBE, cwd=tmp_path / "elsewhere")
    check_probe(output, inside=tmp_path / "venv")
    words = ["cka", "--encoders=mini_mae_base,mini_clip_base", "--domains=texture", "--n=24"]
    words += ["--k=5", "--components=4", "--workers=1", "--nocompilation_cache", "--out=out"]
    printed = call(python.parent / "substrate-jax", *words, cwd=tmp_path / "elsewhere")
    assert printed.endswith("report: out/report.html\n")
    result = json.loads((tmp_path / "elsewhere" / "out" / "result.json").read_text())
    assert result["command"] == f"substrate-jax {' '.join(words)}"
    assert result["arguments"]["n"] == 24


@pytest.mark.long
def test_the_editable_install_works_from_elsewhere(source, tmp_path):
    python = environment(tmp_path / "venv")
    install(python, "--editable", source, cwd=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    output = call(python, "-c", PROBE, cwd=tmp_path / "elsewhere")
    check_probe(output, inside=source)


def distributions(metadata):
    """Names of what an install needs, and of all that extras for users add to it."""
    required, optional = set(), set()
    for line in metadata.splitlines():
        if found := re.match(r"Requires-Dist: ([\w.-]+)", line):
            name = found[1].lower().replace("-", "_")
            extra = re.search(r"extra == .(\w+)", line)
            if extra is None:
                required.add(name)
            elif extra[1] not in ("test", "develop"):
                optional.add(name)
    return required, required | optional


def imported(text):
    """Modules that a source imports, those of other packages: at once, and within functions."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    later = {id(node) for function in functions for node in ast.walk(function)}
    found = {True: set(), False: set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = {node.module}
        else:
            continue
        found[id(node) in later] |= {name.split(".")[0] for name in names}
    ours = set(sys.stdlib_module_names) | {"substrate_jax"}
    return found[False] - ours, found[True] - ours


def test_every_import_is_of_a_required_distribution(wheel):
    """Or, within a function, of one that an extra names."""
    with zipfile.ZipFile(wheel) as archive:
        modules = [name for name in archive.namelist() if name.endswith(".py")]
        sources = [archive.read(name) for name in modules if not name.startswith(BENCHMARKS)]
        metadata = archive.read(f"substrate_jax-{__version__}.dist-info/METADATA").decode()
    found = [imported(text) for text in sources]
    by_module = importlib.metadata.packages_distributions()
    for kind, allowed in enumerate(distributions(metadata)):
        for module in sorted(set().union(*(each[kind] for each in found))):
            names = {name.lower().replace("-", "_") for name in by_module.get(module, [module])}
            assert names & allowed, f"{module} is imported and not required"
