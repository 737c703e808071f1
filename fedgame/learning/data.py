"""Images: scikit-learn's embedded digits, any image classification set of tensorflow-datasets, own files.

A data set is named by "digits", by a name of tensorflow-datasets ("mnist", "emnist/letters"; prepared, and
read without TensorFlow), or by the path of own images: an .npz file (see `arrays`) or a folder that has a
folder of images for each class (see `folders`).

Pixels are scaled to [0, 1]; nothing else is done to them, in particular no standardisation. Image files are
read as one sees them: turned as a camera says, and white where they are transparent. Only the images that are
asked for are decoded.
"""

import contextlib
import functools
import importlib.util
import os
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fedgame.learning import image_arrays, image_files, memory, preparation
from fedgame.learning.federated import Images

_DIGITS = 1797
_DIGITS_TEST = 597  # scikit-learn's digits have no split of their own: 1,200 are for training
_NAME = re.compile(r"\w+(/\w[\w.+-]*)?")  # of tensorflow-datasets, perhaps with a configuration
_PARTS = ("train", "test")
_WHAT = dict(zip(_PARTS, ("training images", "test images"), strict=True))
_OTHER_FILES = {  # what files of people are, beside .npz, and what to do with them
    **dict.fromkeys(
        (".csv", ".parquet"), "a table: members' own tables go, in one folder, with --federation"
    ),
    ".npy": (
        'one array, without labels: put both into an .npz file, python -c "import numpy as np; '
        "np.savez('own.npz', images=np.load('{path}'), labels=np.load('labels.npy'))\""
    ),
    **dict.fromkeys(
        (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "an archive: unpack it, and name the folder"
    ),
    **dict.fromkeys(image_files.SUFFIXES, "a single image: name the folder that has a folder for each class"),
}


class Data(NamedTuple):
    """A sample of a data set, both parts in random order."""

    train: Images  # [train, h, w, c], [train]
    test: Images  # [test, h, w, c], [test]
    remarks: tuple[str, ...] = ()  # sentences on what is odd about the data set, but allowed


class Source(NamedTuple):
    """Where images come from; they are decoded when they are read."""

    sizes: tuple[int, int]  # training and test images
    classes: tuple[str, ...]  # names, in the order of the labels
    # Given "train" or "test" and numbers of images: those images, and sentences on what is odd about them.
    read: Callable[[str, np.ndarray], tuple[Images, list[str]]]
    remarks: tuple[str, ...] = ()  # sentences on what is odd about the whole, but allowed


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


class About(NamedTuple):
    """What is known of a data set before its images are loaded."""

    sizes: tuple[int, int]  # training and test images
    shape: tuple[int, ...]  # [h, w, c] of an image
    classes: tuple[str, ...]  # names, in the order of the labels


def about(name: str, data_dir: str | None = None) -> About:
    """What is known of the data set `name` from one of its training images; errors as of `load`."""
    source = _open(name, data_dir)
    one, _ = source.read("train", np.zeros(1, int))
    return About(source.sizes, one.images.shape[1:], source.classes)


def load(name: str, train: int, test: int, seed: int, data_dir: str | None = None) -> Data:
    """Draws `train` and `test` different images of the data set `name`.

    If a data set has no test images, its validation images are used, or else those of `fixed_split`.

    Args:
      name: "digits", a name of tensorflow-datasets, or a path: it ends in .npz or contains a slash; ~ is the
        home folder.
      train: number of training images.
      test: number of test images.
      seed: of the draw.
      data_dir: where tensorflow-datasets keeps its prepared data; None: its default, ~/tensorflow_datasets.
        Ignored by all other data sets.

    Raises:
      ValueError: there are fewer images than are asked for, they do not fit into memory, or it is no image
        classification set of at least two classes.
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
    of_train, of_test = source.read("train", train_rows), source.read("test", test_rows)
    return Data(of_train[0], of_test[0], (*source.remarks, *of_train[1], *of_test[1]))


def _open(name: str, data_dir: str | None) -> Source:
    """The data set `name`, see `load`."""
    source = _source(name, data_dir)
    if len(source.classes) < 2:
        raise ValueError(
            f"all images of {name} are of one class, {source.classes[0]}: there is nothing to learn"
        )
    return source


def _source(name: str, data_dir: str | None) -> Source:
    """The data set `name`, of any number of classes."""
    if name == "digits":
        return Source((_DIGITS - _DIGITS_TEST, _DIGITS_TEST), tuple("0123456789"), _read_digits)
    path = pathlib.Path(os.path.expanduser(name))
    is_folder = path.is_dir()
    if "/" in name and is_folder:
        return folders(path)
    if path.suffix.lower() == ".npz":
        return arrays(path)
    if path.exists() and not is_folder and ("/" in name or path.suffix):
        raise ValueError(f"{name} is {_kind(path)}")
    if "/" in name and not _NAME.fullmatch(name):
        return folders(path)
    return _prepared(name, _prepared_folder(name, data_dir))


def _kind(path: pathlib.Path) -> str:
    """What a file is that is no data set, and what to do."""
    if not path.is_file():
        return "neither a file nor a folder"
    usual = (
        "a file of another kind: name an .npz file, or a folder that has a folder of images for each class"
    )
    return _OTHER_FILES.get(path.suffix.lower(), usual).format(path=path)


def _read_digits(part: str, rows: np.ndarray) -> tuple[Images, list[str]]:
    """Rows of scikit-learn's digits."""
    images, labels = _digits()
    return to_images(images[rows].reshape(-1, 8, 8, 1) / 16.0, labels[rows]), []


@functools.lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """All of scikit-learn's file: 64 pixels from 0 to 16, and the digit."""
    folder = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
    file = folder / "datasets" / "data" / "digits.csv.gz"
    if file.exists():  # to import scikit-learn would take half a second
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1].astype(int)
    from sklearn import datasets

    return datasets.load_digits(return_X_y=True)


