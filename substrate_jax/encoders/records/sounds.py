"""Encoders of sounds: CLAP's towers, in transformers' format, and a small one of speech."""

from substrate_jax.data.spectrogram import SoundPreprocess
from substrate_jax.encoders.networks.htsat import HTSATConfig
from substrate_jax.encoders.networks.speech_embedding import BANDS, SpeechEmbeddingConfig
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

# Its front end takes samples as whole numbers of 16 bits. Two seconds are 16 windows.
register_encoder(
    EncoderSpec(
        name="speech_embedding",
        config=SpeechEmbeddingConfig(),
        paradigm="supervised",
        preprocess=SoundPreprocess(
            rate=16_000,
            samples=32_000,
            window=400,
            points=512,
            hop=160,
            bands=BANDS,
            low=60.0,
            high=3_800.0,
            centered=False,
            gain=2.0**15,
            span=80.0,
            fill="repeat",
        ),
        checkpoint="speech_embedding.safetensors",
        license="apache-2.0",
        paper="2002.01322",
    )
)
