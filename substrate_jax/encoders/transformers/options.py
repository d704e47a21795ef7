"""What transformers' own classes make of a checkpoint's files, defaults filled in.

Files hold what differs from the defaults of their class, under names that change between versions:
both are transformers' business. It is imported on first use, and no code of a repository is run.
What a class refuses, and sizes that no network has, are errors of one line.
"""

import contextlib
import functools
import inspect
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any, NoReturn

from substrate_jax.data.paths import one_line
from substrate_jax.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from substrate_jax.encoders.hub import CONFIG, PREPROCESSOR

Options = Mapping[str, Any]

# Options that sizes follow from. Beyond the greatest value a file is damaged, and making the
# network, or transformers' config of it, would take forever.
_GREATEST = {
    "num_hidden_layers": 1_000,
    "num_layers": 1_000,
    "num_stages": 16,
    "depths": 1_000,
    "image_size": 8_192,
    "spec_size": 8_192,
    "max_position_embeddings": 65_536,
    "window_size": 64,
    "width_coefficient": 100,
    "depth_coefficient": 100,
    "mlp_ratio": 1_000,
    "layer_norm_eps": 1,
    "batch_norm_eps": 1,
} | dict.fromkeys(
    (
        *("hidden_size", "hidden_sizes", "hidden_dim", "intermediate_size", "embedding_size"),
        *("embed_dim", "num_attention_heads", "num_heads", "groups_width", "patch_size"),
        *("patch_stride", "patch_embeds_hidden_size", "projection_dim", "num_mel_bins"),
        *("aff_block_r", "width_multiplier", "num_register_tokens", "depthwise_padding"),
        *("layer_scale_init_value", "rope_theta", "vocab_size", "type_vocab_size"),
    ),
    2**20,
)
# None of those, stages that are not padded, no scale (ConvNeXt).
_MAY_BE_0 = ("num_register_tokens", "depthwise_padding", "layer_scale_init_value")
_LONGEST = 100
# Of a backbone's outputs and of a head; a number of labels becomes that many names.
_ELSEWHERE = {"out_features", "out_indices", "num_labels", "torch_dtype"}
_ASKED_FOR = {"head_dim"}  # no field of a config, but networks heed it
# Image processors that cannot be imported without PyTorch: one that does the same to an image, and
# where its defaults differ.
_FOR_PYTORCH = {"DINOv3ViT": ("ViT", {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD})}


def refuse(file: str, options: Options, name: str, fix: str) -> NoReturn:
    """Raise the ValueError of an option, or of its value, that we do not compute."""
    raise ValueError(f"{file}: {name}={options[name]!r} is not supported; {fix}")


def config_options(model_type: str, given: Options) -> dict[str, Any]:
    """All options of a config, lists as tuples.

    Args:
        model_type: one that transformers has.
        given: what the file says.

    Raises:
        ValueError: a value that transformers refuses, or that no network has.

    Example:
        >>> config_options("vit", {"hidden_size": 192})["intermediate_size"]
        3072
    """
    transformers = _transformers()
    unused = vars(transformers.PreTrainedConfig()).keys() - {"architectures"} | _ELSEWHERE
    own = {key: v for key, v in given.items() if key not in unused and not key.startswith("_")}
    _check_sizes(own)
    with _one_line(CONFIG, own), _quiet():
        make = transformers.CONFIG_MAPPING[model_type]
        config, known = vars(make(**own)), vars(make()).keys() | _ASKED_FOR
    _check_sizes(config)
    # Other architectures' options, which a file may hold, change nothing.
    known_options = {name: v for name, v in config.items() if name in known}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in known_options.items()}


def processor_settings(
    model_type: str, given: Options, supported: Collection[str]
) -> dict[str, Any]:
    """All settings of an image processor, and its name as `processor`.

    Args:
        model_type: whose processor it is where the file names none.
        given: what the file says.
        supported: names of processors, such as ViT.

    Raises:
        ValueError: another processor, or a setting that its class refuses.

    Example:
        >>> settings = processor_settings("beit", {"size": 192}, ["Beit"])
        >>> settings["processor"], settings["size"], settings["do_center_crop"]
        ('Beit', {'height': 192, 'width': 192}, False)
    """
    transformers = _transformers()
    from transformers.models.auto import image_processing_auto

    processors = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    classes = processors.get(model_type, {})
    default = classes.get("pil") or classes.get("torchvision")
    kind = given.get("image_processor_type") or given.get("feature_extractor_type") or default
    name = re.sub(r"(FeatureExtractor|ImageProcessor)(Fast|Pil)?$", "", kind or "")
    if name not in supported:
        raise ValueError(
            f"{PREPROCESSOR}: image_processor_type={kind!r} is not supported; give one of "
            f"{', '.join(f'{known}ImageProcessor' for known in supported)}"
        )
    types = ("image_processor_type", "feature_extractor_type", "processor_class")
    own = {key: v for key, v in given.items() if key not in types and not key.startswith("_")}
    if name in _FOR_PYTORCH:
        name, defaults = _FOR_PYTORCH[name]
        own = defaults | own
    with _one_line(PREPROCESSOR, own), _quiet():
        make = getattr(transformers, f"{name}ImageProcessorPil")
        settings, known = make(**own).to_dict(), make.valid_kwargs.__annotations__
    return {key: v for key, v in settings.items() if key in known} | {"processor": name}


def extractor_settings(given: Options) -> dict[str, Any]:
    """All settings of CLAP's feature extractor.

    Example:
        >>> extractor_settings({"frequency_min": 50})["sampling_rate"]
        48000
    """
    _transformers()
    from transformers.models.clap.feature_extraction_clap import ClapFeatureExtractor

    # An instance would make its filters, of whatever size the file asks for.
    parameters = inspect.signature(ClapFeatureExtractor.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | {key: v for key, v in given.items() if key in defaults and v is not None}


@functools.cache
def _transformers() -> ModuleType:
    """The library, imported without its remark that there is no PyTorch."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        import transformers
        import transformers.models.auto.image_processing_auto  # imports the package again
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
    return transformers


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of transformers on stderr: we say in one line what there is to say."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _one_line(file: str, given: Options) -> Iterator[None]:
    """One line for whatever a class of transformers has against what is given."""
    try:
        yield
    except Exception as error:
        field = re.search(r"field '(\w+)'", str(error))
        if field and field[1] in given:
            refuse(file, given, field[1], "give a value of the type that transformers writes")
        raise ValueError(
            f"{file} holds what transformers does not write ({one_line(error)}); fetch it again"
        ) from error


def _check_sizes(options: Options) -> None:
    for name, value in options.items():
        if name in _GREATEST and not _is_size(name, value):
            refuse(CONFIG, options, name, "no network has that")


def _is_size(name: str, value: Any) -> bool:
    """Whether a network can be made with the numbers of an option."""
    if isinstance(value, (list, tuple)):
        return len(value) <= _LONGEST and all(_is_size(name, one) for one in value)
    if isinstance(value, (int, float)):
        return (value > 0 or (value == 0 and name in _MAY_BE_0)) and value <= _GREATEST[name]
    return True