def _prepared_folder(name: str, data_dir: str | None) -> pathlib.Path:
    """The folder of the newest version of a data set of tensorflow-datasets, without using the network.

    Raises:
      ValueError: this cannot be a name, or there are several configurations.
      FileNotFoundError: the data set is not prepared.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a data set: a path contains a slash or ends in .npz")
    folder = pathlib.Path(os.path.expanduser(data_dir or "~/tensorflow_datasets"))
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
        if "/" not in name and pathlib.Path(name).is_dir():
            how += f", or write {name}/ for the folder of this name"
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
      ValueError: it is not images of one size, 8 bits and one class each, its files need TensorFlow, or they
        are damaged.
    """
    import tensorflow_datasets as tfds  # slow to import, and of no use to the other data sets

    with _damage_told(name, folder):
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
        with _damage_told(name, folder):
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

    def read(part: str, rows: np.ndarray) -> tuple[Images, list[str]]:
        source, numbers = parts[_PARTS.index(part)]
        memory.check(f"{len(rows)} {_WHAT[part]} of {name}", len(rows) * int(np.prod(shape)) * 5)
        with _damage_told(name, folder):
            records = source.__getitems__(numbers[rows].tolist())
        images = [record["image"] for record in records]
        labels = np.array([record["label"] for record in records], np.int32)
        if np.any(labels < 0):
            raise ValueError(f"{part} images of {name} are not labelled")
        return to_images(np.asarray(images, np.uint8).reshape(-1, *shape), labels), []

    return Source(tuple(len(rows) for _, rows in parts), tuple(features["label"].names), read)


@contextlib.contextmanager
def _damage_told(name: str, folder: pathlib.Path) -> Iterator[None]:
    """Turns what a damaged file raises, which may be anything, into a `ValueError`."""
    try:
        yield
    except NotImplementedError:  # the form of the files is another
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise ValueError(f"{name} in {folder} cannot be read, prepare it anew: {reason}") from None


