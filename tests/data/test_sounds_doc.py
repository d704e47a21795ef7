"""docs/sounds.md, line by line: each is held by the test that begins with its words."""

import dataclasses
import io
import pathlib
import re
import struct
import sys

import cloudpickle
import numpy as np
import pytest
import soundfile

from substrate_jax.data import open_source
from substrate_jax.data.modality import image_preprocess, resampled_note
from substrate_jax.data.sounds import Sound, decode_sound, resample
from substrate_jax.data.spectrogram import SoundPreprocess, decibels
from substrate_jax.data.unreadable import UnreadableSound
from substrate_jax.encoders import encoder_spec, load_encoder
from substrate_jax.features import extract
from substrate_jax.features.protocol import PlainSpec
from tests.data.test_sources import png, write
from tests.data.test_wild_records import MODULE, class_feature, image_feature, write_set
from tests.encoders.sounds import golden
from tests.golden import sounds
from tests.helpers import tolerance

ROOT = pathlib.Path(__file__).parents[2]
LINES = [
    " ".join(line.split())
    for line in re.findall(r"(?m)^- (.+(?:\n  .+)*)", (ROOT / "docs" / "sounds.md").read_text())
]
HELD: list[str] = []
NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, 400).astype(np.float32)
SMALL = SoundPreprocess(rate=8_000, samples=800, window=64, hop=32, bands=8, high=4_000)


def holds(beginning: str):
    """Mark the test of the line that begins so."""

    def mark(test):
        HELD.append(beginning)
        return test

    return mark


def test_every_line_has_its_test():
    assert len(LINES) > 20
    for line in LINES:
        assert sum(line.startswith(beginning) for beginning in HELD) == 1, line
    assert len(HELD) == len(LINES)


def encoded(samples, rate=8_000, kind="WAV", subtype=None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def unreadable(data: bytes) -> str:
    with pytest.raises(UnreadableSound) as caught:
        decode_sound(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Means:
    """An extractor: the mean of each band."""

    spec = PlainSpec("means", SMALL.bands, SMALL)
    fingerprint = "means"
    dtype = np.dtype(np.float32)

    def functional(self):
        return lambda state, levels: levels.mean(1), ()


@holds("`wav:FOLDER` reads WAV, FLAC, Ogg, AIFF, MP3")
def test_formats(tmp_path):
    kinds = {"a.wav": "WAV", "b.FLAC": "FLAC", "c.ogg": "OGG", "d.aiff": "AIFF", "e.mp3": "MP3"}
    kinds |= {"f.au": "AU", "g.caf": "CAF", "h.w64": "W64"}
    write(tmp_path, {name: encoded(NOISE, kind=kind) for name, kind in kinds.items()})
    source = open_source(f"wav:{tmp_path}")
    assert source.ids == tuple(sorted(kinds))
    assert source.modality == "sound"
    assert source.rates == (8_000,)
    for row, name in enumerate(source.ids):
        sound = source[row].sound
        assert sound.rate == 8_000
        assert sound.samples.dtype == np.float32
        if kinds[name] not in ("OGG", "MP3"):
            np.testing.assert_allclose(sound.samples, NOISE, atol=2**-15)


@holds("Files of other suffixes are left out")
def test_left_out(tmp_path):
    write(tmp_path, {"a.wav": encoded(NOISE), "b.txt": b"", "c.m4a": b""})
    source = open_source(f"wav:{tmp_path}")
    assert source.left_out == {".txt": 1, ".m4a": 1}
    assert "left out 2 files that are no sounds by their suffix" in source.left_out_note
    (tmp_path / "a.wav").unlink()
    with pytest.raises(ValueError, match=r"no sounds in .*only 1 \.m4a, 1 \.txt; .* end in \.aif"):
        open_source(f"wav:{tmp_path}")
    with pytest.raises(ValueError, match=r"no such folder .*; give one that holds sounds"):
        open_source(f"wav:{tmp_path}/absent")


@holds("Without soundfile, or without soxr")
def test_libraries_name_their_extra(tmp_path, monkeypatch):
    sound = decode_sound(encoded(NOISE))
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ValueError, match=r"needs soxr; pip install 'substrate-jax\[audio\]'"):
        resample(sound, 16_000)
    assert resample(sound, 8_000) is sound
    monkeypatch.setitem(sys.modules, "soundfile", None)
    write(tmp_path, {"a.wav": encoded(NOISE)})
    with pytest.raises(ValueError, match=r"needs soundfile; pip install 'substrate-jax\[audio\]'"):
        open_source(f"wav:{tmp_path}")


@holds("An MP3 is unreadable where the installed libsndfile has no decoder")
def test_an_mp3_without_decoder(monkeypatch):
    data = encoded(NOISE, kind="MP3")
    assert decode_sound(data).rate == 8_000

    def older(*arguments, **options):
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr(soundfile, "SoundFile", older)
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "WAV"})
    assert re.search(r"an MP3, for which libsndfile .* no decoder; update", unreadable(data))


