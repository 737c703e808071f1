"""From raw files of MNIST and CIFAR to what tensorflow-datasets reads, without TensorFlow.

Names, versions, features, splits, the order of the images, URLs and checksums are those of the official
builders; only the steps that need TensorFlow (downloading, unpacking, encoding) are done here.
"""

import contextlib
import gzip
import io
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tqdm
from PIL import Image

from fedgame.learning import downloads

NAMES = ("mnist", "fashion_mnist", "cifar10", "cifar100")


class Split(NamedTuple):
    """The images of "train" or "test", in the order of the raw files."""

    images: np.ndarray  # [n, h, w, c] uint8
    labels: dict[str, np.ndarray]  # feature -> [n] uint8


def prepare(
    name: str,
    data_dir: str | None = None,
    raw_dir: str | None = None,
    url: str | None = None,
    sha256: tuple[str, ...] = (),
) -> str:
    """Writes what `tensorflow_datasets.data_source(name, data_dir=data_dir, download=False)` reads.

    Does nothing if that is already prepared, and does not download again what is already there. Files get
    their names when they are complete, so an interrupted run can simply be repeated.

    Args:
      name: one of `NAMES`.
      data_dir: where tensorflow-datasets keeps its data; None: ~/tensorflow_datasets.
      raw_dir: a folder of raw files, which are then not downloaded; MNIST's may be unzipped.
      url: of CIFAR's archive, or of the folder of MNIST's four files; None: the publisher's.
      sha256: checksums of the files, MNIST's in the order of `raw_files`; (): the publisher's.

    Returns:
      A sentence that says what was done.

    Raises:
      ValueError: an argument, a checksum or the content of a file is wrong.
      OSError: a file is missing or cannot be downloaded or written.
    """
    if name not in NAMES:
        raise ValueError(f"`dataset` must be one of {', '.join(NAMES)}, got {name!r}")
    import tensorflow_datasets as tfds  # slow to import

    official = tfds.builder_cls(name)
    folder = pathlib.Path(os.path.expanduser(data_dir or "~/tensorflow_datasets"))
    place = folder / name / str(official.VERSION)
    if (place / "dataset_info.json").exists():
        return f"{name} is already prepared: {place}"
    if place.exists():
        raise FileExistsError(f"{place} is in the way: it holds no dataset_info.json, so it is not {name}")
    if raw_dir and url:
        raise ValueError("raw files come from --raw_dir or from --url, not from both")
    if sha256 and not (raw_dir or url):
        raise ValueError("--sha256 belongs to files of --url or --raw_dir")
    files = raw_files(official, url, sha256)
    if raw_dir:
        paths = _find(files, pathlib.Path(os.path.expanduser(raw_dir)))
    else:
        paths = [folder / "downloads" / name / file.name for file in files]
        for file, path in zip(files, paths, strict=True):
            downloads.download(file, path)
    if "cifar" in name:
        splits, names = _read_cifar(paths[0], official)
    else:
        splits, names = _read_mnist(paths), {}
    _write(official, folder, splits, names)
    unchecked = [path.name for file, path in zip(files, paths, strict=True) if path.name != file.name]
    note = f"; without checksums, only the form of {', '.join(unchecked)} was checked" if unchecked else ""
    note += "; checksums were those given, not the publisher's" if sha256 else ""
    numbers = " and ".join(f"{len(split.images)} {part}" for part, split in splits.items())
    return f"prepared {numbers} images of {name} in {place}{note}"


def raw_files(official: Any, url: str | None = None, sha256: tuple[str, ...] = ()) -> list[downloads.RawFile]:
    """The raw files of a data set: MNIST's training images and labels, then its test images and labels.

    Args:
      official: the builder of tensorflow-datasets, which knows URLs, sizes and checksums.
      url: see `prepare`.
      sha256: see `prepare`.
    """
    infos = sorted(official.url_infos.items(), key=lambda item: ("t10k" in item[0], item[0]))
    files = [downloads.RawFile(info.filename, at, info.checksum, int(info.size)) for at, info in infos]
    if url and len(files) == 1:
        files = [files[0]._replace(url=url)]
    elif url:
        files = [file._replace(url=f"{url.rstrip('/')}/{file.name}") for file in files]
    if sha256:
        if len(sha256) != len(files):
            names = ", ".join(file.name for file in files)
            raise ValueError(f"--sha256 must be {len(files)} checksums, of {names}; got {len(sha256)}")
        known = zip(files, sha256, strict=True)
        files = [file._replace(sha256=digest.strip().lower(), size=None) for file, digest in known]
    return files


def _find(files: list[downloads.RawFile], folder: pathlib.Path) -> list[pathlib.Path]:
    """Paths of the raw files in `folder`: with the right checksums, or unzipped ones, which have none.

    Raises:
      FileNotFoundError: names the files that are missing.
      ValueError: a checksum is wrong.
    """
    paths, missing = [], []
    for file in files:
        names = [file.name]
        if not file.name.endswith(".tar.gz"):
            names.append(file.name.removesuffix(".gz"))
        found = [folder / name for name in names if (folder / name).is_file()]
        if found:
            paths.append(found[0])
        else:
            missing.append(file.name)
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)}")
    for file, path in zip(files, paths, strict=True):
        if path.name == file.name:
            downloads.check(file, downloads.digest_of(path), path)
    return paths


