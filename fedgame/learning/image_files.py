"""Image files that people bring, in a folder for each class."""

import collections
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from fedgame.learning import memory

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff")
# Whatever a file is called, it is read as one of these: other readers of Pillow start programs (EPS).
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
_ROLES = {  # names of folders that are parts of a data set, in small letters
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
}
_RUN = "config.json"  # every command leaves it
_FOLDER, _IMAGE = "folders", "images"
_LISTED = 10  # classes, or kinds of files, in sentences
DARK = 64  # of 255: where no pixel is brighter, scale is probably wrong


class Found(NamedTuple):
    """The files of a folder: one part, or those for training and for testing."""

    parts: list[dict[str, list[pathlib.Path]]]  # of each part, files by class, in the order of their names
    remarks: list[str]  # sentences on what is odd but allowed


def find(path: pathlib.Path) -> Found:
    """Finds the images of each class; the forms of the folder are those of `data.folders`.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it has no folders of classes, or no images in one of them, or it cannot be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    folders, remarks = _folders(path)
    parts, told = _parts(path, folders)
    remarks += told
    if not parts:
        listing, told = _listing(path, folders)
        return Found([listing], remarks + told)
    listings = []
    for part in parts:
        folders, beside = _folders(part)
        listing, told = _listing(part, folders)
        listings.append(listing)
        remarks += beside + told
    return Found(listings, remarks)


def holds_a_run(folder: pathlib.Path) -> bool:
    """Whether a command has left its results there; or in all folders below, and there are no images."""
    if not folder.is_dir():
        return False
    entries = _entries(folder)
    below = [entry for entry, kind in entries.items() if kind == _FOLDER]
    of_runs = below and _IMAGE not in entries.values() and all((own / _RUN).exists() for own in below)
    return bool(of_runs) or (folder / _RUN).exists()


def _entries(folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """What is in a folder, but for what is hidden, in the order of names.

    Its kind is `_FOLDER`, `_IMAGE`, or what a sentence calls files of its ending.
    """
    found = {}
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            suffix = pathlib.PurePath(entry.name).suffix.lower()
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                kind = _FOLDER
            elif not entry.is_file():  # to open a pipe would wait forever; or a link to nowhere
                kind = "no regular files"
            elif suffix in SUFFIXES:
                kind = _IMAGE
            else:
                kind = suffix if suffix.isprintable() and suffix else "without ending"
            found[folder / entry.name] = kind
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from None
    return found


def _counted(kinds: Iterable[str]) -> str:
    """.txt (2), .mp4 (1)"""
    counts = collections.Counter(kinds).most_common()
    more = [f"others ({sum(count for _, count in counts[_LISTED:])})"] if len(counts) > _LISTED else []
    return ", ".join([*(f"{kind} ({count})" for kind, count in counts[:_LISTED]), *more])


def _folders(path: pathlib.Path) -> tuple[list[pathlib.Path], list[str]]:
    """The folders of classes or parts, and sentences on what else is there."""
    entries = _entries(path)
    folders = [entry for entry, kind in entries.items() if kind == _FOLDER]
    runs = [folder for folder in folders if folder.name.lower() not in _ROLES and holds_a_run(folder)]
    folders = [folder for folder in folders if folder not in runs]
    beside = [kind for kind in entries.values() if kind != _FOLDER]
    if not folders:
        tables = {".csv", ".parquet"} & set(beside)
        hint = "; members' own tables go with --federation" if tables else ""
        there = f": there are {_counted(beside)}" if beside else ""
        raise ValueError(f"{path} has no folders of classes{there}{hint}")
    told = []
    if runs:
        names = ", ".join(ascii(folder.name) for folder in runs)
        told.append(f"ignored in {path}, as results of a command: {names}")
    if beside:
        told.append(f"ignored in {path}, as in no folder of a class: {_counted(beside)}")
    return folders, told


def _parts(path: pathlib.Path, folders: Sequence[pathlib.Path]) -> tuple[list[pathlib.Path], list[str]]:
    """The folders for training and for testing, and sentences on others; nothing if all are of classes.

    A part holds folders and no images: where images of trains are in a folder `train`, this is a class.

    Raises:
      ValueError: there is only one part, or two for the same, or parts that are not divided into classes.
    """
    named = [folder for folder in folders if folder.name.lower() in _ROLES]
    divided = []
    for folder in named:
        kinds = set(_entries(folder).values())
        if _FOLDER in kinds and _IMAGE not in kinds:
            divided.append(folder)
    if not divided:
        if len(named) == len(folders):
            raise ValueError(f"{named[0]} must hold a folder of images for each class")
        return [], []
    roles: dict[str, pathlib.Path] = {}
    for folder in divided:
        role = _ROLES[folder.name.lower()]
        if role in roles:
            raise ValueError(f"{path} holds {roles[role].name} and {folder.name}: remove one of them")
        roles[role] = folder
    if "train" not in roles or len(roles) == 1:
        names = ", ".join(folder.name for folder in folders[:_LISTED])
        raise ValueError(
            f"{path} holds {names}: needed are train and test (or val) with a folder per class in each; to "
            f"have images split at random, name {divided[0]}/"
        )
    told = []
    if "test" not in roles:
        told.append(f"images of {roles['validation']} are the test images, as there is no test")
    elif "validation" in roles:
        told.append(f"ignored in {path}, beside train and test: {roles['validation'].name}")
    if others := [ascii(folder.name) for folder in folders if folder not in divided]:
        told.append(f"ignored in {path}, as no parts with a folder per class: {', '.join(others)}")
    return [roles["train"], roles.get("test") or roles["validation"]], told


def _listing(
    path: pathlib.Path, folders: Sequence[pathlib.Path]
) -> tuple[dict[str, list[pathlib.Path]], list[str]]:
    """The images of each class, and sentences on what else is in the folders of classes."""
    listing: dict[str, list[pathlib.Path]] = {}
    ignored = {}
    for folder in folders:
        name = unicodedata.normalize("NFC", folder.name)
        if not name.isprintable() or not name.strip():
            raise ValueError(f"a folder in {path}: the name of a class must be printable text, not {name!r}")
        if name in listing:
            raise ValueError(f"two folders in {path} are of one class, {name}")
        entries = _entries(folder)
        listing[name] = [entry for entry, kind in entries.items() if kind == _IMAGE]
        others = [kind for kind in entries.values() if kind != _IMAGE]
        if not listing[name]:
            but = f", but {_counted(others)}" if others else ""
            hint = "; members' own images go with --federation" if _FOLDER in others else ""
            raise ValueError(f"class folder {folder} holds no images ({', '.join(SUFFIXES)}){but}{hint}")
        if others:
            ignored[name] = others
    told = [
        f"ignored in class {name} of {path}, as no images: {_counted(others)}"
        for name, others in list(ignored.items())[:_LISTED]
    ]
    if rest := list(ignored.values())[_LISTED:]:
        kinds = [kind for others in rest for kind in others]
        told.append(f"ignored in {len(rest)} other classes of {path}, as no images: {_counted(kinds)}")
    return listing, told


def decode(files: Sequence[pathlib.Path], first: pathlib.Path, what: str) -> tuple[np.ndarray, list[str]]:
    """Decodes files.

    Args:
      files: [n] image files.
      first: an image whose shape all must have.
      what: in sentences, what they are.

    Returns:
      [n, h, w, c] float32 in [0, 1], and sentences on what is odd but allowed.

    Raises:
      ValueError: an image is broken, of another shape, or all of them do not fit into memory.
    """
    shape = _decode(first)[0].shape
    memory.check(f"{len(files)} {what}", len(files) * int(np.prod(shape)) * 5)  # of uint8, then of float32
    pixels, transparent = np.zeros((len(files), *shape), np.uint8), 0
    for place, file in zip(pixels, files, strict=True):
        image, seen_through = _decode(file)
        if image.shape != shape:
            raise ValueError(f"all images must be [h, w, c] alike: {file} is {image.shape}, {first} {shape}")
        place[:] = image
        transparent += seen_through
    told = []
    if transparent:
        told.append(f"{transparent} of {len(files)} {what} are transparent in places, which counts as white")
    if len(files) > 1 and (largest := pixels.max()) <= DARK:
        told.append(f"no pixel of {len(files)} {what} is brighter than {largest}, and 255 is white")
    return pixels / np.float32(255), told


def _decode(file: pathlib.Path) -> tuple[np.ndarray, bool]:
    """[h, w, 1] if the image is grey, else [h, w, 3], uint8, as one sees it on white; if that matters."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            mode = image.mode
            # Photographs in MPO have a preview, or another view, behind them.
            number = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if mode[0] not in "IF":
                pixels, alpha = _on_white(ImageOps.exif_transpose(image))
    except Exception as error:  # a stranger's bytes may raise anything: Pillow lets through struct.error, …
        reason = str(error) or type(error).__name__
        raise ValueError(f"{file} cannot be read as an image: {reason}") from None
    if mode[0] in "IF":  # 16 or 32 bits: converting them would clip
        raise ValueError(f"pixels of {file} must have 8 bits a channel, its mode is {mode}")
    if number > 1:
        raise ValueError(f"{file} must hold one image, not {number}: save the one that is meant")
    if alpha.min() < alpha.max() and pixels.min() == pixels.max():
        raise ValueError(
            f"{file} is of one colour, as what is transparent counts as white: draw it on another background"
        )
    return np.atleast_3d(pixels), bool(alpha.min() < 255)


def _on_white(image: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [h, w] if grey, else [h, w, 3], on a white background; opacity [h, w], or [1, 1] if full."""
    kept = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return np.asarray(image.convert(kept)), np.full((1, 1), 255)
    layer = image.convert("RGBA")
    alpha = np.asarray(layer.getchannel("A"))
    white = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(white, layer).convert(kept)), alpha