def arrays(path: pathlib.Path) -> Source:
    """The images of an .npz file.

    It holds the arrays `images` and `labels`, which are split by `fixed_split`; or Keras' x_train, y_train,
    x_test, y_test; or MedMNIST's train_images, train_labels, test_images, test_labels. Images are [n, h, w]
    or [n, h, w, c] with 1 to 4 channels c: uint8, of which 255 is white, bool, or floats in [0, 1]. Arrays
    that are nearly black in these units are refused. Labels are [n] or [n, 1], whole numbers. If there is an
    array `classes` of names, labels are 0, 1, … in this order; otherwise the classes are the labels that
    occur. Other arrays are ignored, which is told.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not such a file; names the array that is wrong.
    """
    found = image_arrays.read(path)
    images, labels = found.images, found.labels
    if len(images) == 1:
        split = fixed_split(len(labels[0]))
        images, labels = [images[0][rows] for rows in split], [labels[0][rows] for rows in split]
    _check_every_class_is_trained(path, found.classes, labels[0])
    parts = dict(zip(_PARTS, zip(images, labels, strict=True), strict=True))

    def read(part: str, rows: np.ndarray) -> tuple[Images, list[str]]:
        pixels, numbers = parts[part]
        memory.check(f"{len(rows)} {_WHAT[part]} of {path}", len(rows) * pixels[0].size * 4)
        return to_images(pixels[rows], numbers[rows]), []

    return Source((len(labels[0]), len(labels[1])), found.classes, read, tuple(found.remarks))


def folders(path: pathlib.Path) -> Source:
    """The images of a folder: path/train/CLASS/… and path/test/CLASS/…, or path/CLASS/… and `fixed_split`.

    If there is `val` (or `valid`, `validation`) instead of `test`, its images are the test images. Images
    have an ending of `image_files.SUFFIXES`, one size, and are all grey or all in colour. They are read as
    one sees them: turned as a camera says (EXIF), on white where they are transparent. Classes are in the
    order of their names. Hidden files are ignored; so are others and what commands have left there, which is
    told.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: a class has no images or is in one part only, or there is only one part; from `read`: an
        image is broken, animated, or of another shape than the first.
    """
    listings, remarks = image_files.find(path)
    if len(listings) == 2 and (lonely := sorted(listings[0].keys() ^ listings[1].keys())):
        of = [next(iter(listing.values()))[0].parents[1] for listing in listings]
        raise ValueError(f"class {lonely[0]!r} must be in both {of[0]} and {of[1]}")
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

    def read(part: str, rows: np.ndarray) -> tuple[Images, list[str]]:
        files, labels = parts[_PARTS.index(part)]
        pixels, told = image_files.decode(files[rows], first, _WHAT[part])
        return Images(pixels, np.asarray(labels[rows], np.int32)), told

    return Source((len(train_labels), len(parts[1][1])), classes, read, tuple(remarks))


class Everything(NamedTuple):
    """All images of a file or a folder."""

    pixels: np.ndarray  # [n, h, w, c] float32 in [0, 1]
    labels: np.ndarray  # [n] int32
    classes: tuple[str, ...]  # names, in the order of the labels
    remarks: list[str]  # sentences on what is odd but allowed


def everything(path: pathlib.Path) -> Everything:
    """All images of an .npz file or a folder, in whatever part `arrays` and `folders` find them.

    Errors are theirs, but a class may be in one part only, and no two may have one name: members' classes are
    matched by name.
    """
    if not path.is_dir():
        found = image_arrays.read(path)
        if twice := [name for name in found.classes if found.classes.count(name) > 1]:
            raise ValueError(f"`classes` of {path} has {twice[0]!r} twice")
        memory.check(f"images of {path}", 4 * sum(images.size for images in found.images))
        parts = [to_images(*part) for part in zip(found.images, found.labels, strict=True)]
        pixels, labels = (np.concatenate(of_parts) for of_parts in zip(*parts, strict=True))
        return Everything(pixels, labels, found.classes, found.remarks)
    listings, remarks = image_files.find(path)
    classes = tuple(sorted({name for listing in listings for name in listing}))
    all_of = [
        (file, classes.index(k)) for listing in listings for k, files in listing.items() for file in files
    ]
    files = np.array([file for file, _ in all_of], object)
    pixels, told = image_files.decode(files, files[0], "images")
    return Everything(pixels, np.array([k for _, k in all_of], np.int32), classes, remarks + told)


def _check_every_class_is_trained(path: pathlib.Path, classes: tuple[str, ...], labels: np.ndarray) -> None:
    """Raises a `ValueError` if a class does not occur in the training labels."""
    counts = np.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise ValueError(f"class {empty[0]!r} has no training image in {path}")
