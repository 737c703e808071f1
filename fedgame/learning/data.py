"""Images: scikit-learn's embedded digits, any image classification set of tensorflow-datasets, own files.

A data set is named by "digits", by a name of tensorflow-datasets ("mnist", "emnist/letters"; prepared, and
read without TensorFlow), or by the path of own images: an .npz file or a folder (see `files`).

Pixels are scaled to [0, 1]; nothing else is done to them, in particular no standardisation. Only the images
that are asked for are decoded.
"""

import pathlib
import re
from typing import NamedTuple

import numpy as np

from fedgame.learning import files, preparation
from fedgame.learning.federated import Images

_DIGITS = 1797
_DIGITS_TEST = 597  # scikit-learn's digits have no split of their own: 1,200 for training
_NAME = re.compile(r"\w+(/\w[\w.+-]*)?")  # of tensorflow-datasets, perhaps with a configuration


class Data(NamedTuple):
    """A sample of a data set, both parts in random order."""

    train: Images  # [train, h, w, c], [train]
    test: Images  # [test, h, w, c], [test]


def sizes(name: str, data_dir: str | None = None) -> tuple[int, int]:
    """Numbers of training and test images that the data set `name` has; raises what `load` does."""
    return _open(name, data_dir).sizes


def classes(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Names of the classes of the data set `name`, in the order of the labels; raises what `load` does."""
    return _open(name, data_dir).classes


def load(name: str, train: int, test: int, seed: int, data_dir: str | None = None) -> Data:
    """Draws `train` and `test` different images of the data set `name`.

    Where a data set has no test images of its own, those for validation serve, or `files.fixed_split`.

    Args:
      name: "digits", a name of tensorflow-datasets, or a path: it ends in .npz or contains a slash.
      train: number of training images.
      test: number of test images.
      seed: of the draw.
      data_dir: where tensorflow-datasets keeps its prepared data; None is its default,
        ~/tensorflow_datasets. Used by its data sets alone.

    Raises:
      ValueError: more images asked for than there are, or this is no image classification set.
      FileNotFoundError: there is no such file or folder, or nothing is prepared under `data_dir`.
    """
    source = _open(name, data_dir)
    available = source.sizes
    if train > available[0] or test > available[1]:
        raise ValueError(
            f"{name} has {available[0]} training and {available[1]} test images, not {train} and {test}"
        )
    rng = np.random.default_rng(seed)
    if name == "digits":  # the seed decides on the split, too
        order = rng.permutation(_DIGITS)
        rows = order[:train], order[available[0] : available[0] + test]
    else:
        rows = rng.permutation(available[0])[:train], rng.permutation(available[1])[:test]
    return Data(source.read("train", rows[0]), source.read("test", rows[1]))


def _open(name: str, data_dir: str | None) -> files.Source:
    if name == "digits":
        return files.Source((_DIGITS - _DIGITS_TEST, _DIGITS_TEST), tuple("0123456789"), _read_digits)
    path = pathlib.Path(name).expanduser()
    if name.endswith(".npz"):
        return files.arrays(path)
    if "/" in name and (path.is_dir() or not _NAME.fullmatch(name)):
        return files.folders(path)
    return _prepared(name, _prepared_folder(name, data_dir))


def _read_digits(part: str, rows: np.ndarray) -> Images:
    from sklearn import datasets  # slow to import, and of no use to the other data sets

    images, labels = datasets.load_digits(return_X_y=True)
    return files.to_images(images[rows].reshape(-1, 8, 8, 1) / 16.0, labels[rows])


def _prepared_folder(name: str, data_dir: str | None) -> pathlib.Path:
    """Where the newest version of a data set of tensorflow-datasets is, without asking the network.

    Raises:
      ValueError: it cannot be a name, or there are several configurations.
      FileNotFoundError: it is not there.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a data set: a path contains a slash or ends in .npz")
    folder = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    patterns = f"{name}/[0-9]*/dataset_info.json", f"{name}/*/[0-9]*/dataset_info.json"
    found = [info.parent for pattern in patterns for info in folder.glob(pattern)]
    if not found:
        how = (
            f"`python -m launch.prepare --dataset={name} --data_dir={folder}`"
            if name in preparation.NAMES
            else f"`pip install tensorflow tensorflow-datasets && tfds build {name} "
            f"--file_format=array_record --data_dir={folder}` in an environment of its own"
        )
        subject = f"{name} is no folder, and it" if "/" in name else name
        raise FileNotFoundError(
            f"{subject} is not prepared under {folder}: name its folder with --data_dir, or run {how}"
        )
    if len(configurations := {version.parent.relative_to(folder) for version in found}) > 1:
        raise ValueError(f"name one of {', '.join(map(str, sorted(configurations)))} instead of {name}")
    return max(found, key=lambda version: [int(x) for x in re.findall(r"\d+", version.name)])


def _prepared(name: str, folder: pathlib.Path) -> files.Source:
    """A data set that tensorflow-datasets prepared in `folder`, checked to be images and their classes."""
    import tensorflow_datasets as tfds  # slow to import, and of no use to the other data sets

    builder = tfds.builder_from_directory(folder)
    features, splits = builder.info.features, builder.info.splits
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(key in features and isinstance(features[key], kind) for key, kind in kinds.items()):
        raise ValueError(
            f"{name} is no image classification set: needed are `image` and a class `label`, "
            f"and it has {', '.join(f'{key} ({type(features[key]).__name__})' for key in features)}"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if None in shape or dtype != np.uint8:
        raise ValueError(
            f"images of {name} are {shape} {dtype}, needed are images of one size and 8 bits: "
            "make an .npz file or a folder of such images from them"
        )
    if "train" not in splits:
        raise ValueError(f"{name} has no split `train`, but {', '.join(splits)}")
    held_out = next((part for part in ("test", "validation") if part in splits), None)
    try:
        sources = [builder.as_data_source(part) for part in ("train", held_out) if part]
    except NotImplementedError:
        raise ValueError(
            f"{name} in {folder} is stored as {builder.info.file_format.value}: prepare it with "
            "`--file_format=array_record`, which can be read without TensorFlow"
        ) from None
    if held_out:
        parts = [(source, np.arange(len(source))) for source in sources]
    else:
        parts = [(sources[0], rows) for rows in files.fixed_split(len(sources[0]))]

    def read(part: str, rows: np.ndarray) -> Images:
        source, numbers = parts[("train", "test").index(part)]
        records = source.__getitems__(numbers[rows].tolist())
        images = [record["image"] for record in records]
        labels = np.array([record["label"] for record in records], np.int32)
        if np.any(labels < 0):
            raise ValueError(f"{part} images of {name} are not labelled")
        return files.to_images(np.asarray(images, np.uint8).reshape(-1, *shape), labels)

    return files.Source(tuple(len(rows) for _, rows in parts), tuple(features["label"].names), read)
