"""Runs the main launcher on the whole paper panel and compares its features with timm's.

    pip install torch==2.13.0 timm==1.0.31 torchvision==0.28.0
    python -m tests.golden.check_panel --images=FOLDER --weights_dir=DIR --out=OUT

Weights are timm's random initialization, written to DIR as NAME.safetensors (5 GB in all, kept for
the next time). The launcher reads them and the images of FOLDER as a user's would, with each
checkpoint's own normalization; timm gets the same files through its own transform. Printed: the
relative difference of the features of every encoder, and that of timm's float32 from its float64:
maxvit_base is ill-conditioned at initialization.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from absl import app, flags
from PIL import Image
from safetensors.torch import load_file, save_file

from substrate_jax.data.domains import open_source
from substrate_jax.data.sources import take
from substrate_jax.encoders import encoder_spec, list_encoders, load_encoder
from substrate_jax.features import FeatureStore, extract
from tests.golden.make_golden import timm, timm_name
from tests.golden.timm_import import create_network

FLAGS = flags.FLAGS
flags.DEFINE_string("images", None, "Folder of images.", required=True)
flags.DEFINE_string("weights_dir", None, "Where to keep the weights.", required=True)
flags.DEFINE_string("out", None, "Folder of the launcher's results.", required=True)
flags.DEFINE_integer("n", 24, "Images.")


def write_weights(name: str, folder: Path) -> None:
    """timm's initial weights, as published files have them."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        state = timm.create_model(timm_name(name)).state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, path)


def timm_features(name: str, folder: Path, files: list[Path]) -> tuple[np.ndarray, float]:
    """Features [n, d] of image files by timm, from the same weights, and their own rounding."""
    spec = encoder_spec(name)
    size, network = spec.config.image_size, create_network(spec)
    state = load_file(folder / f"{name}.safetensors")
    family = sys.modules[type(network).__module__]
    if hasattr(family, "checkpoint_filter_fn"):
        state = family.checkpoint_filter_fn(state, network)
    network.load_state_dict(state)
    network.eval()
    data = timm.data.resolve_data_config(network.pretrained_cfg | {"input_size": (3, size, size)})
    transform = timm.data.create_transform(**data)
    pixels = torch.stack([transform(Image.open(file).convert("RGB")) for file in files])

    def features(pixels: torch.Tensor) -> np.ndarray:
        return network.forward_head(network.forward_features(pixels), pre_logits=True).numpy()

    with torch.inference_mode():
        single = features(pixels)
        network.double()
        double = [features(pixels[i : i + 2].double()) for i in range(0, len(pixels), 2)]
        return single, distance(single, np.concatenate(double))


def distance(got: np.ndarray, want: np.ndarray) -> float:
    """||got - want|| / ||want||."""
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def main(argv: list[str]) -> None:
    """Write, run, compare."""
    folder, out = Path(FLAGS.weights_dir), Path(FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    names = list_encoders("paper")
    for name in names:
        write_weights(name, folder)
    command = [
        *("-m", "experiments.cka", "--panel=paper", "--encoders=all"),
        *(f"--weights_dir={folder}", f"--domains=x=dir:{FLAGS.images}", f"--n={FLAGS.n}"),
        *("--k=5", "--batch_size=8", "--normalization=own", f"--out={out}"),
    ]
    subprocess.run([sys.executable, *command], check=True)

    source = take(open_source(f"dir:{FLAGS.images}"), FLAGS.n, 0)
    files = [Path(FLAGS.images) / row_id for row_id in source.ids]
    for name in names:
        encoder = load_encoder(name, folder)
        store = FeatureStore(out / "features")
        features = extract([encoder], source, store=store, batch_size=8)[name]
        want, rounding = timm_features(name, folder, files)
        error = distance(features, want)
        line = f"{name:18s} {features.shape[1]:5d} features   difference {error:.1e}"
        print(f"{line}   timm's own rounding {rounding:.1e}", flush=True)


if __name__ == "__main__":
    app.run(main)