def _read_mnist(paths: list[pathlib.Path]) -> dict[str, Split]:
    """The splits of the four files, in the order of `raw_files`."""
    splits = {}
    for part, (images, labels) in {"train": paths[:2], "test": paths[2:]}.items():
        pixels, numbers = _read_idx(images, 3), _read_idx(labels, 1)
        if pixels.shape[1:] != (28, 28):
            raise ValueError(f"images of {images} are {pixels.shape[1:]}, not (28, 28)")
        if len(pixels) != len(numbers):
            raise ValueError(f"{images} has {len(pixels)} images, and {labels} has {len(numbers)} labels")
        _check_labels(labels, numbers, 10)
        splits[part] = Split(pixels[..., None], {"label": numbers})
    return splits


def _read_idx(path: pathlib.Path, rank: int) -> np.ndarray:
    """An array of bytes in IDX format: bytes 0, 0, 8, rank; the shape, 32 bits each; then the array."""
    with _reading(path):
        content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
    if content[:4] != bytes([0, 0, 8, rank]):
        magic = bytes([0, 0, 8, rank]).hex()
        raise ValueError(f"{path} is not what it should be: it begins with {content[:4].hex()}, not {magic}")
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * rank].ljust(4 * rank, b"\0"), ">u4").tolist())
    size = 4 + 4 * rank + int(np.prod(shape, dtype=object))
    if len(content) != size:
        raise ValueError(f"{path} has {len(content)} bytes, and its header says {size}, for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _read_cifar(path: pathlib.Path, official: Any) -> tuple[dict[str, Split], dict[str, list[str]]]:
    """The splits, and the names of the classes of each feature that is a label."""
    info = official._cifar_info.fget(official)  # a property that needs no instance
    parts = {"train": info.train_files, "test": info.test_files}
    contents = {}
    with _reading(path), tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isfile() and member.name.removeprefix("./").startswith(info.prefix):
                contents[pathlib.PurePosixPath(member.name).name] = archive.extractfile(member).read()
    wanted = [*info.label_files, *info.train_files, *info.test_files]
    if missing := [name for name in wanted if name not in contents]:
        raise ValueError(f"{path} has no {', '.join(info.prefix + name for name in missing)}")
    names = {
        key: [name for name in contents[file].decode().splitlines() if name]
        for key, file in zip(info.label_keys, info.label_files, strict=True)
    }
    width = len(names) + 3 * 32 * 32
    splits = {}
    for part, members in parts.items():
        for member in members:
            if not contents[member] or len(contents[member]) % width:
                raise ValueError(
                    f"{member} in {path} has {len(contents[member])} bytes, no multiple of {width}"
                )
        records = np.frombuffer(b"".join(contents[m] for m in members), np.uint8).reshape(-1, width)
        labels = {key: records[:, column] for column, key in enumerate(names)}
        for key, numbers in labels.items():
            _check_labels(path, numbers, len(names[key]))
        pixels = records[:, len(names) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[part] = Split(pixels, labels)
    return splits, names


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Turns the errors of a damaged archive into a `ValueError` that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from None


def _check_labels(path: pathlib.Path, labels: np.ndarray, classes: int) -> None:
    """Raises a `ValueError` unless there are labels, and all are below `classes`."""
    if not labels.size or labels.max() >= classes:
        got = f"up to {labels.max()}" if labels.size else "none"
        raise ValueError(f"labels in {path} must be 0 to {classes - 1}, got {got}")


def _write(
    official: Any, folder: pathlib.Path, splits: dict[str, Split], names: dict[str, list[str]]
) -> None:
    """Writes the splits with a subclass of the official builder that takes its images from `splits`."""
    import tensorflow_datasets as tfds

    def examples(part: str, split: Split) -> Iterator[tuple[int, dict[str, Any]]]:
        bar = tqdm.tqdm(split.images, desc=f"{official.name}, {part}", unit="images", leave=False)
        for index, pixels in enumerate(bar):
            png = io.BytesIO()
            Image.fromarray(pixels.squeeze()).save(png, "PNG")
            example = {key: int(numbers[index]) for key, numbers in split.labels.items()}
            extra = {"id": f"{part}_{index:05d}"} if names else {}  # only CIFAR has a feature `id`
            yield index, example | extra | {"image": png.getvalue()}

    def split_generators(builder: Any, _: Any) -> dict[str, Iterator]:
        for key, values in names.items():
            builder.info.features[key].names = values
        return {part: examples(part, split) for part, split in splits.items()}

    methods = {"__module__": official.__module__, "_split_generators": split_generators}
    kind = type(official)(official.__name__, (official,), methods, skip_registration=True)
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it downloads, which it does not
        kind(data_dir=folder, file_format="array_record").download_and_prepare(download_config=config)
