import pathlib

import numpy as np
import pytest
from PIL import Image

from fedgame.learning import data, files

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 5, 4)).astype(np.uint8)
LABELS = np.array([7, 2, 2, 7, 5, 5, 5, 7, 2])


def save(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return str(folder / "own.npz")


def by_pixels(part):
    """Labels by image, as bytes."""
    pixels = np.rint(part.images * 255).astype(np.uint8)
    return {image.tobytes(): int(label) for image, label in zip(pixels, part.labels, strict=True)}


def test_an_npz_without_a_split_has_a_fixed_one(tmp_path):
    path = save(tmp_path, images=PIXELS, labels=LABELS)
    assert data.sizes(path) == (6, 3)
    assert data.classes(path) == ("2", "5", "7")
    loaded = data.load(path, 6, 3, seed=0)
    assert loaded.train.images.shape == (6, 5, 4, 1)
    assert (loaded.train.images.dtype, loaded.train.labels.dtype) == (np.float32, np.int32)
    want = {image.tobytes(): {2: 0, 5: 1, 7: 2}[label] for image, label in zip(PIXELS, LABELS, strict=True)}
    assert by_pixels(loaded.train) | by_pixels(loaded.test) == want
    again = data.load(path, 6, 3, seed=1)
    assert by_pixels(again.test) == by_pixels(loaded.test)
    assert not np.array_equal(again.train.images, loaded.train.images)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_the_arrays_of_keras_and_medmnist(names, tmp_path):
    color = RNG.integers(0, 256, (9, 5, 4, 3)).astype(np.uint8)
    parts = color[:6], LABELS[:6, None], color[6:], LABELS[6:, None].astype(float)
    path = save(tmp_path, **dict(zip(names, parts, strict=True)), val_images=color)
    loaded = data.load(path, 6, 3, seed=0)
    want = [{2: 0, 5: 1, 7: 2}[label] for label in LABELS]
    assert by_pixels(loaded.train) == {i.tobytes(): n for i, n in zip(color[:6], want[:6], strict=True)}
    assert by_pixels(loaded.test) == {i.tobytes(): n for i, n in zip(color[6:], want[6:], strict=True)}


def test_floats_are_taken_as_they_are_and_classes_may_have_names(tmp_path):
    floats, numbers = RNG.random((9, 5, 4)), np.arange(9) % 3
    path = save(tmp_path, images=floats, labels=numbers, classes=np.array(["cat", "dog", "eel"]))
    assert data.classes(path) == ("cat", "dog", "eel")
    (train, test) = data.load(path, 6, 3, seed=0)
    got = np.concatenate([train.images, test.images])[..., 0]
    np.testing.assert_array_equal(np.sort(got, axis=0), np.sort(floats.astype(np.float32), axis=0))


KERAS = {"x_train": PIXELS[:6], "y_train": LABELS[:6], "x_test": PIXELS[6:], "y_test": LABELS[6:]}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS, "y": LABELS}, "own.npz holds images, y; needed are images, labels; x_train"),
        ({"images": PIXELS, "labels": LABELS[:8]}, "has 9 images in `images` and 8 labels"),
        ({"images": PIXELS[0], "labels": LABELS}, r"`images` of .* must be images .* got shape \(5, 4\)"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, r"got shape \(0, 5, 4\)"),
        ({"images": np.zeros((9, 3, 32, 32), np.uint8), "labels": LABELS}, "channels last"),
        (
            {"images": PIXELS.astype(int), "labels": LABELS},
            r"must be uint8, or floats in \[0, 1\], got int64",
        ),
        ({"images": PIXELS.astype(float), "labels": LABELS}, r"must lie in \[0, 1\], got 0 to 255"),
        ({"images": np.full((9, 5, 4), np.nan), "labels": LABELS}, r"must lie in \[0, 1\], got nan"),
        ({"images": PIXELS, "labels": LABELS + 0.5}, "`labels` of .* must be whole numbers"),
        ({"images": PIXELS, "labels": LABELS * np.inf}, "`labels` of .* must be whole numbers"),
        ({"images": PIXELS, "labels": LABELS.astype(str)}, "`labels` of .* must be whole numbers"),
        ({"images": PIXELS, "labels": np.eye(9)}, r"must be labels \[n\] or \[n, 1\], got shape \(9, 9\)"),
        ({"images": PIXELS, "labels": LABELS.astype(object)}, "`labels` of .* cannot be read: Object arrays"),
        ({"images": PIXELS, "labels": LABELS, "classes": ["a", "b"]}, "must be 0 to 1: `classes` has 2"),
        ({"images": PIXELS, "labels": LABELS % 2, "classes": ["a", "b", "c"]}, "class 'c' has no training"),
        (KERAS | {"y_test": np.array([2, 5, 9])}, "class '9' has no training image in"),
        (KERAS | {"x_test": PIXELS[6:, 1:]}, r"images of .* are \(5, 4, 1\), test images \(4, 4, 1\)"),
    ],
)
def test_arrays_that_are_not_what_they_should_be(arrays, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.sizes(save(tmp_path, **arrays))


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "own.npz"
    path.write_bytes(b"PIXELS")
    with pytest.raises(ValueError, match=r"own\.npz is not an \.npz file"):
        data.sizes(str(path))
    save(tmp_path, images=PIXELS, labels=LABELS)
    content = bytearray(path.read_bytes())
    content[150] ^= 255  # a pixel
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`images` of .*own\.npz cannot be read: Bad CRC"):
        data.sizes(str(path))


def draw(folder, names, mode="L", size=(4, 5), suffix="png"):
    """A folder of images for each class; every image has a brightness of its own."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 10 * number + 5).convert(mode).save(folder / f"{name}.{suffix}")


FLAT = [f"{kind}/{i}" for kind in ("cat", "dog") for i in range(6)]


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("L", "png", 1),
        ("LA", "png", 1),
        ("RGB", "PNG", 3),
        ("RGBA", "png", 3),
        ("P", "png", 3),
        ("L", "bmp", 1),
        ("L", "jpg", 1),
    ],
)
def test_a_folder_of_class_folders(mode, suffix, channels, tmp_path):
    draw(tmp_path, FLAT, mode, suffix=suffix)
    (tmp_path / "cat/notes.txt").write_text("not an image")
    (tmp_path / "cat/.hidden.png").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    path = str(tmp_path)
    assert data.sizes(path) == (8, 4)
    assert data.classes(path) == ("cat", "dog")
    (train, test) = data.load(path, 8, 4, seed=0)
    assert train.images.shape == (8, 5, 4, channels)
    pixels = np.rint(np.concatenate([train.images, test.images])[:, 0, 0, 0] * 255)
    labels = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(np.sort(pixels), 10 * np.arange(12) + 5)
    np.testing.assert_array_equal(labels, pixels > 60)
    assert by_pixels(data.load(path, 1, 4, seed=5).test) == by_pixels(test)


def test_the_order_in_which_a_file_system_lists_is_of_no_matter(tmp_path, monkeypatch):
    draw(tmp_path, FLAT)
    listed, drawn = pathlib.Path.iterdir, []
    for backwards in (False, True):
        monkeypatch.setattr(pathlib.Path, "iterdir", lambda d, b=backwards: sorted(listed(d), reverse=b))
        drawn.append(data.load(str(tmp_path), 5, 3, seed=0).train.images)
    np.testing.assert_array_equal(*drawn)


def test_a_folder_with_a_split(tmp_path):
    draw(tmp_path, [f"train/{name}" for name in FLAT])
    draw(tmp_path, ["test/cat/a", "test/dog/b"])
    assert data.sizes(str(tmp_path)) == (12, 2)
    (train, test) = data.load(str(tmp_path), 12, 2, seed=0)
    assert sorted(np.rint(train.images[:, 0, 0, 0] * 255)) == (10 * np.arange(12) + 5).tolist()
    assert sorted(zip(np.rint(test.images[:, 0, 0, 0] * 255), test.labels, strict=True)) == [(5, 0), (15, 1)]


def test_only_images_that_are_asked_for_are_decoded(tmp_path):
    draw(tmp_path, [f"train/{name}" for name in FLAT])
    draw(tmp_path, ["test/cat/a", "test/dog/b"])
    (tmp_path / "train/dog/5.png").write_bytes(b"broken")
    assert data.sizes(str(tmp_path)) == (12, 2)
    broken = [np.any(np.random.default_rng(s).permutation(12)[:4] == 11) for s in range(8)]
    assert set(broken) == {True, False}
    for seed, met in enumerate(broken):
        if met:
            with pytest.raises(ValueError, match=r"dog/5\.png cannot be read as an image"):
                data.load(str(tmp_path), 4, 2, seed)
        else:
            data.load(str(tmp_path), 4, 2, seed)


def test_an_image_that_differs_is_named(tmp_path):
    draw(tmp_path, FLAT)
    draw(tmp_path, ["dog/3"], size=(6, 6))
    with pytest.raises(ValueError, match=r"alike: .*dog/3.png is \(6, 6, 1\), .*png \(5, 4, 1\)"):
        data.load(str(tmp_path), 8, 4, seed=0)
    draw(tmp_path, ["dog/3"], mode="RGB")
    with pytest.raises(ValueError, match=r"alike: .*dog/3.png is \(5, 4, 3\), .*png \(5, 4, 1\)"):
        data.load(str(tmp_path), 8, 4, seed=0)
    Image.new("I;16", (4, 5)).save(tmp_path / "dog/3.png")
    with pytest.raises(ValueError, match=r"dog/3.png must have 8 bits a channel, its mode is I"):
        data.load(str(tmp_path), 8, 4, seed=0)
    whole = (tmp_path / "dog/4.png").read_bytes()
    draw(tmp_path, ["dog/3"])
    (tmp_path / "dog/3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"dog/3.png cannot be read as an image"):
        data.load(str(tmp_path), 8, 4, seed=0)


def test_folders_that_are_not_what_they_should_be(tmp_path):
    with pytest.raises(ValueError, match="has no folders of classes"):
        data.sizes(f"{tmp_path}/")
    draw(tmp_path, FLAT)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel/a.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"class folder .*eel holds no images"):
        data.sizes(str(tmp_path))
    split = tmp_path / "split"
    draw(split, ["train/cat/a", "train/dog/b", "test/cat/c", "test/eel/d"])
    with pytest.raises(ValueError, match=r"class 'dog' must be in both .*train and .*test"):
        data.sizes(str(split))


def test_too_few_images(tmp_path):
    draw(tmp_path, FLAT)
    with pytest.raises(ValueError, match="has 8 training and 4 test images, not 9 and 0"):
        data.load(str(tmp_path), 9, 0, seed=0)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 100])
def test_the_fixed_split_holds_out_a_third(number):
    train, test = files.fixed_split(number)
    assert len(test) == number // 3
    assert sorted([*train, *test]) == list(range(number))
