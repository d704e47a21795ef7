"""Names of the kernels: a dotted path is a module, and the face hides none."""

import ast
import importlib
from pathlib import Path

import pytest

from substrate_jax import kernels

FOLDER = Path(kernels.__file__).parent
FILES = sorted(path.relative_to(FOLDER) for path in FOLDER.rglob("*.py"))


def dotted(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.with_suffix("").parts
    return ".".join(("substrate_jax.kernels", *(part for part in parts if part != "__init__")))


@pytest.mark.parametrize("name", [dotted(path) for path in FILES])
def test_a_dotted_path_is_a_module_and_nothing_else(name):
    module = importlib.import_module(name)
    assert module.__name__ == name
    found = kernels
    for part in name.split(".")[2:]:
        found = getattr(found, part)
    assert found is module


def test_no_public_name_hides_a_module_or_a_folder():
    assert set(kernels.__all__).isdisjoint(path.parts[0].removesuffix(".py") for path in FILES)
    assert len(set(kernels.__all__)) == len(kernels.__all__)
    assert all(hasattr(kernels, name) for name in kernels.__all__)


FOLDERS = [path for path in FILES if path.name == "__init__.py" and len(path.parts) > 1]


@pytest.mark.parametrize("path", FOLDERS, ids=str)
def test_a_folder_says_what_it_holds_and_passes_nothing_on(path):
    (only,) = ast.parse((FOLDER / path).read_text()).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)
