"""Images: named domains, the sources behind them, and preprocessing."""

from substrate_jax.data.decode import UnreadableImage, decode_image
from substrate_jax.data.domains import (
    Domain,
    bytes_to_download,
    list_domains,
    open_source,
    register_domain,
    resolve_domains,
)
from substrate_jax.data.download import data_folder
from substrate_jax.data.preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INCEPTION_MEAN,
    INCEPTION_STD,
    Preprocess,
    normalize,
    resize_crop,
)
from substrate_jax.data.sources import Example, Source, take

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INCEPTION_MEAN",
    "INCEPTION_STD",
    "Domain",
    "Example",
    "Preprocess",
    "Source",
    "UnreadableImage",
    "bytes_to_download",
    "data_folder",
    "decode_image",
    "list_domains",
    "normalize",
    "open_source",
    "register_domain",
    "resize_crop",
    "resolve_domains",
    "take",
]
