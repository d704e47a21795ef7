"""Encoders of sounds: CLAP's towers, in transformers' format."""

from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.encoders.networks.htsat import HTSATConfig
from substrate_jax.encoders.registry import TRANSFORMERS_PREFIX, EncoderSpec, register_encoder

# name, checkpoint, reduction of the gate that fuses the parts of longer sounds
for _name, _checkpoint, _reduction in (
    ("clap", "laion/clap-htsat-unfused", 0),
    ("clap_fused", "laion/clap-htsat-fused", 4),
):
    register_encoder(
        EncoderSpec(
            name=_name,
            config=HTSATConfig(reduction=_reduction),
            paradigm="sound_text",
            preprocess=SoundPreprocess(
                low=50.0, scale="htk" if _reduction else "slaney", parts=bool(_reduction)
            ),
            checkpoint=TRANSFORMERS_PREFIX + _checkpoint,
            license="apache-2.0",
            paper="2211.06687",
        )
    )
