"""Images: scikit-learn's embedded digits, any image classification set of tensorflow-datasets, own files.

A data set is named by "digits", by a name of tensorflow-datasets ("mnist", "emnist/letters"; prepared, and
read without TensorFlow), or by the path of own images: an .npz file (see `arrays`) or a folder that has a
folder of images for each class (see `folders`).

Pixels are scaled to [0, 1]; nothing else is done to them, in particular no standardisation. Only the images
that are asked for are decoded.
"""

import importlib.util
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from fedgame.learning import preparation
from fedgame.learning.federated import Images

_DIGITS = 1797
_DIGITS_TEST = 597  # scikit-learn's digits have no split of their own: 1,200 are for training
_NAME = re.compile(r"\w+(/\w[\w.+-]*)?")  # of tensorflow-datasets, perhaps with a configuration
_PARTS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_ARRAYS = (  # names of arrays in an .npz file: images, labels, and then those of the test set
    ("images", "labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)


class Data(NamedTuple):
    """A sample of a data set, both parts in random order."""

    train: Images  # [train, h, w, c], [train]
    test: Images  # [test, h, w, c], [test]


class Source(NamedTuple):
    """Where images come from; they are decoded when they are read."""

    sizes: tuple[int, int]  # training and test images
    classes: tuple[str, ...]  # names, in the order of the labels
    read: Callable[[str, np.ndarray], Images]  # ("train" or "test", numbers of the images)


def to_images(pixels: np.ndarray, labels: np.ndarray) -> Images:
    """Pixels as float32 in [0, 1], scaled if they are uint8; labels as int32."""
    pixels = np.asarray(pixels)
    pixels = pixels / np.float32(255) if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    return Images(pixels, np.asarray(labels, np.int32))


def fixed_split(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and rows for testing, of data without a split: the same random third is for tests."""
    order = np.random.default_rng(0).permutation(number)
    return order[number // 3 :], order[: number // 3]


def sizes(name: str, data_dir: str | None = None) -> tuple[int, int]:
    """Numbers of training and test images in the data set `name`; errors as of `load`."""
    return _open(name, data_dir).sizes


def classes(name: str, data_dir: str | None = None) -> tuple[str, ...]:
    """Names of the classes of the data set `name`, in the order of the labels; errors as of `load`."""
    return _open(name, data_dir).classes


def load(name: str, train: int, test: int, seed: int, data_dir: str | None = None) -> Data:
    """Draws `train` and `test` different images of the data set `name`.

    If a data set has no test images, its validation images are used, or else those of `fixed_split`.

    Args:
      name: "digits", a name of tensorflow-datasets, or a path: it ends in .npz or contains a slash.
      train: number of training images.
      test: number of test images.
      seed: of the draw.
      data_dir: where tensorflow-datasets keeps its prepared data; None: its default, ~/tensorflow_datasets.
        Ignored by all other data sets.

    Raises:
      ValueError: there are fewer images than are asked for, or it is no image classification set.
      FileNotFoundError: there is no such file or folder, or nothing is prepared under `data_dir`.
    """
    source = _open(name, data_dir)
    available = source.sizes
    if train > available[0] or test > available[1]:
        raise ValueError(
            f"{name} has {available[0]} training and {available[1]} test images, not {train} and {test}"
        )
    rng = np.random.default_rng(seed)
    if name == "digits":  # there is no fixed split: the seed makes one
        order = rng.permutation(_DIGITS)
        train_rows, test_rows = order[:train], order[available[0] : available[0] + test]
    else:
        train_rows, test_rows = rng.permutation(available[0])[:train], rng.permutation(available[1])[:test]
    return Data(source.read("train", train_rows), source.read("test", test_rows))


def _open(name: str, data_dir: str | None) -> Source:
    """The data set `name`, see `load`."""
    if name == "digits":
        return Source((_DIGITS - _DIGITS_TEST, _DIGITS_TEST), tuple("0123456789"), _read_digits)
    path = pathlib.Path(name).expanduser()
    if name.endswith(".npz"):
        return arrays(path)
    if "/" in name and (path.is_dir() or not _NAME.fullmatch(name)):
        return folders(path)
    return _prepared(name, _prepared_folder(name, data_dir))


def _read_digits(part: str, rows: np.ndarray) -> Images:
    """Rows of scikit-learn's file: 64 pixels from 0 to 16, and the digit."""
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if file.exists():  # to import scikit-learn would take half a second
        table = np.loadtxt(file, delimiter=",")
        images, labels = table[:, :-1], table[:, -1].astype(int)
    else:
        from sklearn import datasets

        images, labels = datasets.load_digits(return_X_y=True)
    return to_images(images[rows].reshape(-1, 8, 8, 1) / 16.0, labels[rows])


def _prepared_folder(name: str, data_dir: str | None) -> pathlib.Path:
    """The folder of the newest version of a data set of tensorflow-datasets, without using the network.

    Raises:
      ValueError: this cannot be a name, or there are several configurations.
      FileNotFoundError: the data set is not prepared.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a data set: a path contains a slash or ends in .npz")
    folder = pathlib.Path(data_dir or "~/tensorflow_datasets").expanduser()
    patterns = f"{name}/[0-9]*/dataset_info.json", f"{name}/*/[0-9]*/dataset_info.json"
    found = [info.parent for pattern in patterns for info in folder.glob(pattern)]
    if not found:
        if name in preparation.NAMES:
            how = f"`python -m launch.prepare --dataset={name} --data_dir={folder}`"
        else:
            how = (
                f"`pip install tensorflow tensorflow-datasets && tfds build {name} "
                f"--file_format=array_record --data_dir={folder}` in an environment of its own"
            )
        subject = f"{name} is no folder, and it" if "/" in name else name
        raise FileNotFoundError(
            f"{subject} is not prepared under {folder}: name its folder with --data_dir, or run {how}"
        )
    configurations = {version.parent.relative_to(folder) for version in found}
    if len(configurations) > 1:
        raise ValueError(f"name one of {', '.join(map(str, sorted(configurations)))} instead of {name}")
    return max(found, key=lambda version: [int(x) for x in re.findall(r"\d+", version.name)])


def _prepared(name: str, folder: pathlib.Path) -> Source:
    """A data set that tensorflow-datasets has prepared in `folder`.

    Raises:
      ValueError: it is not images of one size, 8 bits and one class each, or its files need TensorFlow.
    """
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
    held_out = [part for part in ("test", "validation") if part in splits][:1]
    try:
        sources = [builder.as_data_source(part) for part in ("train", *held_out)]
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
        source, numbers = parts[_PARTS.index(part)]
        records = source.__getitems__(numbers[rows].tolist())
        images = [record["image"] for record in records]
        labels = np.array([record["label"] for record in records], np.int32)
        if np.any(labels < 0):
            raise ValueError(f"{part} images of {name} are not labelled")
        return to_images(np.asarray(images, np.uint8).reshape(-1, *shape), labels)

    return Source(tuple(len(rows) for _, rows in parts), tuple(features["label"].names), read)


def arrays(path: pathlib.Path) -> Source:
    """The images of an .npz file.

    It holds the arrays `images` and `labels`, which are split by `fixed_split`; or Keras' x_train, y_train,
    x_test, y_test; or MedMNIST's train_images, train_labels, test_images, test_labels. Images are [n, h, w]
    or [n, h, w, c], whole numbers 0 to 255 (uint8) or floats in [0, 1]. Labels are [n] or [n, 1], whole
    numbers. If there is an array `classes` of names, labels are 0, 1, … in this order; otherwise the classes
    are the labels that occur.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not such a file; names the array that is wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    held, names = _load_arrays(path)
    image_names, label_names = names[::2], names[1::2]  # they alternate in `_ARRAYS`
    images = [_pixels(f"`{name}` of {path}", held[name]) for name in image_names]
    labels = [_labels(f"`{name}` of {path}", held[name]) for name in label_names]
    _check_arrays(path, image_names, images, labels)
    if len(images) == 1:
        split = fixed_split(len(labels[0]))
        images, labels = [images[0][rows] for rows in split], [labels[0][rows] for rows in split]
    classes, numbers = _classes_of(path, held, np.concatenate(labels))
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
      ValueError: a class has no images or is in one part only; from `read`: an image is broken, or of another
        shape than the first.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    if all((path / part).is_dir() for part in _PARTS):
        listings = [_listing(path / part) for part in _PARTS]
        if lonely := sorted(listings[0].keys() ^ listings[1].keys()):
            raise ValueError(f"class {lonely[0]!r} must be in both {path / 'train'} and {path / 'test'}")
    else:
        listings = [_listing(path)]
    classes = tuple(listings[0])
    parts = []  # for each part, files and their labels
    for listing in listings:
        labels = np.repeat(np.arange(len(classes)), [len(files) for files in listing.values()])
        parts.append((np.array([f for files in listing.values() for f in files], object), labels))
    if len(parts) == 1:
        files, labels = parts[0]
        parts = [(files[rows], labels[rows]) for rows in fixed_split(len(labels))]
    train_files, train_labels = parts[0]
    _check_every_class_is_trained(path, classes, train_labels)
    first = train_files[0]

    def read(part: str, rows: np.ndarray) -> Images:
        files, labels = parts[_PARTS.index(part)]
        return Images(_decode_all(files[rows], first), np.asarray(labels[rows], np.int32))

    return Source((len(train_labels), len(parts[1][1])), classes, read)


def everything(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """All images of an .npz file or a folder, whatever parts they are in: pixels, labels, names of classes.

    Pixels are [n, h, w, c] float32 in [0, 1]. Forms and errors as of `arrays` and `folders`, but a class may
    be in one part only.
    """
    if path.suffix.lower() == ".npz":
        held, names = _load_arrays(path)
        images = [_pixels(f"`{name}` of {path}", held[name]) for name in names[::2]]
        labels = [_labels(f"`{name}` of {path}", held[name]) for name in names[1::2]]
        _check_arrays(path, names[::2], images, labels)
        classes, numbers = _classes_of(path, held, np.concatenate(labels))
        pixels = np.concatenate([to_images(*part).images for part in zip(images, labels, strict=True)])
        return pixels, numbers, classes
    inside = [path / part for part in _PARTS] if all((path / part).is_dir() for part in _PARTS) else [path]
    listings = [_listing(folder) for folder in inside]
    classes = tuple(sorted({name for listing in listings for name in listing}))
    found = [
        (file, classes.index(k)) for listing in listings for k, files in listing.items() for file in files
    ]
    files = np.array([file for file, _ in found], object)
    return _decode_all(files, files[0]), np.array([k for _, k in found], np.int32), classes


def _load_arrays(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of the file that are used, by name, and which of `_ARRAYS` it has."""
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


def _check_arrays(
    path: pathlib.Path, names: Sequence[str], images: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> None:
    """Raises a `ValueError` if there are not as many labels as images, or two parts differ in shape."""
    for name, pixels, numbers in zip(names, images, labels, strict=True):
        if len(pixels) != len(numbers):
            raise ValueError(f"{path} has {len(pixels)} images in `{name}` and {len(numbers)} labels")
    if images[0].shape[1:] != images[-1].shape[1:]:
        raise ValueError(
            f"training images of {path} are {images[0].shape[1:]}, test images {images[-1].shape[1:]}"
        )


def _classes_of(
    path: pathlib.Path, held: dict[str, np.ndarray], labels: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes of an .npz file, and for each label the number of its class."""
    known, numbers = np.unique(labels, return_inverse=True)
    if "classes" not in held:
        return tuple(map(str, known)), numbers
    classes = tuple(map(str, held["classes"].ravel()))
    if not 0 <= known[0] <= known[-1] < len(classes):
        raise ValueError(f"labels of {path} must be 0 to {len(classes) - 1}: `classes` has {len(classes)}")
    return classes, labels


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
    """Raises a `ValueError` if a class does not occur in the training labels."""
    counts = np.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise ValueError(f"class {empty[0]!r} has no training image in {path}")


def _listing(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The images of each class, in the order of their names."""

    def visible(path: pathlib.Path) -> list[pathlib.Path]:
        return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))

    class_folders = [entry for entry in visible(folder) if entry.is_dir()]
    if not class_folders:
        raise ValueError(f"{folder} has no folders of classes")
    listing = {}
    for class_folder in class_folders:
        images = [file for file in visible(class_folder) if file.suffix.lower() in SUFFIXES]
        if not images:
            raise ValueError(f"class folder {class_folder} holds no images ({', '.join(SUFFIXES)})")
        listing[class_folder.name] = images
    return listing


def _decode_all(files: Sequence[pathlib.Path], first: pathlib.Path) -> np.ndarray:
    """[n, h, w, c] float32 in [0, 1] of files; a `ValueError` if one is not shaped as `first`."""
    shape = _decode(first).shape
    pixels = np.zeros((len(files), *shape), np.uint8)
    for place, file in zip(pixels, files, strict=True):
        image = _decode(file)
        if image.shape != shape:
            raise ValueError(f"all images must be [h, w, c] alike: {file} is {image.shape}, {first} {shape}")
        place[:] = image
    return pixels / np.float32(255)


def _decode(file: pathlib.Path) -> np.ndarray:
    """[h, w, 1] if the image is grey, else [h, w, 3]; uint8."""
    try:
        with Image.open(file) as image:
            mode = image.mode
            if mode[0] in "IF":  # 16 or 32 bits: converting them would clip
                pixels = None
            elif mode in ("1", "L", "LA"):
                pixels = image.convert("L")
            else:
                pixels = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} cannot be read as an image: {error}") from None
    if pixels is None:
        raise ValueError(f"pixels of {file} must have 8 bits a channel, its mode is {mode}")
    return np.atleast_3d(np.asarray(pixels))
