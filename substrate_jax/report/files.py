"""From a result to what people read: result.json, figures and one self-contained report.html.

An experiment hands over one dict. `KEYS` are the same for all experiments: what was run, with
what, for how long, on which encoders. `OWN_KEYS` are those of one experiment. Matrices are lists of
lists in the order of "encoders" (or of the names beside them); None stands for a number that does
not exist. An experiment joins `PAGES` with a function from result to `Page`, and `SUMMARIES` with
one to text.

Cost: that of the figures, about 0.1 s each.

Not guaranteed: that two runs give the same bytes, for the result holds times. The figures of equal
results are equal with one version of matplotlib.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.page import bench_page
from substrate_jax.analyses.cka.page import cka_page, key_figures
from substrate_jax.analyses.domains.page import Sheets, domains_page, domains_summary
from substrate_jax.analyses.layers.page import layers_page, match_table
from substrate_jax.report import heatmaps as figures
from substrate_jax.report import page
from substrate_jax.report.html import render
from substrate_jax.report.shared_blocks import Thumbnails
from substrate_jax.report.text import number, text_table
from substrate_jax.report.values import plain

KEYS = (
    "experiment", "command", "versions", "devices", "seconds", "arguments", "encoders", "notes",
)  # fmt: skip
OWN_KEYS = {
    "cka": ("domains", "pcka"),
    "domains": (
        "k", "domains", "pcka", "grassmann", "procrustes", "sweep", "leave_one_out", "split_half",
    ),
    "layers": ("domain", "comparison"),
    "bench": (
        "what", "ceilings", "rows", "growth", "ratios", "skipped", "peers", "threads",
        "peak_memory_bytes",
    ),
}  # fmt: skip
PAGES: dict[str, Callable[..., page.Page]] = {
    "cka": cka_page,
    "domains": domains_page,
    "layers": layers_page,
    "bench": bench_page,
}


def write_result(result: Mapping[str, Any], folder: str | Path) -> Path:
    """Write `folder`/result.json, all of it or nothing.

    The keys in `KEYS` come first, then those of the experiment in `OWN_KEYS`, others after them by
    name; inside them the order is the given one. NaN and infinity become null, a row of a matrix
    stands on one line.

    Args:
        result: strings, numbers, arrays, lists and dicts.
        folder: made where it is missing.

    Returns:
        Path of the file.

    Raises:
        ValueError: a value that JSON cannot hold.
    """
    try:
        content = plain(result)
    except ValueError as error:
        raise ValueError(f"result holds {error}") from None
    own = OWN_KEYS.get(content.get("experiment"), ())
    first = {key: content[key] for key in (*KEYS, *own) if key in content}
    rest = {key: content[key] for key in sorted(content.keys() - first.keys())}
    return write_file(Path(folder) / "result.json", _json(first | rest) + "\n")


def write_report(
    result: Mapping[str, Any],
    folder: str | Path,
    *,
    thumbnails: Thumbnails | None = None,
    sheets: Sheets | None = None,
) -> Path:
    """Write `folder`/report.html, with its figures also as `folder`/figures/*.png.

    Args:
        result: what an experiment found, see the module.
        folder: made where it is missing.
        thumbnails: domain -> a few images, uint8 [h, w, 3], any sizes.
        sheets: for the experiment "domains", domain -> a list of `component`, `top` and `bottom`,
            the images with the highest and the lowest scores, most extreme first.

    Returns:
        Path of the report: one file that needs neither the network nor the figures beside it.

    Raises:
        ValueError: an experiment without a report, a missing key, or a matrix of the wrong size.
    """
    experiment = result.get("experiment")
    if experiment not in PAGES:
        raise ValueError(f"result['experiment'] is {experiment!r}; give one of {', '.join(PAGES)}")
    if missing := [key for key in (*KEYS, *OWN_KEYS[experiment]) if key not in result]:
        raise ValueError(f"result lacks {', '.join(missing)}; give the whole result")
    images = {"sheets": sheets or {}} if experiment == "domains" else {}
    report = PAGES[experiment](plain(result), thumbnails or {}, **images)
    for picture in report.pictures:
        write_file(Path(folder) / "figures" / f"{picture.key}.png", picture.png)
    return write_file(Path(folder) / "report.html", render(report))


def summary_table(result: Mapping[str, Any]) -> str:
    """The key figures as text for a terminal, narrower than 100 columns.

    Raises:
        ValueError: an experiment without a summary.
    """
    experiment = result.get("experiment")
    if experiment not in SUMMARIES:
        raise ValueError(
            f"result['experiment'] is {experiment!r}; give one of {', '.join(SUMMARIES)}"
        )
    return SUMMARIES[experiment](plain(result))


def _cka_summary(result: dict) -> str:
    rows = [("domain", "images", "median CKA", "discriminative", "MIM", "ratio", "q < α")]
    for name, domain in result["domains"].items():
        s, key = domain["separation"], key_figures(name, domain, len(result["encoders"]))
        rows.append((
            figures.drawable(name), str(domain["n"]), number(key["median"]),
            f"{number(s['discriminative_mean'])} ({s['discriminative_pairs']})",
            f"{number(s['mim_mean'])} ({s['mim_pairs']})", number(s["ratio"], "ratio"),
            f"{key['significant']}/{key['tested']}",
        ))  # fmt: skip
    lines = text_table(rows)
    lines.append("discriminative, MIM: mean calibrated CKA (number of pairs)")
    if pcka := result["pcka"]:
        pair = " and ".join(map(figures.drawable, pcka["min_pair"]))
        lines.append(f"PCKA between domains (K = {pcka['k']}): median {number(pcka['median'])}, "
                     f"least {number(pcka['min'])}\n  ({pair})")  # fmt: skip
    return "\n".join(line.rstrip() for line in lines)


SUMMARIES: dict[str, Callable[[dict], str]] = {
    "cka": _cka_summary,
    "domains": domains_summary,
    "layers": match_table,
}


def _json(value: Any, indent: str = "") -> str:
    """JSON with lists of scalars on one line."""
    if not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, list) and not any(isinstance(item, (list, dict)) for item in value):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + "  "
    if isinstance(value, list):
        (left, right), lines = "[]", [_json(item, deeper) for item in value]
    else:
        left, right = "{}"
        lines = [f"{json.dumps(key)}: {_json(item, deeper)}" for key, item in value.items()]
    body = ",\n".join(deeper + line for line in lines)
    return f"{left}\n{body}\n{indent}{right}"


def write_file(path: Path, content: bytes | str) -> Path:
    """Write to a temporary name beside `path` and rename, so that readers see all of it or none."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
