import io
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from fedgame.learning import data, image_arrays, memory

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 10, 8)).astype(np.uint8)
LABELS = np.arange(9) % 3


def save(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS > 127, "labels": LABELS}, ""),
        (
            {"images": (PIXELS > 127).astype(np.uint8)},
            "no pixel of .* is brighter than 0.0039 of white, which",
        ),
        ({"images": PIXELS * 0}, "is brighter than 0 of white, which is 255 in uint8, 1 in floats: if they"),
        (
            {"images": PIXELS / np.float32(255) / 255},
            "brighter than 0.0039 of white, .*else divide floats by",
        ),
        (
            {"images": np.zeros((9, 28, 28, 28), np.uint8)},
            r"1 to 4 channels.*28\): of volumes, take one slice",
        ),
        ({"images": PIXELS.astype(str)}, "must be uint8 up to 255, bool, or floats in .*, got <U3"),
        (
            {"images": PIXELS.astype("m8[s]")},
            "must be uint8 up to 255, bool, or floats in .*, got timedelta64",
        ),
        ({"labels": LABELS * 1e300}, r"`labels` of .* must lie between -2\^53 and 2\^53, got 0 to 2e\+300"),
        ({"labels": LABELS.astype(np.uint64) + np.uint64(2**63)}, r"must lie between -2\^53 and 2\^53"),
        ({"labels": np.full(9, np.iinfo(np.int64).min)}, r"must lie between -2\^53 and 2\^53"),
        ({"labels": LABELS.astype("m8[s]")}, "`labels` of .* must be whole numbers"),
        ({"labels": LABELS.astype(np.float16)}, ""),
        ({"classes": ["cat", "dog", "e\nl"]}, r"`classes` of .* must be printable texts, not 'e\\nl'"),
        ({"classes": ["cat", "dog", ""]}, "must be printable texts, not ''"),
        ({"labels": LABELS * 0 + 7}, "are of one class, 7: there is nothing to learn"),
    ],
)
def test_what_arrays_may_hold(arrays, message, tmp_path):
    path = str(save(tmp_path, **{"images": PIXELS, "labels": LABELS} | arrays))
    if message:
        with pytest.raises(ValueError, match=message):
            data.sizes(path)
    else:
        assert data.sizes(path) == (6, 3)


def test_bools_are_black_and_white(tmp_path):
    path = save(tmp_path, images=PIXELS > 127, labels=LABELS)
    np.testing.assert_array_equal(data.everything(path).pixels[..., 0], PIXELS > 127)


def test_names_of_classes_may_be_bytes(tmp_path):
    path = save(tmp_path, images=PIXELS, labels=LABELS, classes=np.char.encode(["é", "dog", "eel"], "utf-8"))
    assert data.classes(str(path)) == ("é", "dog", "eel")


def test_classes_of_members_are_matched_by_name(tmp_path):
    path = save(tmp_path, images=PIXELS, labels=LABELS, classes=["cat", "dog", "cat"])
    assert data.classes(str(path)) == ("cat", "dog", "cat")
    with pytest.raises(ValueError, match=r"`classes` of .* has 'cat' twice"):
        data.everything(path)


def test_arrays_that_are_ignored_and_dark_pixels_are_told(tmp_path):
    of_train = {"train_images": PIXELS // 16, "train_labels": LABELS}
    of_test = {"test_images": PIXELS / np.float32(2000), "test_labels": LABELS}
    path = save(tmp_path, **of_train, **of_test, val_images=PIXELS, val_labels=LABELS)
    told = [
        f"no pixel of {path} is brighter than 0.13 of white, which is 255 in uint8, 1 in floats",
        f"arrays of {path} that are ignored: 'val_images', 'val_labels'",
    ]
    assert list(data.load(str(path), 2, 2, 0).remarks) == told
    assert data.everything(path).remarks == told


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return path


def header(text):
    """An .npy file of this header, without data."""
    line = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(HUGE), "`images` of .* cannot be read: "),
        (header("{'descr': '|u1', 'shape': (("), "`images` of .* cannot be read: "),
        (header("'''"), "`images` of .* cannot be read: "),
        (header("{"), "`images` of .* cannot be read: "),
        (b"\x93NUMPY\x09\x00", "`images` of .* cannot be read: "),
        (b"PIXELS", "`images` of .* cannot be read: it is no array"),
        (b"", "`images` of .* cannot be read: it is no array"),
    ],
)
def test_headers_that_are_wrong(content, message, tmp_path):
    path = zipped(tmp_path / "own.npz", images_npy=content, labels_npy=content)
    with pytest.raises(ValueError, match=message):
        image_arrays.read(path)


def test_encrypted_archives(tmp_path):
    path = save(tmp_path, images=PIXELS, labels=LABELS)
    content = bytearray(path.read_bytes())
    for head, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(head) + flag] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`images` of .* cannot be read: File 'images\.npy' is encrypted"):
        image_arrays.read(path)


def test_pickles_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    path = save(tmp_path, images=np.array([Trap()], object), labels=LABELS)
    with pytest.raises(ValueError, match=r"`images` of .* cannot be read: Object arrays"):
        image_arrays.read(path)


def test_an_archive_of_many_files_is_told_in_one_sentence(tmp_path):
    path = zipped(tmp_path / "own.npz", **{f"{k:04}": b"" for k in range(1000)})
    with pytest.raises(ValueError, match=r"holds 0000, .*, 0009; needed are images, labels; x_train"):
        image_arrays.read(path)


@hypothesis.given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_archives_are_read_or_named(place, byte, cut, tmp_path):
    whole = io.BytesIO()
    np.savez_compressed(whole, images=PIXELS, labels=LABELS)
    content = bytearray(whole.getvalue())
    where = int(place * len(content))
    content[where] = byte
    path = tmp_path / "own.npz"
    path.write_bytes(content[:where] if cut else content)
    told = str(path)
    try:
        image_arrays.read(path)
    except ValueError as error:
        told = str(error)
    assert str(path) in told


def test_arrays_that_do_not_fit_into_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = save(tmp_path, images=PIXELS, labels=LABELS)
    size = PIXELS.size + LABELS.nbytes + 2 * 128  # of images, of labels, of two headers
    monkeypatch.setattr(memory, "of_machine", lambda: size)
    assert len(data.load(str(path), 2, 1, 0).train.images) == 2  # 80 pixels, 4 bytes
    with pytest.raises(ValueError, match=r"^6 training images of .* need \S+ GB of memory"):
        data.load(str(path), 6, 3, 0)
    with pytest.raises(ValueError, match=r"^images of .* need \S+ GB of memory"):
        data.everything(path)
    monkeypatch.setattr(memory, "of_machine", lambda: size - 1)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", None)
    with pytest.raises(
        ValueError, match=r"^arrays of .* need \S+ GB of memory, and this machine has \S+ GB: use"
    ):
        image_arrays.read(path)
