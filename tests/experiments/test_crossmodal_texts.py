"""The launcher of two modalities on pictures and their captions, by tiny encoders of texts."""

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import crossmodal as launcher
from tests.encoders.texts import golden, write_folder
from tests.experiments.test_crossmodal import main_of, run
from tests.golden import weights
from tests.report.document import Document

ROWS = 48
KINDS = ("red dog", "blue cat", "red hill", "the two runs")
COLORS = ((200, 40, 40), (40, 60, 220), (120, 200, 60), (230, 230, 210))


@pytest.fixture(autouse=True, scope="module")
def parsed():
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["test"])


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with a list of pictures and captions that are of one of four kinds, and networks."""
    from PIL import Image

    root = tmp_path_factory.mktemp("captions")
    rng = np.random.default_rng(7)
    kinds, captions = rng.permutation(np.arange(ROWS) % 4), []
    for row, kind in enumerate(kinds):
        noise = 12 * weights.images(32)[0] + rng.normal(0, 20, (32, 32, 3))
        pixels = np.clip(np.array(COLORS[kind]) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{row}.png")
        captions.append(f"a {KINDS[kind]} over {'the ' * (row % 3)}hill")
    captions[5] += " and on" * 20  # which no network here takes whole
    other = rng.permutation(captions)
    lines = [
        f"{row}.png,{one},{two}" for row, (one, two) in enumerate(zip(captions, other, strict=True))
    ]
    (root / "list.csv").write_text("\n".join(["path,caption,other", *lines]) + "\n")
    for name in ("clip", "bert"):
        write_folder(root / name, golden(name))
    return root


def flags_of(root, text="caption", **changes):
    """The flags of pictures against a column of texts."""
    return {
        "domains": f"picture=csv:{root}/list.csv,text=csv:{root}/list.csv?text={text}",
        "encoders": ["mini_vit_base", f"hf:{root}/clip?tower=text", f"hf:{root}/bert"],
        "planted": 0,
        "bootstrap": 0,
    } | changes


@pytest.fixture(scope="module")
def found(material):
    return run(material / "out", **flags_of(material))


def test_pictures_agree_with_their_captions(material, found):
    assert found["comparison"]["rows"] == ROWS
    assert found["left"]["encoders"] == ["mini_vit_base"]
    clip, bert = f"hf:{material}/clip?tower=text", f"hf:{material}/bert"
    assert found["right"]["encoders"] == [clip, bert]
    assert found["right"]["widths"] == [24, 24]
    assert found["right"]["images"]["modality"] == "text"
    assert main_of(found)["cka"]["nulls"]["rows"]["p_value"] <= 0.05
    assert {one["name"]: one["paradigm"] for one in found["encoders"]} == {
        "mini_vit_base": "supervised", clip: "image_text", bert: "text",
    }  # fmt: skip
    assert "text: two encoders" in [one["name"] for one in found["comparison"]["controls"]]


def test_texts_that_are_cut_are_counted_in_a_note(material, found):
    said = [note for note in found["notes"] if "longer texts are cut off" in note]
    assert len(said) == 1
    # CLIP's tiny tokenizer has a token for nearly every letter, so that it cuts more of them.
    assert f"1 of 48 after 16 tokens for hf:{material}/bert." in said[0]
    assert f"of 48 after 16 tokens for hf:{material}/clip?tower=text, " in said[0]


def test_the_page_shows_pictures_and_names_both_sides(material, found):
    page = (material / "out" / "report.html").read_text("utf-8")
    assert Document(page).unbalanced == []
    assert "At K = 3 picture and text agree beyond chance" in page
    assert "tower=text" in page


def test_captions_of_other_pictures_do_not_agree(material):
    other = run(material / "other", **flags_of(material, "other"))
    assert main_of(other)["cka"]["nulls"]["rows"]["p_value"] > 0.05


def test_features_are_stored_and_taken_up_again(material, found, monkeypatch):
    """The same run again reads every row of the store, and no text but for the note."""
    from substrate_jax.features import forward

    def computed(*arguments):
        raise AssertionError("a network ran")

    monkeypatch.setattr(forward, "forward_pass", computed)
    store = str(material / "out" / "features")
    again = run(material / "again", **flags_of(material, store=store))
    assert again["comparison"]["agreements"] == found["comparison"]["agreements"]


def test_a_plan_names_texts(material, capsys):
    with flagsaver.flagsaver(**flags_of(material, dry_run=True, components=3, neighbors=4)):
        launcher.run()
    said = capsys.readouterr().out
    assert "side picture: 48 images" in said
    assert "side text: 48 texts" in said
    assert "pairs by id" in said


REFUSED = [
    ({"encoders": ["mini_vit_base"]}, r"side 'text' has texts, and none .* takes texts; name one"),
    ({"encoders": ["hf:{root}/bert"]}, r"side 'picture' has images, and none .* takes images"),
    ({"text": "words"}, r"no column 'words'; its first line names path, caption, other"),
    ({"text": "caption&id=caption"}, r"appears twice; give every row its own id"),
    ({"encoders": ["mini_vit_base", "hf:{root}/bert?pool=x"]}, r"pool='x': give mean or cls"),
    ({"encoders": ["mini_vit_base", "hf:{root}/none"]}, r"no such folder .*none"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_compared_is_one_line(changes, message, material, tmp_path):
    changes = dict(changes)
    if "encoders" in changes:
        changes["encoders"] = [name.format(root=material) for name in changes["encoders"]]
    with pytest.raises(ValueError, match=message) as caught:
        run(tmp_path / "out", **flags_of(material, **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "result.json").exists()
