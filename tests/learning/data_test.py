import hashlib
import os
import pathlib
import re
import time

import jax
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from fedgame.learning import data, federated, memory, partitions


def test_digits_are_all_there_and_no_image_is_in_both_parts():
    train, test = data.sizes("digits")
    assert train + test == 1797
    loaded = data.load("digits", train, test, seed=0)
    assert loaded.train.images.shape == (train, 8, 8, 1)
    assert loaded.train.images.dtype == np.float32
    everything = np.concatenate([loaded.train.images, loaded.test.images])
    assert (everything.min(), everything.max()) == (0, 1)
    assert np.bincount(np.concatenate([loaded.train.labels, loaded.test.labels])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180
    ]  # fmt: skip
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == 1797


def test_the_seed_decides_the_draw():
    a, b, c = (data.load("digits", 20, 5, seed=seed).train.images for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_more_images_than_there_are():
    with pytest.raises(ValueError, match="digits has 1200 training and 597 test images, not 1201 and 0"):
        data.load("digits", 1201, 0, seed=0)


def test_the_digits_are_those_that_scikit_learn_loads():
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    rows = np.arange(len(labels))
    loaded, told = data._read_digits("train", rows)
    assert told == []
    np.testing.assert_array_equal(loaded.images.reshape(-1, 64), np.float32(images / 16.0))
    np.testing.assert_array_equal(loaded.labels, labels)


def test_the_classes_of_the_digits():
    assert data.classes("digits") == tuple("0123456789")


def test_the_draws_of_the_digits_are_those_of_earlier_versions():
    loaded = data.load("digits", 321, 123, seed=7)
    content = b"".join(array.tobytes() for part in (loaded.train, loaded.test) for array in part)
    assert hashlib.sha256(content).hexdigest().startswith("f9978f976335228f")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mnist", "`python -m launch.prepare --dataset=mnist --data_dir="),
        ("svhn_cropped", "tfds build svhn_c"),
    ],
)
def test_a_missing_data_set_is_told_at_once(name, how, tmp_path):
    (tmp_path / name / "incomplete.ABCDEF_3.0.1").mkdir(parents=True)
    (tmp_path / name / "incomplete.ABCDEF_3.0.1" / "dataset_info.json").write_text("{}")  # of a killed run
    begin = time.perf_counter()
    with pytest.raises(FileNotFoundError, match=f"{name} is not prepared under .*--data_dir, or run .*{how}"):
        data.load(name, 10, 10, seed=0, data_dir=str(tmp_path))
    assert time.perf_counter() - begin < 1  # tensorflow-datasets alone would retry for minutes


@pytest.mark.parametrize("name", ["", "..", "*", "mnist:3.0.1"])
def test_what_cannot_name_a_data_set(name):
    with pytest.raises(ValueError, match="is no name of a data set: a path contains a slash or ends in"):
        data.sizes(name)


@pytest.mark.parametrize(
    ("name", "what"), [("gone.npz", "file"), ("./gone", "folder"), ("gone/", "folder"), ("a/b/c", "folder")]
)
def test_own_data_that_are_not_there(name, what):
    with pytest.raises(FileNotFoundError, match=f"there is no {what} "):
        data.sizes(name)


@pytest.mark.parametrize("sizes", [[3, 3, 3], [5, 1, 2], [4]])
def test_dealt_images_are_disjoint(sizes):
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) + 1
    pool = federated.Images(images, np.arange(10, dtype=np.int32) + 1)
    dealt = partitions.partition(pool, np.asarray(sizes), jax.random.key(0))
    assert dealt.images.shape == (len(sizes), max(sizes), 1, 1, 1)
    hands = [labels[:size].tolist() for labels, size in zip(dealt.labels, sizes, strict=True)]
    flat = [label for hand in hands for label in hand]
    assert len(set(flat)) == sum(sizes)
    assert 0 not in flat
    np.testing.assert_array_equal(dealt.images[..., 0, 0, 0], dealt.labels)
    assert np.count_nonzero(dealt.labels) == sum(sizes)


def prepare(folder, name, features=None, splits=("train", "test"), config=None, labels=(0, 1, 2, 3)):
    """A small data set of our own, written by tensorflow-datasets without TensorFlow."""
    import io

    import tensorflow_datasets as tfds

    kinds = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(names=["a", "b", "c", "d"]),
    }

    def info(builder):
        return tfds.core.DatasetInfo(builder=builder, features=tfds.features.FeaturesDict(features or kinds))

    def examples(number):
        for i in range(number):
            png = io.BytesIO()
            Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(png, format="PNG")
            values = {"image": png.getvalue(), "label": labels[i % 4], "text": "word"}
            yield i, {key: values[key] for key in features or kinds}

    methods = {
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda *_: {part: examples(n) for part, n in zip(splits, (12, 6), strict=False)},
        "_generate_examples": None,
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config, version="1.0.0")] if config else [],
        "__module__": __name__,
    }
    base = tfds.core.GeneratorBasedBuilder
    builder = type(base)(name, (base,), methods, skip_registration=True)
    compute = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    builder(data_dir=str(folder), file_format="array_record").download_and_prepare(download_config=compute)


def brightness(part):
    return np.rint(part.images[:, 0, 0, 0] * 255 / 20).astype(int)


@pytest.mark.filterwarnings("ignore")  # tensorflow-datasets' own
def test_data_prepared_by_tensorflow_datasets_are_read(tmp_path):
    prepare(tmp_path, "Squares")
    name, folder = "squares", str(tmp_path)
    assert data.sizes(name, folder) == (12, 6)
    assert data.classes(name, folder) == ("a", "b", "c", "d")
    loaded = data.load(name, 12, 6, seed=0, data_dir=folder)
    assert loaded.train.images.shape == (12, 8, 8, 1)
    assert loaded.train.images.dtype == np.float32
    assert sorted(brightness(loaded.train)) == list(range(12))
    np.testing.assert_array_equal(loaded.train.labels, brightness(loaded.train) % 4)
    assert sorted(brightness(loaded.test)) == list(range(6))
    assert loaded.test.labels.dtype == np.int32
    assert data.load(name, 3, 0, seed=0, data_dir=folder).test.images.shape == (0, 8, 8, 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("dataset_info.json", lambda text: text[: len(text) // 2]),
        ("features.json", lambda text: text.replace(b'"8"', b"[]")),
        ("squares-train.array_record*", lambda records: records[: len(records) // 2]),
    ],
)
def test_prepared_files_that_are_damaged_are_told(tmp_path, name, damage):
    prepare(tmp_path, "Squares")
    (file,) = (tmp_path / "squares" / "1.0.0").glob(name)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert file.read_bytes() != whole
    with pytest.raises(ValueError, match=r"squares in .*1.0.0 cannot be read, prepare it anew: \S"):
        data.load("squares", 12, 6, seed=0, data_dir=str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_without_test_images_a_third_is_held_out_always_the_same(tmp_path):
    prepare(tmp_path, "Unsplit", splits=("train",))
    assert data.sizes("unsplit", str(tmp_path)) == (8, 4)
    a, b = (data.load("unsplit", 8, 4, seed, str(tmp_path)) for seed in (0, 1))
    assert sorted([*brightness(a.train), *brightness(a.test)]) == list(range(12))
    assert set(brightness(a.test)) == set(brightness(b.test))
    prepare(tmp_path, "Validated", splits=("train", "validation"))
    assert data.sizes("validated", str(tmp_path)) == (12, 6)


@pytest.mark.filterwarnings("ignore")
def test_the_newest_version_is_read(tmp_path):
    prepare(tmp_path, "Aged")
    (tmp_path / "aged/1.0.0").rename(tmp_path / "aged/10.0.0")
    prepare(tmp_path, "Aged", splits=("train",))
    (tmp_path / "aged/1.0.0").rename(tmp_path / "aged/9.0.0")
    assert data.sizes("aged", str(tmp_path)) == (12, 6)


@pytest.mark.filterwarnings("ignore")
def test_images_without_labels_are_no_examples(tmp_path):
    prepare(tmp_path, "Secret", labels=(0, 1, 2, -1))
    with pytest.raises(ValueError, match="train images of secret are not labelled"):
        data.load("secret", 12, 0, seed=0, data_dir=str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_a_data_set_stored_in_a_form_that_needs_tensorflow(tmp_path):
    prepare(tmp_path, "Records")
    info = tmp_path / "records/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        ValueError, match="is stored as tfrecord: prepare it with `--file_format=array_record`"
    ):
        data.sizes("records", str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_configurations_are_named_with_a_slash(tmp_path):
    prepare(tmp_path, "Many", config="one")
    assert data.sizes("many", str(tmp_path)) == (12, 6)
    prepare(tmp_path, "Many", config="two")
    assert data.sizes("many/two", str(tmp_path)) == (12, 6)
    with pytest.raises(FileNotFoundError, match="many/three is no folder, and it is not prepared under"):
        data.sizes("many/three", str(tmp_path))
    with pytest.raises(ValueError, match="name one of many/one, many/two instead of many"):
        data.sizes("many", str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_other_data_sets_of_tensorflow_datasets_are_refused(tmp_path):
    from tensorflow_datasets import features

    label, text = features.ClassLabel(num_classes=4), features.Text()
    cases = {
        "Words": ({"text": text, "label": label}, r"needed are `image` .* it has .*text \(Text\)"),
        "Varied": (
            {"image": features.Image(shape=(None, None, 1)), "label": label},
            r"images of varied are \(None, None, 1\) uint8, needed are images of one size",
        ),
        "Captions": ({"image": features.Image(shape=(8, 8, 1)), "text": text}, r"it has .*image \(Image\)"),
    }
    for name, (kinds, message) in cases.items():
        prepare(tmp_path, name, kinds)
        with pytest.raises(ValueError, match=message):
            data.sizes(name.lower(), str(tmp_path))
    prepare(tmp_path, "Untrained", splits=("test",))
    with pytest.raises(ValueError, match="untrained has no split `train`, but test"):
        data.sizes("untrained", str(tmp_path))


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 5, 4)).astype(np.uint8)
LABELS = np.array([7, 2, 2, 7, 5, 5, 5, 7, 2])


def save(folder, **arrays):
    np.savez(folder / "own.npz", **arrays)
    return str(folder / "own.npz")


def by_pixels(part):
    """The labels of images, by their bytes."""
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
    train, test, _ = data.load(path, 6, 3, seed=0)
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
            r"must be uint8 up to 255, bool, or floats in \[0, 1\], got int64",
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
    train, test, _ = data.load(path, 8, 4, seed=0)
    assert train.images.shape == (8, 5, 4, channels)
    pixels = np.rint(np.concatenate([train.images, test.images])[:, 0, 0, 0] * 255)
    labels = np.concatenate([train.labels, test.labels])
    np.testing.assert_array_equal(np.sort(pixels), 10 * np.arange(12) + 5)
    np.testing.assert_array_equal(labels, pixels > 60)
    assert by_pixels(data.load(path, 1, 4, seed=5).test) == by_pixels(test)


def test_the_order_in_which_a_file_system_lists_is_of_no_matter(tmp_path, monkeypatch):
    draw(tmp_path, FLAT)
    drawn = []
    entries = {folder: sorted(os.scandir(folder), key=lambda e: e.name) for folder in tmp_path.glob("**")}
    for order in (1, -1):
        monkeypatch.setattr(os, "scandir", lambda folder, order=order: entries[folder][::order])
        drawn.append(data.load(str(tmp_path), 5, 3, seed=0).train.images)
    np.testing.assert_array_equal(*drawn)


def test_a_folder_with_a_split(tmp_path):
    draw(tmp_path, [f"train/{name}" for name in FLAT])
    draw(tmp_path, ["test/cat/a", "test/dog/b"])
    assert data.sizes(str(tmp_path)) == (12, 2)
    train, test, _ = data.load(str(tmp_path), 12, 2, seed=0)
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
    train, test = data.fixed_split(number)
    assert len(test) == number // 3
    assert sorted([*train, *test]) == list(range(number))


@pytest.mark.parametrize("form", ["own", "keras", "NPZ"])
def test_everything_of_an_npz_whatever_part_it_is_in(form, tmp_path):
    arrays = (
        KERAS | {"y_test": np.array([9, 5, 9])} if form == "keras" else {"images": PIXELS, "labels": LABELS}
    )
    path = pathlib.Path(save(tmp_path, **arrays))
    path = path.rename(tmp_path / "own.NPZ") if form == "NPZ" else path
    pixels, labels, classes, _ = data.everything(path)
    np.testing.assert_array_equal(pixels[..., 0], PIXELS / np.float32(255))
    assert pixels.dtype == np.float32
    assert classes == (("2", "5", "7", "9") if form == "keras" else ("2", "5", "7"))
    want = [*LABELS[:6], 9, 5, 9] if form == "keras" else LABELS
    assert [int(classes[k]) for k in labels] == list(want)


def test_everything_of_a_folder_with_a_split(tmp_path):
    for name, levels in (("train/b", (1, 2)), ("train/a", (3,)), ("test/c", (4,)), ("test/b", (5,))):
        (tmp_path / name).mkdir(parents=True)
        for level in levels:
            Image.fromarray(np.full((2, 3), level, np.uint8)).save(tmp_path / name / f"{level}.png")
    pixels, labels, classes, _ = data.everything(tmp_path)
    assert classes == ("a", "b", "c")
    found = {round(255 * float(image[0, 0, 0])): classes[k] for image, k in zip(pixels, labels, strict=True)}
    assert found == {1: "b", 2: "b", 3: "a", 4: "c", 5: "b"}
    assert pixels.shape == (5, 2, 3, 1)


def test_everything_of_what_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="has no folders of classes"):
        data.everything(tmp_path)
    path = pathlib.Path(save(tmp_path, images=PIXELS, labels=LABELS[:8]))
    with pytest.raises(ValueError, match="has 9 images in `images` and 8 labels"):
        data.everything(path)
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"is not an \.npz file"):
        data.everything(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.csv", "own.csv is a table: members' own tables go, in one folder, with --federation"),
        ("own.PARQUET", "own.PARQUET is a table"),
        ("own.npy", 'own.npy is one array, without labels: put both into an .npz file, python -c "import'),
        ("own.zip", "own.zip is an archive: unpack it, and name the folder"),
        ("own.tar.gz", "own.tar.gz is an archive: unpack it, and name the folder"),
        ("own.png", "own.png is a single image: name the folder that has a folder for each class"),
        (
            "own.h5",
            "own.h5 is a file of another kind: name an .npz file, or a folder that has a folder of im",
        ),
        ("./own", "./own is a file of another kind"),
        ("pipe.csv", "pipe.csv is neither a file nor a folder"),
    ],
)
def test_files_that_are_no_data_set_are_called_what_they_are(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "pipe.csv":
        os.mkfifo(name)
    else:
        pathlib.Path(name).write_bytes(b"content")
    for way in (name, f"./{name}", str(tmp_path / name)):
        with pytest.raises(ValueError, match=re.escape(message.split(" ", 1)[1])):
            data.sizes(way)


def test_the_command_that_makes_an_npz_of_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("own.npy", PIXELS)
    np.save("labels.npy", LABELS)
    with pytest.raises(ValueError, match="is one array") as told:
        data.sizes("own.npy")
    exec(re.search('python -c "(.*)"', str(told.value)).group(1), {})
    assert data.sizes("own.npz") == (6, 3)


@pytest.mark.parametrize("name", ["~/pets", "~/pets/", "~/pets//", "~/own.npz", "~/OWN.NPZ"])
def test_the_home_folder_may_be_written_as_a_tilde(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    draw(tmp_path / "pets", FLAT)
    path = pathlib.Path(save(tmp_path, images=np.tile(PIXELS, (2, 1, 1))[:12], labels=np.arange(12) % 2))
    if "OWN" in name:
        path.rename(tmp_path / "OWN.NPZ")
    assert data.sizes(name) == (8, 4)
    with pytest.raises(FileNotFoundError, match="there is no folder ~nobody_here/pets"):
        data.sizes("~nobody_here/pets")


def test_a_folder_that_is_called_as_a_file(tmp_path, monkeypatch):
    draw(tmp_path / "pets.npz", FLAT)
    assert data.sizes(f"{tmp_path}/pets.npz") == data.sizes(f"{tmp_path}/pets.npz/") == (8, 4)
    assert len(data.everything(tmp_path / "pets.npz").pixels) == 12
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "pets", FLAT)
    with pytest.raises(
        FileNotFoundError,
        match=r"pets is not prepared .*, or run `.*`.*, or write pets/ for the folder of this",
    ):
        data.sizes("pets", str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_one_class_is_nothing_to_learn(tmp_path):
    from tensorflow_datasets import features

    of_one = {"image": features.Image(shape=(8, 8, 1)), "label": features.ClassLabel(names=["a"])}
    prepare(tmp_path, "Lonely", of_one, labels=(0, 0, 0, 0))
    with pytest.raises(
        ValueError, match="all images of lonely are of one class, a: there is nothing to learn"
    ):
        data.sizes("lonely", str(tmp_path))


@pytest.mark.filterwarnings("ignore")
def test_more_images_than_memory_are_refused(tmp_path, monkeypatch):
    prepare(tmp_path, "Large")
    monkeypatch.setattr(memory, "of_machine", lambda: 2000)
    assert len(data.load("large", 6, 6, 0, str(tmp_path)).train.images) == 6  # 64 pixels, 5 bytes
    with pytest.raises(ValueError, match=r"^12 training images of large need \S+ GB of memory"):
        data.load("large", 12, 6, 0, str(tmp_path))
