"""Tables of every input and head: by kind of input, and one row for each."""

import numpy as np
from jaxtyping import Float

from substrate_jax.analyses.intervals import t_interval
from substrate_jax.analyses.probe.answers import asked_shots
from substrate_jax.analyses.probe.results import ProbeResult, Target
from substrate_jax.analyses.probe.words import interval_in_words
from substrate_jax.report.page import Column, Table
from substrate_jax.report.text import counted, points

KINDS = {
    "substrate": "substrate",
    "transductive": "substrate, transductive",
    "encoder": "one encoder, full width",
    "principal": "PCA of one encoder",
    "random": "random directions of one encoder",
    "pixels": "PCA of pixels",
    "all": "all encoders, full width",
    "average": "mean of the encoders' probabilities",
    "other": "other",
}


def _column(target: Target) -> int:
    return list(target.comparison.shots).index(asked_shots(target.comparison.shots))


def _accuracy(result: ProbeResult) -> dict[tuple[str, str], Float[np.ndarray, " targets"]]:
    """(input, head) -> mean accuracy on every target at the number of labels asked about."""
    targets = list(result.targets.values())
    found = {}
    for place, target in enumerate(targets):
        column = _column(target)
        for row, method in enumerate(target.comparison.methods):
            values = found.setdefault((method.input, method.head), np.full(len(targets), np.nan))
            values[place] = target.comparison.mean[row, column]
    return found


def kinds_table(result: ProbeResult) -> Table:
    """Best and median of each kind of input with each head, on every target."""
    accuracy, names = _accuracy(result), list(result.targets)
    kinds = {
        (method.input, method.head): method.kind
        for target in result.targets.values()
        for method in target.comparison.methods
    }
    heads = list(dict.fromkeys(head for _, head in accuracy))
    columns = [Column("kind", "Input"), Column("head", "Head"), Column("inputs", "Inputs", "count")]
    columns += [Column(f"text_{place}", name) for place, name in enumerate(names)]
    for name in names:
        columns += [
            Column(f"{part}_{name}", "", "score", shown=False) for part in ("median", "best")
        ]
    rows = []
    for kind, title in KINDS.items():
        for head in heads:
            same = [accuracy[key] for key in accuracy if kinds[key] == kind and key[1] == head]
            if not same:
                continue
            median, best = np.median(same, axis=0), np.max(same, axis=0)
            row = {"kind": title, "head": head, "inputs": len(same)}
            for place, name in enumerate(names):
                several = len(same) > 1 and np.isfinite(best[place])
                text = points(float(median[place]))
                row[f"text_{place}"] = f"{text}, {points(float(best[place]))}" if several else text
                row |= {f"median_{name}": median[place], f"best_{name}": best[place]}
            rows.append(row)
    labels = "; ".join(
        f"{name} {target.comparison.shots[_column(target)]}"
        for name, target in result.targets.items()
    )
    caption = (
        "Balanced accuracy in percent; where there are several inputs of a kind, the median and "
        f"the best. Labels per class: {labels}."
    )
    return Table("By kind of input", caption, columns, rows, "kinds.csv")


def methods_table(result: ProbeResult) -> Table:
    """Every input and head: accuracy, what it differs from the substrate by, and its cost."""
    columns = [
        Column("target", "Target"),
        Column("input", "Input"),
        Column("head", "Head"),
        Column("width", "Features", "count"),
        Column("encoders", "Encoders", "count"),
        Column("accuracy_text", "Accuracy"),
        Column("difference_text", "less the substrate's"),
        Column("flops", "FLOPs", "count"),
        Column("image_bytes", "Bytes", "count"),
        Column("model_bytes", "Bytes kept", "count"),
    ]
    columns += [
        Column(key, key, "score", shown=False)
        for key in ("labels", "accuracy", "difference", "low", "high")
    ]
    rows = []
    for name, target in result.targets.items():
        found, column = target.comparison, _column(target)
        head = target.answers[0].head if target.answers else found.methods[0].head
        base = next(
            row
            for row, method in enumerate(found.methods)
            if method.kind == "substrate" and method.head == head
        )
        difference = found.accuracy[:, column] - found.accuracy[base, column]
        low, high = t_interval(difference, result.level)
        for row in np.argsort(-np.nan_to_num(found.mean[:, column], nan=-1), kind="stable"):
            method = found.methods[row]
            cost, mean = method.costs[column], float(difference[row].mean())
            ends = interval_in_words(float(low[row]), float(high[row]))
            rows.append(
                {
                    "target": name,
                    "input": method.input,
                    "head": method.head,
                    "width": method.width,
                    "encoders": len(method.encoders),
                    "accuracy_text": points(float(found.mean[row, column])),
                    "difference_text": "–" if row == base else f"{points(mean)} ({ends})",
                    "flops": cost.flops,
                    "image_bytes": cost.image_bytes,
                    "model_bytes": cost.model_bytes,
                    "labels": found.shots[column],
                    "accuracy": found.mean[row, column],
                    "difference": mean,
                    "low": low[row],
                    "high": high[row],
                }
            )
    caption = (
        f"At the same numbers of labels. Differences are from the substrate with its main head, "
        f"with {result.level:.0%} intervals over draws of labels, each for itself: of "
        f"{counted(len(rows), 'row')} some are far off by chance. FLOPs and bytes are per image, "
        "after the encoders; bytes kept are bases, moments and weights, or labeled images."
    )
    return Table("Every method", caption, columns, rows, "methods.csv", folded=True)
