"""Makes the reference outputs that tests/encoders/test_parity.py compares the encoders with.

    pip install torch==2.13.0 timm==1.0.31 torchvision==0.28.0
    python -m tests.golden.make_golden            # or with names: ... resnet50 vit_base
    python -m tests.golden.make_golden inventory  # of every registered checkpoint, without weights

For each network of TAPS timm is given the synthetic checkpoint of weights.py through its own
loading path (checkpoint_filter_fn, which resamples DINOv2's 37 x 37 position table to 16 x 16), and
the two pictures of weights.py. Stored, outputs only:

- encoders/NAME.npz: `features` [2, d], what forward_head(..., pre_logits=True) gives, and
  `tap:WHERE` [2, c], the mean over positions or tokens at that place. Both from torch in float64
  and rounded once, so the error a test measures is its own. `float32_error`: ||a - b|| / ||b|| of
  torch's own float32 features against them. `torch`, `timm`: the versions.
- inventory/NAME.json.gz: {name: shape} of the checkpoint in timm's names and torch's layout. It is
  the state_dict of the model that the full timm name builds, classifier and batch counters
  included, with DINOv2's table as published (518-pixel inputs: 1 + 37 * 37 rows).

It fails if the activations leave a sane range, or the features hardly depend on the picture.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch

from substrate_jax.encoders import encoder_spec, list_encoders
from substrate_jax.encoders.records.timm import timm_model
from tests.golden import weights
from tests.golden.timm_import import create_network, import_timm

timm = import_timm()
HERE = Path(__file__).parent

RESNET_TAPS = {"stem": "maxpool", **{f"layer{i}": f"layer{i}" for i in range(1, 5)}}
REGNET_TAPS = {n: n for n in ("stem", "s1", "s2", "s3", "s4")}
EFFICIENTNET_TAPS = {
    "stem": "bn1",
    **{f"blocks.{i}": f"blocks.{i}" for i in (0, 2, 4, 6)},
    "head": "bn2",
}
CONVNEXT_TAPS = {"stem": "stem", **{f"stages.{i}": f"stages.{i}" for i in range(4)}}
MOBILEVIT_TAPS = {n: n for n in ("stem", *(f"stages.{i}" for i in range(5)))}

SWIN_TAPS = {n: n for n in ("patch_embed", *(f"layers.{i}" for i in range(4)), "norm")}


def vit_taps(depth: int) -> dict[str, str]:
    """First, middle and last block, and the final norm."""
    return {n: n for n in ("blocks.0", f"blocks.{depth // 2}", f"blocks.{depth - 1}", "norm")}


# encoder -> tap -> timm's submodule
TAPS = {
    # resnet
    "resnet18": RESNET_TAPS,
    "resnet50": RESNET_TAPS,
    "resnet101": RESNET_TAPS,
    "resnext50_32x4d": RESNET_TAPS,
    # regnet
    "regnety_032": REGNET_TAPS,
    "regnetx_002": REGNET_TAPS,
    # efficientnet
    "efficientnet_b0": EFFICIENTNET_TAPS,
    "tf_efficientnet_b0": EFFICIENTNET_TAPS,
    "tf_efficientnet_lite2": EFFICIENTNET_TAPS,
    # convnext
    "convnext_tiny": CONVNEXT_TAPS,
    "convnext_base": CONVNEXT_TAPS,
    "convnextv2_atto": CONVNEXT_TAPS,
    "fcmae_base": CONVNEXT_TAPS,
    # mobilevit
    "mobilevitv2_175": MOBILEVIT_TAPS,
    "mobilevitv2_050": MOBILEVIT_TAPS,
    # maxvit
    "maxvit_base": CONVNEXT_TAPS,
    "maxvit_tiny": CONVNEXT_TAPS,
    # vit
    "vit_tiny": vit_taps(12),
    "vit_base": vit_taps(12),
    "vit_large": vit_taps(24),
    "deit_tiny_distilled": vit_taps(12),
    "deit3_small": vit_taps(12),
    "dinov2_base": vit_taps(12),
    "dinov2_small_reg4": vit_taps(12),
    "mae_base": vit_taps(12),
    "clip_base": vit_taps(12),
    "siglip_base": vit_taps(12),
    # swin
    "swin_tiny": SWIN_TAPS,
    # beit
    "beitv2_base": {n: n for n in ("patch_embed", "blocks.0", "blocks.6", "blocks.11")},
}


def timm_name(name: str) -> str:
    """timm's name with its tag, from the registry."""
    return timm_model(encoder_spec(name))


