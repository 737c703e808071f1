"""Images: scikit-learn's embedded digits, any image classification set of tensorflow-datasets, own files.

A data set is named by "digits", by a name of tensorflow-datasets ("mnist", "emnist/letters"; prepared, and
read without TensorFlow), or by the path of own images: an .npz file (see `arrays`) or a folder that has a
folder of images for each class (see `folders`).

Pixels are scaled to [0, 1]; nothing else is done to them, in particular no standardisation. Only the images
that are asked for are decoded.
"""

import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from fedgame.learning import preparation
from fedgame.learning.federated import Images

_DIGITS = 1797
_DIGITS_TEST = 597  # scikit-learn's digits have no split of their own: 1,200 for training
_NAME = re.compile(r"\w+(/\w[\w.+-]*)?")  # of tensorflow-datasets, perhaps with a configuration
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_ARRAYS = (
    ("images", "labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)


class Data(NamedTuple):
    """A sample of a data set, both parts in random order."""

    train: Images  # [train, h, w, c], [train]
    test: Images  # [test, h, w, c], [test]


class Source(NamedTuple):
    """Where images come from; nothing is decoded before it is asked for."""

    sizes: tuple[int, int]  # training and test images
    classes: tuple[str, ...]  # names, in the order of the labels
    read: Callable[[str, np.ndarray], Images]  # ("train" or "test", numbers of the images)


def to_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Pixels as float32, whole numbers 0 to 255 scaled to [0, 1]; labels as int32."""
    pixels = np.asarray(pixels)
    pixels = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    return Images(pixels, np.asarray(labels, np.int32))


def fixed_split(number: int) -> tuple[np.ndarray, np.ndarray]:
    """The split of data that come without one: always the same random third is the test set."""
    order = np.random.default_rng(0).permutation(number)
    return order[number // 3 :], order[: number // 3]


def sizes(name: str, data_dir: str | None = None) -> tuple[int, int]:
    """Numbers of training and test images that the data set `name` has; raises what `load` does."""
    return _open(name, data_dir).sizes


def classes(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Names of the classes of the data set `name`, in the order of the labels; raises what `load` does."""
    return _open(name, data_dir).classes


def load(name: str, train: int, test: int, seed: int, data_dir: str | None = None) -> Data:
    """Draws `train` and `test` different images of the data set `name`.

    Where a data set has no test images of its own, those for validation serve, or `fixed_split`.

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


def _open(name: str, data_dir: str | None) -> Source:
    if name == "digits":
        return Source((_DIGITS - _DIGITS_TEST, _DIGITS_TEST), tuple("0123456789"), _read_digits)
    path = pathlib.Path(name).expanduser()
    if name.endswith(".npz"):
        return arrays(path)
    if "/" in name and (path.is_dir() or not _NAME.fullmatch(name)):
        return folders(path)
    return _prepared(name, _prepared_folder(name, data_dir))


def _read_digits(part: str, rows: np.ndarray) -> Images:
    from sklearn import datasets  # slow to import, and of no use to the other data sets

    images, labels = datasets.load_digits(return_X_y=True)
    return to_images(images[rows].reshape(-1, 8, 8, 1) / 16.0, labels[rows])


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


def _prepared(name: str, folder: pathlib.Path) -> Source:
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
        parts = [(sources[0], rows) for rows in fixed_split(len(sources[0]))]

    def read(part: str, rows: np.ndarray) -> Images:
        source, numbers = parts[("train", "test").index(part)]
        records = source.__getitems__(numbers[rows].tolist())
        images = [record["image"] for record in records]
        labels = np.array([record["label"] for record in records], np.int32)
        if np.any(labels < 0):
            raise ValueError(f"{part} images of {name} are not labelled")
        return to_images(np.asarray(images, np.uint8).reshape(-1, *shape), labels)

    return Source(tuple(len(rows) for _, rows in parts), tuple(features["label"].names), read)


def arrays(path: pathlib.Path) -> Source:
    """The images of an .npz file.

    It holds `images` and `labels`, of which `fixed_split` makes a test set, or Keras' x_train, y_train,
    x_test, y_test, or MedMNIST's train_images, train_labels, test_images, test_labels. Images are
    [n, h, w] or [n, h, w, c], whole numbers 0 to 255 (uint8) or floats in [0, 1]; labels [n] or [n, 1] are
    whole numbers. Classes are the labels that occur; an array `classes` of names says that they are 0, 1, ….

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is something else, names the array that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    held, names = _load_arrays(path)
    images = [_pixels(f"`{name}` of {path}", held[name]) for name in names[::2]]
    labels = [_labels(f"`{name}` of {path}", held[name]) for name in names[1::2]]
    for name, pixels, numbers in zip(names[::2], images, labels, strict=True):
        if len(pixels) != len(numbers):
            raise ValueError(f"{path} has {len(pixels)} images in `{name}` and {len(numbers)} labels")
    if len(images) == 1:
        split = fixed_split(len(labels[0]))
        images, labels = [images[0][rows] for rows in split], [labels[0][rows] for rows in split]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise ValueError(
            f"training images of {path} are {images[0].shape[1:]}, test images {images[1].shape[1:]}"
        )
    known, numbers = np.unique(np.concatenate(labels), return_inverse=True)
    classes = tuple(map(str, known))
    if "classes" in held:
        classes, numbers = tuple(map(str, held["classes"].ravel())), np.concatenate(labels)
        if not 0 <= known[0] <= known[-1] < len(classes):
            raise ValueError(
                f"labels of {path} must be 0 to {len(classes) - 1}: `classes` has {len(classes)}"
            )
    labels = np.split(numbers, [len(labels[0])])
    _check_every_class_is_trained(path, classes, labels[0])
    parts = {"train": (images[0], labels[0]), "test": (images[1], labels[1])}

    def read(part: str, rows: np.ndarray) -> Images:
        return to_images(*(array[rows] for array in parts[part]))

    return Source((len(labels[0]), len(labels[1])), classes, read)


def folders(path: pathlib.Path) -> Source:
    """The images of a folder: path/train/CLASS/… and path/test/CLASS/…, or path/CLASS/… and `fixed_split`.

    Images are .png, .jpg, .jpeg or .bmp, all of one size, all grey or all in colour; transparency is
    dropped. Other files and hidden ones are ignored. Classes are in the order of their names.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: a class without images or in one part only; `read`: an image that differs or is broken.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if all((path / part).is_dir() for part in ("train", "test")):
        listings = [_listing(path / part) for part in ("train", "test")]
        if lonely := sorted(listings[0].keys() ^ listings[1].keys()):
            raise ValueError(f"class {lonely[0]!r} must be in both {path / 'train'} and {path / 'test'}")
    else:
        listings = [_listing(path)]
    classes = tuple(listings[0])
    parts = []  # of files and their labels
    for listing in listings:
        labels = np.repeat(np.arange(len(classes)), [len(files) for files in listing.values()])
        parts.append((np.array([f for files in listing.values() for f in files], object), labels))
    if len(parts) == 1:
        parts = [tuple(array[rows] for array in parts[0]) for rows in fixed_split(len(parts[0][1]))]
    _check_every_class_is_trained(path, classes, parts[0][1])
    first = parts[0][0][0]
    shape = _decode(first).shape

    def read(part: str, rows: np.ndarray) -> Images:
        files, labels = parts[("train", "test").index(part)]
        pixels = np.zeros((len(rows), *shape), np.uint8)
        for place, file in zip(pixels, files[rows], strict=True):
            image = _decode(file)
            if image.shape != shape:
                raise ValueError(
                    f"all images must be [h, w, c] alike: {file} is {image.shape}, {first} {shape}"
                )
            place[:] = image
        return to_images(pixels, labels[rows])

    return Source((len(parts[0][1]), len(parts[1][1])), classes, read)


def _load_arrays(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What the file holds that is of use, and which of `_ARRAYS` it is."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file")
    with np.load(path, allow_pickle=False) as archive:
        names = next((form for form in _ARRAYS if set(form) <= set(archive.files)), None)
        if names is None:
            allowed = "; ".join(", ".join(form) for form in _ARRAYS)
            raise ValueError(f"{path} holds {', '.join(archive.files) or 'nothing'}; needed are {allowed}")
        held = {}
        for name in {*names, "classes"} & set(archive.files):
            try:
                held[name] = archive[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise ValueError(f"`{name}` of {path} cannot be read: {error}") from None
    return held, names


def _pixels(what: str, pixels: np.ndarray) -> np.ndarray:
    """[n, h, w, c], checked."""
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise ValueError(f"{what} must be images [n, h, w] or [n, h, w, c], got shape {pixels.shape}")
    if pixels.ndim == 4 and pixels.shape[1] <= 4 < pixels.shape[3]:
        raise ValueError(f"{what} must have channels last, [n, h, w, c], got shape {pixels.shape}")
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise ValueError(f"{what} must be uint8, or floats in [0, 1], got {pixels.dtype}")
        low, high = pixels.min(), pixels.max()
        if not 0 <= low <= high <= 1:  # NaN, too
            raise ValueError(f"{what}, being floats, must lie in [0, 1], got {low:g} to {high:g}")
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _labels(what: str, labels: np.ndarray) -> np.ndarray:
    """[n] whole numbers, checked."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise ValueError(f"{what} must be labels [n] or [n, 1], got shape {labels.shape}")
    kind = np.issubdtype(labels.dtype, np.integer) or np.issubdtype(labels.dtype, np.floating)
    if not kind or not np.all(np.isfinite(labels)) or np.any(labels != np.floor(labels)):
        raise ValueError(f"{what} must be whole numbers")
    return labels.astype(np.int64)


def _check_every_class_is_trained(path: pathlib.Path, classes: tuple[str, ...], labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise ValueError(f"class {empty[0]!r} has no training image in {path}")


def _listing(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The images of each class, in the order of their names."""
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} has no folders of classes")
    listing = {}
    for d in classes:
        images = [f for f in d.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")]
        if not images:
            raise ValueError(f"class folder {d} holds no images ({', '.join(SUFFIXES)})")
        listing[d.name] = sorted(images)
    return listing


def _decode(file: pathlib.Path) -> np.ndarray:
    """[h, w, 1] if the image is grey, else [h, w, 3]; uint8."""
    try:
        with Image.open(file) as image:
            mode = image.mode
            pixels = None if mode[0] in "IF" else image.convert("L" if mode in ("1", "L", "LA") else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from None
    if pixels is None:  # converting them would clip
        raise ValueError(f"pixels of {file} must have 8 bits a channel, its mode is {mode}")
    return np.atleast_3d(np.asarray(pixels))
