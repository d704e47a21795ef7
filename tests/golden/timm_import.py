"""timm's networks, also where torchvision's compiled operators are missing.

torchvision registers a meta kernel for each of its operators, which fails where the compiled
library does not match torch (a CPU build, for one). No encoder here calls them, so each
registration that fails for want of an operator is answered by declaring it and trying again.
"""

import functools
import re
import sys

import torch

from substrate_jax.encoders.records.timm import timm_model

MISSING = re.compile(r"operator torchvision::(\w+) does not exist")


@functools.cache
def import_timm():
    """The timm module, with torchvision's absent operators declared and never defined."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            import timm
        except RuntimeError as error:
            absent = MISSING.search(str(error))
            if absent is None:
                raise
            library.define(f"{absent.group(1)}(Tensor unused) -> Tensor")
            for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "timm")]:
                del sys.modules[name]
        else:
            timm._torchvision_operators = library  # the declarations live as long as this object
            return timm


def create_network(spec) -> torch.nn.Module:
    """timm's network of an `EncoderSpec`, untrained, for the image size of the spec."""
    timm = import_timm()
    name, size = timm_model(spec), spec.config.image_size
    network = timm.create_model(name)
    own = network.pretrained_cfg
    if own.get("fixed_input_size") and own["input_size"][1] != size:
        network = timm.create_model(name, img_size=size)
    return network
