"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import experiments
import substrate_jax
from substrate_jax import kernels
from tests.helpers import long

FOLDER = Path(substrate_jax.__file__).parent
# Folder of each package, those that lie beside it under the name they are imported by.
FOLDERS = {
    "substrate_jax": FOLDER,
    "substrate_jax.kernels": (FOLDER / "kernels").resolve(),
    "experiments": Path(experiments.__file__).parent,
}
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")


def module_names():
    """Modules with an example."""
    for prefix, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            linked = ("kernels", "experiments")
            seen_elsewhere = prefix == "substrate_jax" and parts[0] in linked
            if ">>>" in path.read_text() and not seen_elsewhere:
                yield ".".join((prefix, *(part for part in parts if part != "__init__")))


def public_names():
    """What `__all__` offers, and the methods of the kernels' classes: name -> object."""
    found = {}
    for module in (substrate_jax, kernels):
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing):
                continue
            found[f"{module.__name__}.{name}"] = thing
            if inspect.isclass(thing) and module is kernels:
                methods = inspect.getmembers(thing, callable)
                found |= {
                    f"{module.__name__}.{name}.{method}": function
                    for method, function in methods
                    if not method.startswith("_") and method in vars(thing)
                }
    return found


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_has_an_example(name):
    thing = public_names()[name]
    documented = [thing]
    if inspect.isclass(thing):  # one of its own, or of what makes it
        documented += [value for key, value in inspect.getmembers(thing) if key in vars(thing)]
    assert any(">>> " in (inspect.getdoc(each) or "") for each in documented)


class Checker(doctest.OutputChecker):
    """Decimal numbers may differ by one in the last printed digit; all else is literal."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        literals = [" ".join(NUMBER.sub("#", text).split()) for text in (want, got)]
        numbers = zip(NUMBER.findall(want), NUMBER.findall(got), strict=False)
        return literals[0] == literals[1] and all(near(*pair) for pair in numbers)


def near(want, got):
    if "." not in want:
        return want == got
    mantissa, _, exponent = want.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(float(want) - float(got)) <= 1.001 * unit


# Analyses are compiled whole: their examples take ten times those of a kernel.
NAMES = [
    long(name) if name.startswith("substrate_jax.analyses") else name for name in module_names()
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    report = []
    runner = doctest.DocTestRunner(
        Checker(), verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    )
    for test in doctest.DocTestFinder().find(module, name):
        runner.run(test, out=report.append)
    assert runner.tries
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        ("0.50\n", "0.51\n", True),
        ("0.50\n", "0.52\n", False),
        ("[1.0, -2.5e-3]\n", "[1.0, -2.4e-3]\n", True),
        ("(4, 2)\n", "(4, 3)\n", False),
        ("0.5 a\n", "0.5 b\n", False),
        ("[0.5]\n", "[0.5, 0.5]\n", False),
        ("1.0\n", "nan\n", False),
    ],
)
def test_numbers_are_compared_to_their_last_digit(want, got, same):
    assert Checker().check_output(want, got, 0) is same
