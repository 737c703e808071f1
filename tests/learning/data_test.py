import time

import jax
import numpy as np
import pytest

from fedgame.learning import data, federated


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


def test_a_missing_data_set_is_told_at_once(tmp_path):
    begin = time.perf_counter()
    with pytest.raises(FileNotFoundError, match=r"mnist is not prepared under .* tfds build mnist"):
        data.load("mnist", 10, 10, seed=0, data_dir=str(tmp_path))
    assert time.perf_counter() - begin < 1  # tensorflow-datasets alone would retry for minutes


@pytest.mark.parametrize("sizes", [[3, 3, 3], [5, 1, 2], [4]])
def test_dealt_images_are_disjoint(sizes):
    images = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) + 1
    pool = federated.Images(images, np.arange(10, dtype=np.int32) + 1)
    dealt = data.deal(pool, np.asarray(sizes), jax.random.key(0))
    assert dealt.images.shape == (len(sizes), max(sizes), 1, 1, 1)
    hands = [labels[:size].tolist() for labels, size in zip(dealt.labels, sizes, strict=True)]
    flat = [label for hand in hands for label in hand]
    assert len(set(flat)) == sum(sizes)
    assert 0 not in flat
    np.testing.assert_array_equal(dealt.images[..., 0, 0, 0], dealt.labels)
    assert np.count_nonzero(dealt.labels) == sum(sizes)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small data set of our own, written by tensorflow-datasets without TensorFlow."""
    import tensorflow_datasets as tfds

    class FedgameSquares(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 1)),
                "label": tfds.features.ClassLabel(num_classes=4),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(12), "test": self._generate_examples(6)}

        def _generate_examples(self, number=0):
            import io

            from PIL import Image

            for i in range(number):
                png = io.BytesIO()
                Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(png, format="PNG")
                yield i, {"image": png.getvalue(), "label": i % 4}

    folder = tmp_path_factory.mktemp("tfds")
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    builder = FedgameSquares(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare(download_config=config)
    return str(folder)


@pytest.mark.filterwarnings("ignore")  # tensorflow-datasets' own
def test_data_prepared_by_tensorflow_datasets_are_read(prepared):
    name = "fedgame_squares"
    assert data.sizes(name, prepared) == (12, 6)
    loaded = data.load(name, 12, 6, seed=0, data_dir=prepared)
    assert loaded.train.images.shape == (12, 8, 8, 1)
    brightness = np.rint(loaded.train.images[:, 0, 0, 0] * 255 / 20).astype(int)
    assert sorted(brightness) == list(range(12))
    np.testing.assert_array_equal(loaded.train.labels, brightness % 4)
    assert loaded.test.labels.dtype == np.int32
