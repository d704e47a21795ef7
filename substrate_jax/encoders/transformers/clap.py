"""CLAP's tower of sounds in transformers' format: options, names, preprocessing.

The tables of `model_types` and `names` hold what is here, and `format` asks here what a feature
extractor does to a sound.
"""

from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.encoders.hub import CONFIG, PREPROCESSOR
from substrate_jax.encoders.networks.htsat import ACTIVATIONS, HTSATConfig
from substrate_jax.encoders.transformers.configs import square_side
from substrate_jax.encoders.transformers.names import SWIN_STAGES, Names, Row
from substrate_jax.encoders.transformers.options import Options, extractor_settings, refuse

_PLAIN = (None, ("ClapAudioModel",))  # classes without a projection
SUPPORTED = {
    "hidden_act": ("gelu",),
    "patch_embed_input_channels": (1,),
    "flatten_patch_embeds": (True,),
    "enable_patch_layer_norm": (True,),
    "qkv_bias": (True,),
    "layer_norm_eps": (1e-5,),
    "projection_hidden_act": tuple(ACTIVATIONS),
    "fusion_type": (None, "aff_2d"),
    "architectures": (*_PLAIN, ("ClapAudioModelWithProjection",), ("ClapModel",)),
}
_EXTRACTOR = "ClapFeatureExtractor"
_MOST = 2**20  # samples a second, or of a frame; beyond, a file is damaged
_WHOLE = ("feature_size", "sampling_rate", "hop_length", "max_length_s", "fft_window_size")
_NUMBERS = (*_WHOLE, "padding_value", "frequency_min", "frequency_max")
_CHOICES = {
    "truncation": ("fusion", "rand_trunc"),
    "padding": ("repeatpad", "repeat", "pad"),
    "padding_value": (0,),
}


def tower_options(config: Options, tower: Options) -> Options:
    """The options of the tower of sounds, from those of a model of sound and text, and its own.

    As transformers has it, the projection is decided by the whole model's options.
    """
    whole = ("projection_dim", "projection_hidden_act")
    own = {name: value for name, value in tower.items() if name not in whole}
    given = {name: config[name] for name in whole if name in config}
    return own | given | {"architectures": config.get("architectures") or ["ClapModel"]}


def clap(options: Options, sound: SoundPreprocess) -> HTSATConfig:
    """An HTS-AT, with its projection where the class of the model has one."""
    projected = options["architectures"] not in _PLAIN
    depths, heads = options["depths"], options["num_attention_heads"]
    width = options["patch_embeds_hidden_size"]
    channels = tuple(width * 2**stage for stage in range(len(depths)))
    alike = len(heads) == len(depths) and all(
        count * width == heads[0] * c for count, c in zip(heads, channels, strict=True)
    )
    patch = square_side(options, "patch_size")
    wanted = {
        "num_attention_heads": (alike, "give heads that double from stage to stage"),
        "hidden_size": (options["hidden_size"] == channels[-1], f"give {channels[-1]}"),
        "patch_stride": (square_side(options, "patch_stride") == patch, "give the patch's size"),
        "num_mel_bins": (options["num_mel_bins"] == sound.bands, f"give {sound.bands}"),
        "enable_fusion": (
            options["enable_fusion"] == sound.parts,
            f"{PREPROCESSOR} says otherwise by truncation; give both of one checkpoint",
        ),
    }
    for name, (holds, fix) in wanted.items():
        if not holds:
            refuse(CONFIG, options, name, fix)
    return HTSATConfig(
        depths,
        channels,
        head_width=width // heads[0],
        window=options["window_size"],
        side=options["spec_size"],
        patch_size=patch,
        bands=sound.bands,
        frames=sound.frames,
        mlp_ratio=options["mlp_ratio"],
        reduction=options["aff_block_r"] if options["enable_fusion"] else 0,
        projection=options["projection_dim"] if projected else 0,
        activation=options["projection_hidden_act"],
    )


def sound_preprocess(extractor: Options | None) -> SoundPreprocess:
    """What a feature extractor does to sounds.

    Raises:
        ValueError: no file, or a setting that we do not compute.
    """
    if extractor is None:
        raise ValueError(
            f"{PREPROCESSOR} is missing: it says how spectrograms are made; fetch it with the "
            "checkpoint"
        )
    kind = extractor.get("feature_extractor_type", _EXTRACTOR)
    if kind != _EXTRACTOR:
        raise ValueError(
            f"{PREPROCESSOR}: feature_extractor_type={kind!r} is not supported; give {_EXTRACTOR}"
        )
    settings = extractor_settings(extractor)
    for name in _NUMBERS:
        value = settings[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= _MOST or (name in _WHOLE and value % 1):
            kind = "a whole number" if name in _WHOLE else "a number"
            refuse(PREPROCESSOR, settings, name, f"give {kind} from 0 to {_MOST}")
    for name, values in _CHOICES.items():
        if settings[name] not in values:
            refuse(PREPROCESSOR, settings, name, f"give {' or '.join(map(str, values))}")
    fusion = settings["truncation"] == "fusion"
    rate = int(settings["sampling_rate"])
    return SoundPreprocess(
        rate=rate,
        samples=int(settings["max_length_s"]) * rate,
        window=int(settings["fft_window_size"]),
        hop=int(settings["hop_length"]),
        bands=int(settings["feature_size"]),
        low=float(settings["frequency_min"]),
        high=float(settings["frequency_max"]),
        scale="htk" if fusion else "slaney",
        fill=settings["padding"],
        parts=fusion,
    )


def _gate(part: str, number: str, leaf: str) -> str:
    """A layer of fusion's gates, which transformers numbers; the pooling of one is its first."""
    layer = ("conv1", "bn1", "", "conv2", "bn2")[int(number) - (part == "global")]
    return f"patch_embed.{part}_gate.{layer}.{leaf}"


def _below(row: Row) -> Row:
    """A row of Swin's, whose stages lie elsewhere here."""
    pattern, replacement = row
    return f"audio_encoder.{pattern.removeprefix('encoder.')}", replacement


NAMES = Names(
    "audio_model",
    (
        *map(_below, SWIN_STAGES),
        ("audio_encoder.batch_norm.~", "batch_norm.{0}"),
        ("audio_encoder.norm.~", "norm.{0}"),
        ("audio_encoder.patch_embed.(proj|norm).~", "patch_embed.{0}.{1}"),
        ("audio_encoder.patch_embed.mel_conv2d.~", "patch_embed.long.{0}"),
        (
            "audio_encoder.patch_embed.fusion_model.(local|global)_att.*.~",
            _gate,
        ),
        ("audio_projection.linear(1|2).~", "projection.linear{0}.{1}"),
    ),
    (
        "text_model.**",
        "text_projection.**",
        "logit_scale_a",
        "logit_scale_t",
        "audio_encoder.layers.**.relative_position_index",
    ),
)
