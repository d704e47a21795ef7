"""Values and gradients of published distillation losses, as `tests/golden/losses.json` has them.

    python -m tests.golden.make_losses_golden --repdistiller=DIR --torchdistill=DIR \
        --mdistiller=DIR --vicreg=DIR

writes the file; it needs torch, which no test does, and checkouts of

    github.com/HobbitLong/RepDistiller                 KD, SP, RKD, PKT
    github.com/yoshitomo-matsubara/torchdistill        the same
    github.com/megvii-research/mdistiller              DKD
    github.com/facebookresearch/vicreg                 the variance term

Only the definitions of the losses are run, in float64. Each gives its value, the norm of its
gradient by the student's features or logits, and the gradient along one drawn direction.
"""

import argparse
import ast
import json
import subprocess
import types
import warnings
from pathlib import Path

import numpy as np

PATH = Path(__file__).parent / "losses.json"
ROWS, WIDTH, TARGET, CLASSES = 9, 6, 4, 7
TEMPERATURE, ALPHA, BETA = 3.0, 1.5, 6.0


def drawn() -> dict[str, np.ndarray]:
    """Features and target, logits of student and teacher, labels, and directions to go along."""
    rng = np.random.default_rng(11)
    features = rng.normal(size=(ROWS, WIDTH)) + 0.5
    return {
        "features": features,
        "target": features[:, :TARGET] @ rng.normal(size=(TARGET, TARGET)) + 0.3,
        "logits": 2 * rng.normal(size=(ROWS, CLASSES)),
        "teacher": 4 * rng.normal(size=(ROWS, CLASSES)),
        "labels": rng.integers(CLASSES, size=ROWS),
        "along_features": rng.normal(size=(ROWS, WIDTH)),
        "along_logits": rng.normal(size=(ROWS, CLASSES)),
    }


def definitions(path: Path, names: tuple[str, ...]) -> types.SimpleNamespace:
    """Classes and functions of a module, without the rest of its package."""
    import torch

    tree = ast.parse(path.read_text())
    tree.body = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names
    ]
    for node in tree.body:
        assert isinstance(node, ast.ClassDef | ast.FunctionDef)
        node.decorator_list = []
    scope = {
        "torch": torch,
        "nn": torch.nn,
        "F": torch.nn.functional,
        "normalize": torch.nn.functional.normalize,
    }
    exec(compile(tree, str(path), "exec"), scope)
    return types.SimpleNamespace(**{name: scope[name] for name in names})


def commit(folder: Path) -> str:
    """The commit that is checked out."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    import torch

    parser = argparse.ArgumentParser()
    for name in ("repdistiller", "torchdistill", "mdistiller", "vicreg"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    folders = vars(parser.parse_args())
    warnings.simplefilter("ignore")  # the code of before torch 1.0 asks for sums by an old name
    zoo = folders["repdistiller"] / "distiller_zoo"
    middle = folders["torchdistill"] / "torchdistill" / "losses" / "mid_level.py"
    rep_kd = definitions(zoo / "KD.py", ("DistillKL",)).DistillKL(TEMPERATURE)
    rep_sp = definitions(zoo / "SP.py", ("Similarity",)).Similarity()
    relational = definitions(zoo / "RKD.py", ("RKDLoss",)).RKDLoss
    rep_pkt = definitions(zoo / "PKT.py", ("PKT",)).PKT()
    there = definitions(middle, ("KDLoss", "PKTLoss", "RKDLoss", "SPKDLoss"))
    dkd = definitions(
        folders["mdistiller"] / "mdistiller" / "distillers" / "DKD.py",
        ("dkd_loss", "_get_gt_mask", "_get_other_mask", "cat_mask"),
    ).dkd_loss
    data = {name: torch.as_tensor(x) for name, x in drawn().items()}

    def in_dicts(loss):
        """torchdistill's losses take what modules gave by path."""
        return lambda s, t: loss(*({"m": {"output": part}} for part in (s, t)))

    def variance(s, _):
        """Its class needs a network and a process group: the two lines of its forward method."""
        source = (folders["vicreg"] / "main_vicreg.py").read_text()
        line = next(each for each in source.splitlines() if each.strip().startswith("std_x ="))
        scope = {"torch": torch, "x": s - s.mean(dim=0)}
        exec(line.strip(), scope)
        return torch.mean(torch.relu(1 - scope["std_x"]))

    paths = ("m", "output", "m", "output")
    of_features = {
        "sp_repdistiller": lambda s, t: rep_sp([s], [t])[0].sum(),
        "sp_torchdistill": in_dicts(there.SPKDLoss("m", "m", "batchmean")),
        "rkd_distance_repdistiller": relational(1, 0),
        "rkd_angle_repdistiller": relational(0, 1),
        "rkd_torchdistill": in_dicts(there.RKDLoss("m", "m", 1.0, 2.0, "mean")),
        "pkt_repdistiller": rep_pkt,
        "pkt_torchdistill": in_dicts(there.PKTLoss(*paths)),
        "variance_vicreg": variance,
    }
    of_logits = {
        "kd_repdistiller": rep_kd,
        "kd_torchdistill": in_dicts(there.KDLoss(*paths, temperature=TEMPERATURE, beta=1.0)),
        "dkd_mdistiller": lambda s, t: dkd(s, t, data["labels"], ALPHA, BETA, TEMPERATURE),
    }
    found = {}
    for losses, student, teacher in (
        (of_features, "features", "target"),
        (of_logits, "logits", "teacher"),
    ):
        for name, loss in losses.items():
            point = data[student].clone().requires_grad_()
            value = loss(point, data[teacher])
            (gradient,) = torch.autograd.grad(value, point)
            found[name] = {
                "value": float(value),
                "gradient_norm": float(gradient.norm()),
                "gradient_along": float((gradient * data[f"along_{student}"]).sum()),
            }
    commits = {name: commit(folder) for name, folder in folders.items()}
    content = {"torch": torch.__version__, "commits": commits, "losses": found}
    PATH.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
