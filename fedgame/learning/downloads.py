"""Downloads files: complete and with the right checksum, or not at all."""

import contextlib
import hashlib
import http.client
import pathlib
import urllib.request
from typing import NamedTuple

import tqdm

_TIMEOUT = 10.0  # seconds without an answer


class RawFile(NamedTuple):
    """A file as its publisher distributes it."""

    name: str
    url: str
    sha256: str
    size: int | None  # bytes, if known


def download(file: RawFile, path: pathlib.Path) -> None:
    """Downloads `file` to `path`, which then exists only if it is complete and its checksum is right.

    Does nothing if that file is already there.

    Raises:
      ConnectionError: there is no answer, or the connection broke.
      ValueError: the checksum is wrong.
    """
    if path.exists() and digest_of(path) == file.sha256:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        check(file, _transfer(file, partial), file.url)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def digest_of(path: pathlib.Path) -> str:
    """The SHA-256 checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(file: RawFile, found: str, where: object) -> None:
    """Raises a `ValueError` if `found`, the checksum of what is at `where`, is not that of `file`."""
    if found != file.sha256:
        raise ValueError(f"{where} has the SHA-256 checksum {found}, expected {file.sha256}")


def _transfer(file: RawFile, partial: pathlib.Path) -> str:
    """Writes what the server sends to `partial`, and returns its SHA-256.

    Raises:
      ConnectionError: there is no answer, or the connection broke.
    """
    digest, arrived, expected, broken = hashlib.sha256(), 0, file.size, ""
    try:
        with contextlib.ExitStack() as stack:
            request = urllib.request.Request(file.url, headers={"User-Agent": "fedgame"})
            response = stack.enter_context(urllib.request.urlopen(request, timeout=_TIMEOUT))
            expected = int(response.headers.get("Content-Length") or expected or 0)
            out = stack.enter_context(partial.open("wb"))
            form = {"unit": "B", "unit_scale": True, "leave": False}
            bar = stack.enter_context(tqdm.tqdm(total=expected or None, desc=file.name, **form))
            while block := response.read(1 << 16):
                out.write(block)
                digest.update(block)
                arrived += len(block)
                bar.update(len(block))
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not arrived:
            raise ConnectionError(f"cannot download {file.url}: {getattr(error, 'reason', error)}") from None
        broken = f" ({error})"
    if broken or arrived < expected:
        raise ConnectionError(
            f"the transfer of {file.url} broke: {arrived} of {expected or 'unknown'} bytes arrived{broken}"
        )
    return digest.hexdigest()
