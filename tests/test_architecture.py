"""What an import loads, how an analysis is added, and that documents say what the code says."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from substrate_jax.version import __version__

ROOT = Path(__file__).parents[1]
COMMANDS = set((ROOT / "experiments").glob("*.py")) - {ROOT / "experiments" / "__init__.py"}
ANALYSES = sorted(
    path.parent.name for path in (ROOT / "substrate_jax" / "analyses").glob("*/__init__.py")
)
LINES = 350
HEAVY = {"jax", "numpy", "matplotlib", "transformers", "tensorflow_datasets"}

LOADED = """
import sys
{statement}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def fresh_python(*arguments: str, folder: Path = ROOT) -> str:
    """Standard output of a new process that sees the checkout, and `folder`."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT))),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def packages_loaded(statement: str) -> set[str]:
    """Names of the packages that a statement loads into a fresh process."""
    return set(fresh_python("-c", LOADED.format(statement=statement)).split())


def test_importing_the_package_loads_nothing_heavy():
    assert not packages_loaded("import substrate_jax") & HEAVY


def test_importing_the_kernels_loads_little_more_than_jax():
    more = packages_loaded("from substrate_jax import kernels") - packages_loaded("import jax")
    more -= {"jaxtyping", "wadler_lindig"}  # and what that prints with
    assert more - sys.stdlib_module_names == {"substrate_jax"}


def test_commands_work_under_their_name_in_the_installed_package():
    """Within experiments imports are relative, for it is substrate_jax.experiments there."""
    for path in (ROOT / "experiments").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert str(name).partition(".")[0] != "experiments", f"{path}:{node.lineno}"


def test_help_of_a_command_waits_for_nothing_heavy():
    names = sorted(path.stem for path in COMMANDS)
    statements = [f"import experiments.{name}" for name in names]
    loaded = packages_loaded("; ".join(statements)) & HEAVY
    assert not loaded, [s for s in statements if packages_loaded(s) & HEAVY]


# Of the report, what results and computations may use: it draws nothing.
PLAIN = {f"substrate_jax.report.{name}" for name in ("run", "values", "writing")}


def is_of_a_page(path: Path) -> bool:
    """Whether a module itself uses what pages are made of."""
    nodes = ast.walk(ast.parse(path.read_text()))
    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return any(name.startswith("substrate_jax.report") for name in imported - PLAIN)


def computations(analysis: str) -> list[str]:
    """Statements that import what an analysis computes with; its page is another module."""
    modules = set((ROOT / "substrate_jax" / "analyses" / analysis).glob("*.py"))
    pages = {path for path in modules if is_of_a_page(path)}
    has_command = (ROOT / "experiments" / f"{analysis}.py").is_file()
    assert ("page" in {path.stem for path in pages}) == has_command, analysis
    names = sorted(path.stem for path in modules - pages)
    return [f"import substrate_jax.analyses.{analysis}.{name}" for name in names]


def test_computations_load_no_part_of_a_page():
    statements = [statement for analysis in ANALYSES for statement in computations(analysis)]
    loaded = packages_loaded("; ".join(statements))
    assert "jax" in loaded
    assert "matplotlib" not in loaded, [s for s in statements if "matplotlib" in packages_loaded(s)]


EXAMPLE = {
    "example_analysis/__init__.py": '"""How bright images are."""\n',
    "example_analysis/compute.py": '''
"""Mean brightness of the images of a source."""

import dataclasses

import numpy as np

from substrate_jax.data.sources import Source
from substrate_jax.report.run import Run
from substrate_jax.report.values import INLINE


@dataclasses.dataclass(frozen=True)
class BrightnessResult:
    """What experiments.example would find.

    Attributes:
        run: how it was made.
        brightness: [n] mean over the pixels of each image, in [0, 1].
    """

    run: Run = dataclasses.field(metadata=INLINE)
    brightness: np.ndarray


def brightness(source: Source) -> np.ndarray:
    """Mean brightness of each image."""
    return np.array([source[row].image.mean() / 255 for row in range(len(source))])
''',
    "example_analysis/page.py": '''
"""The report: one table."""

from example_analysis.compute import BrightnessResult

from substrate_jax.report.page import Column, Page, Section, Table, provenance


def brightness_page(result: BrightnessResult) -> Page:
    """The page of one run."""
    rows = [{"row": i, "value": value} for i, value in enumerate(result.brightness)]
    columns = [Column("row", "Image", "count"), Column("value", "Brightness", "score")]
    table = Table("", "Mean over the pixels.", columns, rows, "brightness.csv")
    sections = [Section("Images", [table]), Section("How this was made", provenance(result.run))]
    return Page("How bright are these images?", "A throw-away analysis.", [], sections)
''',
    "example.py": '''
"""How bright images are."""

from pathlib import Path

from absl import flags

from experiments.common import launch
from experiments.common.stages import Stages

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(launch)
flags.DEFINE_string("images", "sample:texture:6", "A source of images.")


def run() -> None:
    """Compute, and write the report."""
    from example_analysis.compute import BrightnessResult, brightness
    from example_analysis.page import brightness_page

    from substrate_jax.data.domains import open_source
    from substrate_jax.mesh import make_mesh

    stages = Stages()
    with launch.claim(Path(FLAGS.out)) as out:
        with stages("brightness"):
            values = brightness(open_source(FLAGS.images))
        result = BrightnessResult(launch.describe_run("example", make_mesh()), values)
        launch.publish(result, brightness_page, lambda found: "done", out, stages)


if __name__ == "__main__":
    launch.start(run)
''',
}


def test_an_analysis_is_added_without_touching_what_is_there(tmp_path):
    for name, text in EXAMPLE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.lstrip())
    printed = fresh_python("-m", "example", "--out=out", "--quiet", folder=tmp_path)
    assert printed.splitlines() == ["done", f"report: {Path('out') / 'report.html'}"]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["experiment"] == "example"
    assert result["arguments"]["images"] == "sample:texture:6"
    assert result["seconds"].keys() == {"brightness", "report", "total"}
    assert len(result["brightness"]) == 6
    assert all(0 < value < 1 for value in result["brightness"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h1>How bright are these images?</h1>" in page
    assert "brightness.csv" in page


def test_modules_are_short():
    folders = [ROOT / name for name in ("substrate_jax", "kernels", "experiments")]
    modules = [path for folder in folders for path in folder.rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules}
    assert len(lengths) > 100
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def resolved(name: str) -> object:
    """The module, or what it holds, of a dotted name as docs/architecture.md writes it."""
    package = "" if name.startswith("experiments.") else "substrate_jax."
    parts = f"{package}{name}".split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[part] if part in fields else getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def named_in_architecture() -> list[str]:
    """Every dotted name in docs/architecture.md that is one of ours."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    ours = {path.stem for path in (ROOT / "substrate_jax").iterdir()} | {"experiments"}
    names = re.findall(r"`([a-z]\w*(?:\.\w+)+)`", text)
    return sorted({name for name in names if name.partition(".")[0] in ours})


def test_the_architecture_page_names_what_there_is():
    names = named_in_architecture()
    assert len(names) > 30
    for name in names:
        assert resolved(name) is not None, name


def test_contributors_run_what_ci_runs():
    checks = re.findall(r"^\.venv/bin/(?!pip).*", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    checks = [check.removesuffix(" &") for check in checks]  # there some run beside others
    assert "\n".join(checks) in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_citation_is_of_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