def write_inventory(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the published checkpoint, written to its file."""
    with torch.device("meta"):
        published = timm.create_model(timm_name(name))
    shapes = {key: tuple(value.shape) for key, value in published.state_dict().items()}
    text = json.dumps(shapes, separators=(",", ":")).encode()
    (HERE / "inventory" / f"{name}.json.gz").write_bytes(gzip.compress(text, mtime=0))
    return shapes


def build(name: str, shapes: dict[str, tuple[int, ...]]) -> torch.nn.Module:
    """timm's network for the size we run it at, with the synthetic checkpoint of these shapes."""
    model = create_network(encoder_spec(name))
    checkpoint = {n: torch.from_numpy(weights.tensor(n, s)) for n, s in shapes.items()}
    family = sys.modules[type(model).__module__]
    if hasattr(family, "checkpoint_filter_fn"):
        checkpoint = family.checkpoint_filter_fn(checkpoint, model)
    model.load_state_dict(checkpoint, strict=True)
    return model.eval()


def tap_mean(output: torch.Tensor, layout: str) -> torch.Tensor:
    """[n, c, h, w], with `layout` "NHWC" [n, h, w, c], or [n, tokens, c] -> [n, c]."""
    if output.ndim == 3:
        return output.mean(dim=1)
    return output.mean(dim=(1, 2) if layout == "NHWC" else (2, 3))


def run(
    model: torch.nn.Module, pictures: np.ndarray, taps: dict[str, str]
) -> dict[str, np.ndarray]:
    """Features and tap means in the dtype of the pictures."""
    outputs = {}
    layout = getattr(model, "output_fmt", "NCHW")

    def keep(tap):
        return lambda module, inputs, output: outputs.update(
            {f"tap:{tap}": tap_mean(output, layout)}
        )

    hooks = [model.get_submodule(m).register_forward_hook(keep(tap)) for tap, m in taps.items()]
    with torch.inference_mode():
        maps = model.forward_features(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous())
        outputs["features"] = model.forward_head(maps, pre_logits=True)
    for hook in hooks:
        hook.remove()
    return {name: value.numpy() for name, value in outputs.items()}


def check(name: str, outputs: dict[str, np.ndarray]) -> str:
    """One line of figures; raises where the golden would be a weak test."""
    sizes = {k: float(np.sqrt(np.mean(v**2))) for k, v in outputs.items()}
    first, second = outputs["features"]
    contrast = float(np.linalg.norm(first - second) / np.linalg.norm(outputs["features"].mean(0)))
    if contrast < 0.05 or not all(1e-3 < s < 1e2 for s in sizes.values()):
        raise ValueError(f"{name}: contrast {contrast:.3f}, sizes {sizes}; change weights.GAINS")
    return f"contrast {contrast:.3f}  " + "  ".join(f"{k} {s:.3g}" for k, s in sizes.items())


def main(names: list[str]) -> None:
    for folder in ("encoders", "inventory"):
        (HERE / folder).mkdir(exist_ok=True)
    if names == ["inventory"]:
        for name in list_encoders():
            if not encoder_spec(name).bundled and encoder_spec(name).modality == "image":
                print(name, len(write_inventory(name)))
        return
    for name in names or TAPS:
        pictures = weights.images(encoder_spec(name).config.image_size)
        model = build(name, write_inventory(name))
        single = run(model, pictures, TAPS[name])["features"]
        outputs = run(model.double(), pictures.astype(np.float64), TAPS[name])
        del model
        want = outputs["features"]
        error = float(np.linalg.norm(single - want) / np.linalg.norm(want))
        print(f"{name:14s} torch float32 error {error:.1e}  {check(name, outputs)}", flush=True)
        np.savez_compressed(
            HERE / "encoders" / f"{name}.npz",
            float32_error=np.float64(error),
            torch=torch.__version__,
            timm=timm.__version__,
            **{key: value.astype(np.float32) for key, value in sorted(outputs.items())},
        )


if __name__ == "__main__":
    main(sys.argv[1:])
