"""Images: scikit-learn's embedded digits, or MNIST and CIFAR-10 by tensorflow-datasets.

Pixels are scaled to [0, 1]; nothing else is done to them. Only the images that are asked for are
decoded, and TensorFlow is not needed.
"""

import pathlib
from typing import NamedTuple

import jax
import numpy as np

from fedgame.learning import partitions
from fedgame.learning.federated import Images

DATASETS = ("digits", "mnist", "cifar10")
_DIGITS_TEST = 597  # scikit-learn's digits have no split of their own: 1,200 for training


class Data(NamedTuple):
    """A sample of a data set, both parts in random order."""

    train: Images  # [train, h, w, c], [train]
    test: Images  # [test, h, w, c], [test]


def sizes(name: str, data_dir: str | None = None) -> tuple[int, int]:
    """Numbers of training and test images that the data set `name` has.

    Raises:
      FileNotFoundError: the data set is not prepared under `data_dir`.
    """
    if name == "digits":
        return 1797 - _DIGITS_TEST, _DIGITS_TEST
    return len(_source(name, "train", data_dir)), len(_source(name, "test", data_dir))


def load(name: str, train: int, test: int, seed: int, data_dir: str | None = None) -> Data:
    """Draws `train` and `test` different images of the data set `name`.

    Args:
      name: one of `DATASETS`, or another image classification set prepared under `data_dir`.
      train: number of training images.
      test: number of test images.
      seed: of the draw.
      data_dir: where tensorflow-datasets keeps its prepared data; None is its default,
        ~/tensorflow_datasets. Not used by "digits".

    Raises:
      ValueError: more images asked for than there are.
      FileNotFoundError: the data set is not prepared under `data_dir`.
    """
    available = sizes(name, data_dir)
    if train > available[0] or test > available[1]:
        raise ValueError(
            f"{name} has {available[0]} training and {available[1]} test images, not {train} and {test}"
        )
    rng = np.random.default_rng(seed)
    if name == "digits":
        from sklearn import datasets  # slow to import, and of no use to the other data sets

        images, labels = datasets.load_digits(return_X_y=True)
        order = rng.permutation(len(labels))
        images, labels = images[order].reshape(-1, 8, 8, 1) / 16.0, labels[order]
        split = available[0]
        return Data(
            _images(images[:train], labels[:train]),
            _images(images[split : split + test], labels[split : split + test]),
        )
    draws = (("train", rng.permutation(available[0])[:train]), ("test", rng.permutation(available[1])[:test]))
    return Data(*(_decode(_source(name, part, data_dir), rows) for part, rows in draws))


def deal(data: Images, sizes: np.ndarray, key: jax.Array) -> Images:
    """Deals disjoint random images to owners, i.i.d.: owner i gets the first sizes[i] of her row.

    Args:
      data: at least sum(sizes) images.
      sizes: [n] number for each owner.
      key: of the order.

    Returns:
      Images [n, max(sizes), h, w, c] and labels [n, max(sizes)], zero beyond an owner's size.
    """
    return partitions.partition(data, sizes, key)


def _images(images: np.ndarray, labels: np.ndarray) -> Images:
    return Images(np.asarray(images, np.float32), np.asarray(labels, np.int32))


def _decode(source: object, rows: np.ndarray) -> Images:
    records = source.__getitems__([int(row) for row in rows])
    images = np.stack([record["image"] for record in records]) / np.float32(255)
    return _images(images, [record["label"] for record in records])


def _source(name: str, split: str, data_dir: str | None) -> object:
    """The stock `tfds.data_source`, after a look whether it is there: TFDS would retry for minutes."""
    folder = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    if not any(folder.glob(f"{name}/*/dataset_info.json")):
        raise FileNotFoundError(
            f"{name} is not prepared under {folder}: name its folder with --data_dir, or run "
            f"`pip install tensorflow tensorflow-datasets && tfds build {name} "
            f"--file_format=array_record --data_dir={folder}` in an environment of its own"
        )
    import tensorflow_datasets as tfds  # slow to import, and of no use to "digits"

    return tfds.data_source(name, split=split, data_dir=folder, download=False)
