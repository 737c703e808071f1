"""Images and labels in an .npz file that people bring."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedgame.learning import memory

_FORMS = (  # names of arrays: images, labels, and then those of the test set
    ("images", "labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
_LISTED = 10  # names of arrays in a sentence
_LARGEST_LABEL = 2**53  # up to here, floats hold whole numbers exactly
DARK = 0.25  # of white: where no pixel is brighter, scale is probably wrong


class Arrays(NamedTuple):
    """What an .npz file holds, checked: one part, or those for training and for testing."""

    images: list[np.ndarray]  # of each part, [n, h, w, c] uint8, or bools or floats in [0, 1]
    labels: list[np.ndarray]  # of each part, [n] numbers of classes
    classes: tuple[str, ...]
    remarks: list[str]  # sentences on what is odd but allowed


def read(path: pathlib.Path) -> Arrays:
    """Reads the file; its forms are those of `data.arrays`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not such a file; names the array that is wrong.
    """
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{path} is no regular file")
        raise FileNotFoundError(f"there is no file {path}")
    held, form, ignored = _load(path)
    image_names, label_names = form[::2], form[1::2]  # they alternate in `_FORMS`
    images = [_pixels(f"`{name}` of {path}", held[name]) for name in image_names]
    labels = [_labels(f"`{name}` of {path}", held[name]) for name in label_names]
    for name, pixels, numbers in zip(image_names, images, labels, strict=True):
        if len(pixels) != len(numbers):
            raise ValueError(f"{path} has {len(pixels)} images in `{name}` and {len(numbers)} labels")
    if images[0].shape[1:] != images[-1].shape[1:]:
        raise ValueError(
            f"training images of {path} are {images[0].shape[1:]}, test images {images[-1].shape[1:]}"
        )
    remarks = _levels(path, images)
    if ignored:
        more = ", …" if len(ignored) > _LISTED else ""
        remarks.append(f"arrays of {path} that are ignored: {', '.join(map(ascii, ignored[:_LISTED]))}{more}")
    classes, numbers = _classes(path, held, np.concatenate(labels))
    of_parts = np.split(numbers, [len(labels[0])])[: len(labels)]  # of one part, the second is empty
    return Arrays(images, of_parts, classes, remarks)


def _load(path: pathlib.Path) -> tuple[dict[str, np.ndarray], tuple[str, ...], list[str]]:
    """The arrays that are used, by name; which of `_FORMS` the file has; names of the other arrays."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        # A stranger's bytes may raise anything: numpy and zipfile let through MemoryError, TokenError, …
        try:
            if file.read(2) != b"PK":
                raise ValueError("it is no zip archive")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
        except Exception as error:
            raise ValueError(f"{path} is not an .npz file: {_reason(error)}") from None
        form = next((form for form in _FORMS if set(form) <= set(archive.files)), None)
        if form is None:
            allowed = "; ".join(", ".join(form) for form in _FORMS)
            there = ", ".join(archive.files[:_LISTED]) or "nothing"
            raise ValueError(f"{path} holds {there}; needed are {allowed}")
        used = sorted({*form, "classes"} & set(archive.files))
        size = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.zip.infolist()}
        memory.check(f"arrays of {path}", sum(size[name] for name in used))
        held = {}
        for name in used:
            try:
                held[name] = archive[name]
                if not isinstance(held[name], np.ndarray):
                    raise ValueError("it is no array")
            except Exception as error:
                raise ValueError(f"`{name}` of {path} cannot be read: {_reason(error)}") from None
        return held, form, [name for name in archive.files if name not in used]


def _reason(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def _pixels(what: str, pixels: np.ndarray) -> np.ndarray:
    """[n, h, w, c], checked."""
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise ValueError(f"{what} must be images [n, h, w] or [n, h, w, c], got shape {pixels.shape}")
    if pixels.ndim == 4 and pixels.shape[1] <= 4 < pixels.shape[3]:
        raise ValueError(f"{what} must have channels last, [n, h, w, c], got shape {pixels.shape}")
    if pixels.ndim == 4 and pixels.shape[3] > 4:
        raise ValueError(
            f"{what} must have 1 to 4 channels, the last axis, got shape {pixels.shape}: "
            "of volumes, take one slice each"
        )
    if pixels.dtype not in (np.uint8, np.bool_):
        if pixels.dtype.kind != "f":
            raise ValueError(f"{what} must be uint8 up to 255, bool, or floats in [0, 1], got {pixels.dtype}")
        low, high = pixels.min(), pixels.max()
        if not 0 <= low <= high <= 1:  # NaN, too
            raise ValueError(f"{what}, being floats, must lie in [0, 1], got {low:g} to {high:g}")
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _levels(path: pathlib.Path, images: Sequence[np.ndarray]) -> list[str]:
    """A sentence if all pixels are dark; a ValueError if they are so dark that their scale must be wrong."""
    largest = max(float(pixels.max()) / (255 if pixels.dtype == np.uint8 else 1) for pixels in images)
    told = f"no pixel of {path} is brighter than {largest:.2g} of white, which is 255 in uint8, 1 in floats"
    if largest < 2 / 255:
        raise ValueError(
            f"{told}: if they are 0 and 1, save them as bool; else divide floats by their maximum"
        )
    return [told] if largest <= DARK else []


def _labels(what: str, labels: np.ndarray) -> np.ndarray:
    """[n] whole numbers, checked."""
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise ValueError(f"{what} must be labels [n] or [n, 1], got shape {labels.shape}")
    if (
        labels.dtype.kind not in "iuf"
        or not np.all(np.isfinite(labels))
        or np.any(labels != np.floor(labels))
    ):
        raise ValueError(f"{what} must be whole numbers")
    if np.any(np.abs(labels.astype(np.float64)) > _LARGEST_LABEL):
        raise ValueError(f"{what} must lie between -2^53 and 2^53, got {labels.min():g} to {labels.max():g}")
    return labels.astype(np.int64)


def _classes(
    path: pathlib.Path, held: dict[str, np.ndarray], labels: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, and for each label the number of its class."""
    known, numbers = np.unique(labels, return_inverse=True)
    if "classes" not in held:
        return tuple(map(str, known)), numbers
    names = held["classes"].ravel()
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    classes = tuple(map(str, names))
    if odd := [name for name in classes if not name.isprintable() or not name.strip()]:
        raise ValueError(f"`classes` of {path} must be printable texts, not {odd[0]!r}")
    if not 0 <= known[0] <= known[-1] < len(classes):
        raise ValueError(f"labels of {path} must be 0 to {len(classes) - 1}: `classes` has {len(classes)}")
    return classes, labels
