"""Folders as thingsvision writes them."""

import numpy as np
import pytest
from scipy.io import savemat

from substrate_jax.features import Features

NAMES = ("/data/cat/1.png", "/data/cat/2.png", "/data/dog/3.png", "/data/dog/4.png")
VALUES = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def save_hdf5(path, arrays):
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def in_one_npy(folder):
    np.save(folder / "features.npy", VALUES)


def in_npy_by_rows(folder):
    for start in range(4):  # of the tenth row on, names sort otherwise than numbers
        np.save(folder / f"features_{start}-{start + 1}.npy", VALUES[start : start + 1])


def in_npy_by_number(folder):
    np.save(folder / "features_01.npy", VALUES[:3])
    np.save(folder / "features_02.npy", VALUES[3:])


def in_hdf5(folder):
    save_hdf5(folder / "features.hdf5", {"features": VALUES})


def in_hdf5_parts(folder):
    save_hdf5(folder / "features.hdf5", {"features_01": VALUES[:1], "features_02": VALUES[1:]})


def in_txt(folder):
    np.savetxt(folder / "features.txt", VALUES)


def in_mat(folder):
    savemat(folder / "features.mat", {"features": VALUES})


def in_mat_by_name(folder):
    rows = {name.removesuffix(".png"): VALUES[i] for i, name in reversed([*enumerate(NAMES)])}
    savemat(folder / "features.mat", rows)


LAYOUTS = (
    in_one_npy,
    in_npy_by_rows,
    in_npy_by_number,
    in_hdf5,
    in_hdf5_parts,
    in_txt,
    in_mat,
    in_mat_by_name,
)


@pytest.fixture
def module(tmp_path):
    folder = tmp_path / "out" / "layer4.1"
    folder.mkdir(parents=True)
    (tmp_path / "out" / "file_names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return folder


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("outer", [False, True], ids=["module", "around"])
def test_every_layout_gives_the_same_rows(write, outer, module):
    write(module)
    features = Features.read(module.parent if outer else module)
    assert features.ids == NAMES
    assert list(features) == ["layer4.1"] or write in (in_mat, in_mat_by_name)
    (block,) = features.values()
    np.testing.assert_array_equal(np.asarray(block), VALUES)


def test_parts_stand_in_the_order_of_their_rows(module):
    names = [f"{i}.png" for i in range(12)]
    (module / "file_names.txt").write_text("\n".join(names))
    for row in range(12):
        np.save(module / f"features_val_{row}-{row + 1}.npy", np.full((1, 2), row))
    (block,) = Features.read(module).values()
    assert np.asarray(block)[:, 0].tolist() == list(range(12))


def test_variables_are_rows_without_a_list_of_names(tmp_path):
    savemat(tmp_path / "features.mat", {"b": VALUES[0], "a": VALUES[1]})
    features = Features.read(tmp_path)
    assert features.ids == ("b", "a")


def broken_parts(folder):
    np.save(folder / "features_0-2.npy", VALUES[:2])
    np.save(folder / "features_3-4.npy", VALUES[3:])


def two_formats(folder):
    in_txt(folder)
    in_one_npy(folder)


def two_modules(folder):
    other = folder.parent / "fc"
    other.mkdir()
    in_one_npy(folder)
    in_one_npy(other)


def a_pickle(folder):
    (folder / "features.pt").write_bytes(b"PK")


def a_row_missing(folder):
    savemat(folder / "features.mat", {"/data/cat/1": VALUES[0], "/data/cat/2": VALUES[1]})


def shapes_differ(folder):
    np.save(folder / "features_01.npy", VALUES[:2])
    np.save(folder / "features_02.npy", VALUES[2:, :2])


def cut_mat(folder):
    in_mat(folder)
    path = folder / "features.mat"
    path.write_bytes(path.read_bytes()[:150])


BAD = {
    broken_parts: "overlap or leave a gap: features_0-2.npy, features_3-4.npy",
    two_formats: "several formats",
    two_modules: r"holds 2 modules \(fc, layer4.1\); give the folder of one",
    a_pickle: r"features\.pt is a pickle, which is never opened",
    a_row_missing: "lacks 2 of the 4 rows of file_names.txt: /data/dog/3.png, /data/dog/4.png",
    shapes_differ: "parts of several shapes",
    cut_mat: r"features\.mat is no whole \.mat file",
    lambda folder: None: "holds no features",
}


@pytest.mark.parametrize("write", BAD, ids=lambda write: write.__name__)
def test_folders_that_are_not_clear_are_refused(write, module):
    write(module)
    with pytest.raises(ValueError, match=BAD[write]) as caught:
        Features.read(module.parent if write is two_modules else module)
    assert "\n" not in str(caught.value)
