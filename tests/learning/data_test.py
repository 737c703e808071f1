import hashlib
import time

import jax
import numpy as np
import pytest
from PIL import Image

from fedgame.learning import data, federated, partitions


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


def test_the_classes_of_the_digits():
    assert data.classes("digits") == tuple("0123456789")


def test_the_draws_of_the_digits_are_those_of_earlier_versions():
    loaded = data.load("digits", 321, 123, seed=7)
    content = b"".join(array.tobytes() for part in loaded for array in part)
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
