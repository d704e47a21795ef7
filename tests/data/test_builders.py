"""Our TFDS builders, from files such as users place by hand to a source, without TensorFlow."""

import hashlib
import sys

import h5py
import matplotlib
import numpy as np
import pytest
import tensorflow_datasets as tfds

from substrate_jax.data import builders, bytes_to_download, open_source, prepare, tfds_records
from substrate_jax.data.builders import color_depth
from substrate_jax.data.download import RemoteFile
from tests.data.server import dead_address
from tests.data.test_sources import png, write


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSTRATE_JAX_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def place(folder, monkeypatch, name: str, **arrays) -> None:
    """An HDF5 file under the published name, taken for the published one."""
    published = tfds_records.TFDS_FILES[name]
    path = folder / published.name
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file.create_dataset(key, data=value, compression="gzip")
    checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    file = RemoteFile(published.name, dead_address(), checksum, path.stat().st_size)
    monkeypatch.setitem(tfds_records.TFDS_FILES, name, file)


def test_nyu_depth(folder, monkeypatch):
    depths = np.random.default_rng(0).uniform(1, 9, (3, 8, 6)).astype(np.float32)
    place(folder, monkeypatch, "nyu_depth_labeled", depths=depths)
    assert prepare.prepare("tfds:nyu_depth_labeled", quiet=True) == 3
    source = open_source("nyu_depth")
    assert sorted(source.ids) == ["0000", "0001", "0002"]
    assert source.labels is None
    for example in (source[row] for row in range(3)):
        np.testing.assert_array_equal(example.image, color_depth(depths[int(example.id)].T))
    assert bytes_to_download("nyu_depth") == 0


def test_decals_takes_every_fourth_galaxy(folder, monkeypatch):
    monkeypatch.setattr(builders, "_BLOCK", 3)
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    labels = np.arange(9, dtype=np.uint8)
    place(folder, monkeypatch, "galaxy10_decals", images=images, ans=labels)
    assert prepare.prepare("tfds:galaxy10_decals", quiet=True) == 3
    source = open_source("decals")
    assert {e.id: e.label for e in (source[row] for row in range(3))} == {
        "00000": 0,
        "00004": 4,
        "00008": 8,
    }
    for example in (source[row] for row in range(3)):
        np.testing.assert_array_equal(example.image, images[int(example.id)])
    assert source.label_names[8] == "edge-on without bulge"


@pytest.mark.parametrize("root", ["", "kaist-cvpr15/images"])
def test_kaist_takes_every_twentieth_thermal_frame(folder, root):
    frames = {
        f"kaist/{root}/{scene}/{video}/{channel}/I{frame:05d}.{kind}": png(shade)
        for shade, (scene, video, channel, frame, kind) in enumerate(
            [
                ("set00", "V000", "lwir", 19, "jpg"),
                ("set06", "V001", "lwir", 39, "jpg"),
                ("set06", "V001", "lwir", 40, "jpg"),
                ("set06", "V001", "visible", 39, "jpg"),
                ("set10", "V000", "lwir", 59, "png"),
            ]
        )
    }
    write(folder, frames | {"kaist/set06/V001/lwir/notes.txt": b"x"})
    assert prepare.prepare("tfds:kaist_lwir:test", quiet=True) == 2
    source = open_source("kaist")
    found = {e.id: (e.label, int(e.image[0, 0, 0])) for e in (source[0], source[1])}
    assert found == {"set06/V001/I00039": (0, 1), "set10/V000/I00059": (4, 4)}
    assert [source.label_names[label] for label in (0, 4)] == ["day_campus", "night_road"]
    assert open_source("tfds:kaist_lwir:train").ids == ("set00/V000/I00019",)


def test_prepared_sets_are_left_alone(folder, monkeypatch):
    depths = np.ones((1, 4, 4), np.float32)
    place(folder, monkeypatch, "nyu_depth_labeled", depths=depths)
    prepare.prepare_tfds("nyu_depth_labeled", quiet=True)
    (folder / "nyu_depth_v2_labeled.mat").unlink()
    prepare.prepare_tfds("nyu_depth_labeled", quiet=True)
    assert len(open_source("nyu_depth")) == 1


def test_ids_do_not_depend_on_the_machine(folder, monkeypatch, tmp_path):
    images = np.zeros((40, 2, 2, 3), np.uint8)
    place(folder, monkeypatch, "galaxy10_decals", images=images, ans=np.zeros(40, np.uint8))
    found = []
    for data_dir in (tmp_path / "one", tmp_path / "two"):
        prepare.prepare_tfds("galaxy10_decals", str(data_dir), quiet=True)
        found.append(open_source(f"tfds:galaxy10_decals@{data_dir}").ids)
    assert found[0] == found[1]
    assert len(found[0]) == 10


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        (
            "kaist_lwir",
            {"kaist/set06/V000/visible/I00019.jpg": png(0)},
            "no thermal frames below .*/kaist: get sets 06",
        ),
        ("kaist_lwir", {}, "failed: Manual directory .* place their folders"),
        ("nyu_depth_labeled", {"nyu_depth_v2_labeled.mat": b"x"}, "sha256 is .* delete it"),
    ],
)
def test_refuses(folder, name, files, message):
    write(folder, files)
    with pytest.raises(ValueError, match=message) as error:
        prepare.prepare_tfds(name, quiet=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "absent"), [("beans", "tensorflow"), ("galaxy10_decals", "h5py")])
def test_an_absent_package_names_the_extra(monkeypatch, name, absent):
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf"needs {absent}, .*'substrate-jax\[prepare\]'"):
        prepare.prepare_tfds(name)


def test_nothing_here_imported_tensorflow():
    assert "tensorflow" not in sys.modules
    for builder in (builders.KaistLwir, builders.NyuDepthLabeled, builders.Galaxy10Decals):
        assert issubclass(builder, tfds.core.GeneratorBasedBuilder)
        assert builder.name in tfds.list_builders(with_community_datasets=False)


@pytest.mark.parametrize(
    ("depth", "colors"),
    [
        ([[2.0, 2.0]], [[68, 1, 84], [68, 1, 84]]),
        ([[0.0, np.nan, np.inf, -1.0]], [[0, 0, 0]] * 4),
        ([[1.0, 1e30]], [[68, 1, 84], [253, 231, 36]]),
    ],
)
def test_degenerate_depth(depth, colors):
    assert color_depth(np.array(depth))[0].tolist() == colors


def test_depth_is_scaled_in_each_image_and_by_percentiles():
    depth = np.random.default_rng(0).uniform(1, 5, (40, 40))
    np.testing.assert_array_equal(color_depth(depth), color_depth(3 * depth))
    stray = depth.copy()
    stray[0, 0] = 1e6
    # One of 1,600 pixels moves a percentile by a 1,600th of the range: one of 256 colors at most.
    table = matplotlib.colormaps[builders.DEPTH_COLORS](range(256), bytes=True)[:, :3].astype(int)
    moved = np.abs(color_depth(stray)[1:].astype(int) - color_depth(depth)[1:])
    assert 0 < moved.max() <= np.abs(np.diff(table, axis=0)).max()


def test_command_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare", "texture", "sample:medical:9"])
    prepare.main()
    assert capsys.readouterr().out == "texture: 512 images\nsample:medical:9: 9 images\n"
    monkeypatch.setattr(sys, "argv", ["prepare", "textrue"])
    with pytest.raises(SystemExit, match="2"):
        prepare.main()
    assert capsys.readouterr().err.startswith("error: domain 'textrue' is unknown; did you mean")