@holds("Integers of b bits, 24 too, are divided by")
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers(bits):
    full = 2 ** (bits - 1)
    numbers = np.array([-full, -1, 0, 1, full - 1])
    subtype = "PCM_U8" if bits == 8 else f"PCM_{bits}"
    got = decode_sound(encoded(numbers / full, subtype=subtype)).samples
    np.testing.assert_array_equal(got, (numbers / full).astype(np.float32))


@holds("Float samples stay as they are stored")
def test_floats():
    for subtype in ("FLOAT", "DOUBLE"):
        samples = np.array([-3.5, 0.25, 2.0])
        got = decode_sound(encoded(samples, subtype=subtype)).samples
        np.testing.assert_array_equal(got, samples)


@holds("Of several channels the mean is taken")
def test_channels():
    stereo = np.stack([NOISE, -NOISE, 0.5 * NOISE], axis=1)
    got = decode_sound(encoded(stereo, subtype="FLOAT")).samples
    np.testing.assert_allclose(got, NOISE / 6, rtol=1e-6)


@holds("An empty file, one cut short, one that is no sound")
def test_no_sounds():
    whole = encoded(NOISE)
    assert unreadable(b"") == "empty file"
    assert "cut short" in unreadable(whole[:-100])
    assert "no sound that libsndfile reads" in unreadable(b"\x89PNG" + bytes(100))
    assert unreadable(encoded(np.zeros(0, np.float32))) == "no samples"
    flac = encoded(NOISE, kind="FLAC")
    assert unreadable(flac[: len(flac) // 2])


@holds("NaN and infinity among the samples")
def test_not_finite():
    samples = NOISE.copy()
    samples[[3, 7]] = np.nan, np.inf
    assert unreadable(encoded(samples, subtype="FLOAT")) == "NaN or infinity in 2 of 400 samples"


@holds("A rate below 1,000 or above 768,000")
def test_rates_that_no_recording_has():
    for rate in (999, 768_001):
        data = bytearray(encoded(NOISE))
        data[24:28] = struct.pack("<I", rate)
        assert unreadable(bytes(data)).startswith(f"{rate} samples a second, outside 1000 to")


@holds("One unreadable sound ends a run")
def test_one_unreadable_sound(tmp_path):
    files = {f"{i}.wav": encoded(NOISE * (i + 1) / 4) for i in range(3)}
    source = open_source(f"wav:{write(tmp_path, files | {'bad.wav': b'RIFF', 'c.wav': b''})}")
    with pytest.raises(ValueError, match=r"2 of 5 sounds of wav:.* cannot be read, first bad\.wav"):
        extract([Means()], source, batch_size=2)
    found = extract([Means()], source, batch_size=2, skip_bad=True)
    assert found.ids == ("0.wav", "1.wav", "2.wav")
    store = tmp_path / "store"
    for _ in range(2):  # computed, then read
        again = extract([Means()], source, batch_size=2, skip_bad=True, store=store, workers=0)
        np.testing.assert_array_equal(again["means"], found["means"])


@holds("Silence is read")
def test_silence(tmp_path):
    data = encoded(np.zeros(300))
    assert not decode_sound(data).samples.any()
    source = open_source(f"wav:{write(tmp_path, {'a.wav': data})}")
    np.testing.assert_allclose(extract([Means()], source)["means"], -100, rtol=1e-6)


@holds("A sound at another rate than the encoder's is resampled")
def test_resampling(tmp_path, capfd, monkeypatch):
    from absl import flags
    from absl.testing import flagsaver

    from experiments import cka

    for rate, other in ((8_000, 48_000), (44_100, 16_000)):
        time = np.arange(rate) / rate
        tone = np.sin(2 * np.pi * 1_000 * time + 0.3).astype(np.float32)
        got = resample(Sound(tone, rate), other)
        want = np.sin(2 * np.pi * 1_000 * np.arange(other) / other + 0.3)
        middle = slice(other // 4, 3 * other // 4)
        # soxr's HQ keeps 20 bits, and its input is float32.
        np.testing.assert_allclose(got.samples[middle], want[middle], atol=2**-18)
    write(tmp_path, {f"{i}.wav": encoded(NOISE, 8_000 if i else 44_100) for i in range(12)})
    source = open_source(f"wav:{tmp_path}")
    assert source.rates == (8_000, 44_100)
    note = resampled_note([encoder_spec("clap"), encoder_spec("speech_embedding")], source)
    said = "sounds of 8,000 and 44,100 samples a second are resampled to 48,000 for clap"
    assert note == f"{source.name}: {said}, 16,000 for speech_embedding."
    assert not resampled_note([Means.spec], dataclasses.replace(source, rates=(8_000,)))
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])
    chosen = {"domains": f"p=wav:{tmp_path}", "encoders": ["clap"], "k": ["1"], "components": 2}
    monkeypatch.setattr(cka, "estimate", lambda *_: "")  # takes seconds, and tests of its own
    with flagsaver.flagsaver(**chosen, dry_run=True, out=str(tmp_path / "out")):
        cka.run()
    assert said in capfd.readouterr().out


def prepared(seconds: float, spec: SoundPreprocess) -> np.ndarray:
    return spec.prepare(Sound(sounds.sound(seconds, spec.rate), spec.rate))


@holds("Of a longer sound the middle is taken")
def test_longer():
    samples = sounds.sound(1.0, 8_000)
    np.testing.assert_array_equal(prepared(1.0, SMALL), samples[3_600:4_400])
    assert golden("clap")["preprocessor"]["truncation"] == "rand_trunc"  # set to the middle there
    compare("clap")


@holds("A shorter sound is filled up as the encoder was trained")
def test_shorter():
    fills = {"pad": [1, 2, 3, 0, 0, 0, 0, 0], "repeatpad": [1, 2, 3, 1, 2, 3, 0, 0]}
    fills["repeat"] = [1, 2, 3, 1, 2, 3, 1, 2]
    for fill, want in fills.items():
        spec = SoundPreprocess(8_000, 8, 4, 2, 2, high=4_000, fill=fill)
        got = spec.prepare(Sound(np.array([1, 2, 3], np.float32), 8_000))
        assert got.tolist() == want
    assert encoder_spec("clap").preprocess.fill == "repeatpad"
    assert encoder_spec("speech_embedding").preprocess.fill == "repeat"


def compare(name: str) -> None:
    """Our spectrograms of a golden's sounds with transformers'."""
    from substrate_jax.encoders.transformers.clap import sound_preprocess

    found = golden(name)
    spec = sound_preprocess(found["preprocessor"])
    waves = [sounds.sound(s, spec.rate, i) for i, s in enumerate((0.3, 1.0, 2.6))]
    rows = np.stack([spec.prepare(Sound(wave, spec.rate)) for wave in waves])
    levels = np.asarray(spec.finish(rows))
    if spec.parts:
        assert levels[:, 4].min(axis=(1, 2)).tolist() == found["longer"].ravel().tolist()
        assert levels[:, 4].max(axis=(1, 2)).tolist() == found["longer"].ravel().tolist()
    levels = levels[:, :4] if spec.parts else levels[:, None]
    close(levels[:, :, ::10], found["spectrograms"], spec, waves[-1])


def close(got, want, spec: SoundPreprocess, longest=None) -> None:
    """Amplitudes within rounding of the loudest band of their frame.

    torch rounds the places of the frames that a longer sound is shrunk to, to float32.
    """
    shrunk = 0.0
    if spec.parts:
        whole = decibels(longest, spec, np)
        steepest = np.abs(np.diff(whole, axis=0)).max()
        shrunk = np.log(10) / 20 * np.finfo(np.float32).eps * len(whole) * steepest
    got, want = (10 ** (np.asarray(levels, np.float64) / 20) for levels in (got, want))
    assert got.shape == want.shape
    worst = (np.abs(got - want) / want.max(-1, keepdims=True)).max()
    assert worst <= tolerance(spec.frame) + shrunk, worst


@holds("Fused CLAP takes of a longer sound the whole, shrunk")
def test_parts():
    compare("clap_fused")


@holds("A sound of one sample is long enough")
def test_one_sample():
    one = Sound(np.array([0.5], np.float32), 8_000)
    for name in ("clap", "speech_embedding"):
        spec = encoder_spec(name).preprocess
        levels = np.asarray(spec.finish(spec.prepare(one)[None]))
        assert levels.shape == (1, spec.frames, spec.bands)
        assert np.isfinite(levels).all()
    fused = encoder_spec("clap_fused").preprocess
    assert np.isfinite(fused.prepare(one)).all()
    assert len(resample(Sound(one.samples, 768_000), 1_000).samples) == 1


@holds("Spectrograms are computed in float32 on the devices")
def test_where_they_are_computed():
    assert encoder_spec("clap").preprocess.shape == (480_000,)
    assert encoder_spec("clap_fused").preprocess.shape == (5, 1001, 64)
    samples = prepared(1.0, SMALL)
    assert samples.dtype == np.float32
    on_device, on_host = decibels(samples, SMALL), decibels(samples, SMALL, np)
    assert on_device.dtype == on_host.dtype == np.float32
    close(on_device, decibels(samples.astype(np.float64), SMALL, np), SMALL)
    close(on_host, decibels(samples.astype(np.float64), SMALL, np), SMALL)


@holds("They are those of transformers' feature extractor for CLAP")
def test_spectrograms_are_the_references():
    found = golden("clap_spectrogram")
    waves = [Sound(sounds.sound(1, 48_000), 48_000), Sound(sounds.sound(12, 48_000, 1), 48_000)]
    for name, want in (("clap", "plain"), ("clap_fused", "fused")):
        spec = encoder_spec(name).preprocess
        levels = np.asarray(spec.finish(np.stack([spec.prepare(wave) for wave in waves])))
        levels = levels[:, :4, ::50] if spec.parts else levels[:, ::50]
        close(levels, found[want], spec, waves[1].samples)
    compare("clap_audio_model")
    spec = dataclasses.replace(encoder_spec("speech_embedding").preprocess, samples=24_000)
    levels = decibels(sounds.sound(1.5, 16_000), spec)
    close(levels, golden("speech_embedding")["levels"], spec)


@holds("Ids, class folders, splits, links and hidden files")
def test_folders(tmp_path):
    files = {f"train/{name}/1.wav": encoded(NOISE) for name in ("dog", "cat")}
    write(tmp_path, {**files, "train/.hidden.wav": b"", "val/dog/2.wav": encoded(NOISE)})
    source = open_source(f"wav:{tmp_path}")
    assert source.ids == ("train/cat/1.wav", "train/dog/1.wav", "val/dog/2.wav")
    assert source.label_names == ("cat", "dog")
    assert open_source(f"wav:{tmp_path}?label=none").labels is None
    loose = write(tmp_path / "loose", {"b.wav": encoded(NOISE), "a.wav": encoded(NOISE)})
    part = open_source(f"wav:{loose}")
    assert (part.ids, part.labels) == (("a.wav", "b.wav"), None)
    assert part.select([1])[0].id == "b.wav"
    assert part.select([1]).modality == "sound"


def audio_feature(rate: int | None = 16_000, dtype: str = "int64", **options) -> dict:
    shape = {"dimensions": [str(side) for side in options.pop("shape", (-1,))]}
    content = {"dtype": dtype, "shape": shape, "encoding": "none"} | options
    if rate:
        content["sampleRate"] = str(rate)
    return {"pythonClassName": f"{MODULE}audio_feature.Audio", "audio": content}


@holds("A TFDS set without images is one of sounds")
def test_tfds(tmp_path):
    numbers = [[0, 16_384, -32_768], [1, 2, 3, 4]]
    rows = [{"audio": n, "label": i, "image": png(i)} for i, n in enumerate(numbers)]
    features = {"audio": audio_feature(), "label": class_feature()}
    write_set(tmp_path / "a", rows, features)
    source = open_source(f"tfds:wild@{tmp_path / 'a'}")
    assert (source.modality, source.rates, source.labels.tolist()) == ("sound", (16_000,), [0, 1])
    assert source[0].sound.samples.tolist() == [0, 0.5, -1]
    assert source[0].id == "train/000000"
    write_set(tmp_path / "b", rows, features | {"image": image_feature()})
    assert open_source(f"tfds:wild@{tmp_path / 'b'}").modality == "image"
    both = open_source(f"tfds:wild?audio=audio@{tmp_path / 'b'}")
    assert both[1].sound.samples.tolist() == [n / 2**15 for n in numbers[1]]
    with pytest.raises(ValueError, match=r"'label' holds no sounds; choose with \?audio=audio"):
        open_source(f"tfds:wild?audio=label@{tmp_path / 'b'}")
    with pytest.raises(ValueError, match="both given"):
        open_source(f"tfds:wild?audio=audio&image=image@{tmp_path / 'b'}")
    again = cloudpickle.loads(cloudpickle.dumps(both))  # as workers are sent it
    assert again[0].sound.samples.tolist() == both[0].sound.samples.tolist()
    # The files themselves, and two channels.
    stereo = encoded(np.stack([NOISE, NOISE], axis=1), 44_100)
    lazy = audio_feature(lazyDecode=True, fileFormat="wav")
    write_set(tmp_path / "c", [{"audio": stereo}], {"audio": lazy})
    sound = open_source(f"tfds:wild@{tmp_path / 'c'}")[0].sound
    assert (sound.rate, len(sound.samples)) == (44_100, 400)
    two = audio_feature(dtype="float32", shape=(-1, 2))
    write_set(tmp_path / "d", [{"audio": [0.5, 1.5, -1.0, 0.0]}], {"audio": two})
    assert open_source(f"tfds:wild@{tmp_path / 'd'}")[0].sound.samples.tolist() == [1.0, -0.5]
    write_set(tmp_path / "e", rows, {"audio": audio_feature(encoding="zlib")})
    with pytest.raises(ValueError, match="stored as zlib"):
        open_source(f"tfds:wild@{tmp_path / 'e'}")


@holds("Whole numbers in a TFDS set count as 16 bits")
def test_tfds_depths(tmp_path):
    write_set(tmp_path, [{"audio": [0, 32_768]}, {"audio": []}], {"audio": audio_feature()})
    source = open_source(f"tfds:wild@{tmp_path}")
    for row, message in ((0, "train/000000: whole numbers beyond 16 bits"), (1, "no samples")):
        with pytest.raises(UnreadableSound, match=message):
            source[row]


@holds("A TFDS set that does not give its rate")
def test_tfds_rates(tmp_path):
    write_set(tmp_path, [{"audio": [1, 2]}], {"audio": audio_feature(None)})
    with pytest.raises(ValueError, match=r"does not say how many .*; give \?rate=N"):
        open_source(f"tfds:wild@{tmp_path}")
    assert open_source(f"tfds:wild?rate=22050@{tmp_path}")[0].sound.rate == 22_050
    with pytest.raises(ValueError, match="rate='fast'; give samples a second"):
        open_source(f"tfds:wild?rate=fast@{tmp_path}")


@holds("An encoder of images refuses sounds")
def test_modalities(tmp_path):
    source = open_source(f"wav:{write(tmp_path, {'a.wav': encoded(NOISE)})}")
    message = r"encoder mini_vit_base takes images and wav:.* holds sounds; give it a source such"
    with pytest.raises(ValueError, match=message) as caught:
        extract([load_encoder("mini_vit_base")], source)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^a\.wav is a sound and has no pixels; give a source"):
        _ = source[0].image
    with pytest.raises(ValueError, match="encoder clap takes sounds; give one of images here"):
        image_preprocess(encoder_spec("clap"))
    pictures = open_source("sample:texture:4")
    with pytest.raises(ValueError, match=r"encoder means takes sounds and sample:texture.* images"):
        extract([Means()], pictures)
