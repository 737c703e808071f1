"""Raw files in the official formats, with invented images, from a server on the loopback interface."""

import functools
import gzip
import hashlib
import http.server
import io
import pathlib
import signal
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest

from fedgame.learning import data, downloads, preparation

ROOT = pathlib.Path(__file__).parent.parent.parent
MNIST = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
pytestmark = pytest.mark.filterwarnings("ignore")  # tensorflow-datasets' own


def idx(array):
    shape = b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


def mnist(train=12, test=5):
    """Images and labels, and the four files."""
    rng = np.random.default_rng(0)
    arrays = []
    for number in (train, test):
        arrays += [rng.integers(0, 256, (number, 28, 28)), rng.integers(0, 10, number)]
    return arrays, {name: gzip.compress(idx(a), mtime=0) for name, a in zip(MNIST, arrays, strict=True)}


def cifar(classes=10, batches=(3, 3, 3, 3, 3, 4), drop=None):
    """Pixels [n, 32, 32, 3], labels [n] and coarse labels of the archive's records, and the archive."""
    rng = np.random.default_rng(0)
    number = sum(batches)
    pixels = rng.integers(0, 256, (number, 32, 32, 3)).astype(np.uint8)
    labels, coarse = rng.integers(0, classes, number), rng.integers(0, 20, number)
    columns = [labels] if classes == 10 else [coarse, labels]
    flat = pixels.transpose(0, 3, 1, 2).reshape(number, -1)
    records = np.concatenate([np.stack(columns, 1).astype(np.uint8), flat], 1)
    parts = np.split(records, np.cumsum(batches)[:-1])
    if classes == 10:
        folder = "cifar-10-batches-bin/"
        members = {f"data_batch_{i + 1}.bin": parts[i].tobytes() for i in range(5)}
        members |= {"test_batch.bin": parts[5].tobytes()}
        members |= {"batches.meta.txt": b"".join(b"thing %d\n" % i for i in range(10)) + b"\n"}
    else:
        folder = "cifar-100-binary/"
        members = {"train.bin": parts[0].tobytes(), "test.bin": parts[1].tobytes()}
        members |= {"coarse_label_names.txt": b"".join(b"kind_%d\n" % i for i in range(20))}
        members |= {"fine_label_names.txt": b"".join(b"thing_%d\n" % i for i in range(100))}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in members.items():
            if name != drop:
                member = tarfile.TarInfo(folder + name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    return pixels, labels, coarse, content.getvalue()


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server():
    """A server of `files` that breaks off in the middle of those in `cut`, and counts requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            here.requests.append(self.path)
            content = here.files.get(self.path.removeprefix("/"))
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in here.cut else content)

        def log_message(self, *_):
            pass

    here = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.files, here.cut, here.requests = {}, set(), []
    here.url = f"http://127.0.0.1:{here.server_port}"
    thread = threading.Thread(target=functools.partial(here.serve_forever, poll_interval=0.01))
    thread.start()
    yield here
    here.shutdown()
    thread.join()
    here.server_close()


def assert_reads_back(name, folder, part, pixels, labels):
    """Reads by the data source of tensorflow-datasets and by `data.load`; pixels identify the images."""
    import tensorflow_datasets as tfds

    source = tfds.data_source(name, split=part, data_dir=folder, download=False)
    assert len(source) == len(pixels)
    want = {image.tobytes(): int(label) for image, label in zip(pixels, labels, strict=True)}
    got = {record["image"].tobytes(): int(record["label"]) for record in source}
    assert got == want
    loaded = data.load(name, *data.sizes(name, str(folder)), seed=0, data_dir=str(folder))
    images, numbers = getattr(loaded, part)
    assert images.dtype == np.float32
    found = np.rint(images * 255).astype(np.uint8)
    assert {i.tobytes(): int(n) for i, n in zip(found, numbers, strict=True)} == want


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_downloaded_once_and_prepared_pixel_for_pixel(name, server, tmp_path):
    arrays, server.files = mnist()
    checksums = tuple(map(digest, server.files.values()))
    (tmp_path / name / "incomplete.ABCDEF_3.0.1").mkdir(parents=True)  # as a kill leaves them
    (tmp_path / "downloads" / name).mkdir(parents=True)
    (tmp_path / "downloads" / name / f"{MNIST[0]}.partial").write_bytes(b"half")
    said = preparation.prepare(name, tmp_path, url=server.url + "/", sha256=checksums)
    assert said.startswith(f"prepared 12 train and 5 test images of {name} in {tmp_path / name / '3.0.1'};")
    assert said.endswith("; checksums were those given, not the publisher's")
    for part, pixels, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        assert_reads_back(name, tmp_path, part, pixels.astype(np.uint8)[..., None], labels)
    assert data.classes(name, str(tmp_path))[0] == {"mnist": "0", "fashion_mnist": "T-shirt/top"}[name]
    assert sorted(f.name for f in (tmp_path / "downloads" / name).iterdir()) == sorted(MNIST)
    assert len(server.requests) == 4

    before = {f: f.stat().st_mtime_ns for f in (tmp_path / name).rglob("*")}
    assert "is already prepared" in preparation.prepare(name, tmp_path)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / name).rglob("*")} == before

    (tmp_path / name).rename(tmp_path / "away")
    (tmp_path / "downloads" / name / MNIST[1]).write_bytes(b"something else")
    preparation.prepare(name, tmp_path, url=server.url, sha256=checksums)
    assert server.requests[4:] == [f"/{MNIST[1]}"]


def test_cifar10_has_names_ids_and_the_order_of_the_official_builder(server, tmp_path):
    import tensorflow_datasets as tfds

    pixels, labels, _, archive = cifar()
    server.files["mirror/cifar.tar.gz"] = archive
    url = f"{server.url}/mirror/cifar.tar.gz"
    preparation.prepare("cifar10", tmp_path, url=url, sha256=(digest(archive).upper(),))
    assert_reads_back("cifar10", tmp_path, "train", pixels[:15], labels[:15])
    assert_reads_back("cifar10", tmp_path, "test", pixels[15:], labels[15:])
    assert data.classes("cifar10", str(tmp_path))[3] == "thing 3"
    train = tfds.data_source("cifar10", split="train", data_dir=tmp_path, download=False)
    for record in train:
        number = int(record["id"].decode().removeprefix("train_"))
        np.testing.assert_array_equal(record["image"], pixels[number])


def test_cifar100_has_fine_and_coarse_labels(tmp_path):
    import tensorflow_datasets as tfds

    pixels, labels, coarse, archive = cifar(100, (6, 3))
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(archive)
    preparation.prepare("cifar100", tmp_path / "out", raw_dir=tmp_path, sha256=(digest(archive),))
    assert_reads_back("cifar100", tmp_path / "out", "train", pixels[:6], labels[:6])
    train = tfds.data_source("cifar100", split="train", data_dir=tmp_path / "out", download=False)
    numbers = [int(record["id"].decode().removeprefix("train_")) for record in train]
    assert [record["coarse_label"] for record in train] == coarse[numbers].tolist()
    assert data.classes("cifar100", str(tmp_path / "out"))[42] == "thing_42"


def test_a_wrong_checksum_is_named_and_nothing_stays(server, tmp_path):
    _, server.files = mnist()
    expected = "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"  # the real file's
    with pytest.raises(ValueError, match=f"{MNIST[0]} has the SHA-256 .* expected {expected}") as error:
        preparation.prepare("mnist", tmp_path, url=server.url)
    assert digest(server.files[MNIST[0]]) in str(error.value)
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == []


def test_a_broken_transfer_says_how_much_arrived_and_leaves_nothing(server, tmp_path):
    _, server.files = mnist()
    server.cut.add(f"/{MNIST[2]}")
    checksums, size = tuple(map(digest, server.files.values())), len(server.files[MNIST[2]])
    with pytest.raises(ConnectionError, match=f"{MNIST[2]} broke: {size // 2} of {size} bytes arrived"):
        preparation.prepare("mnist", tmp_path, url=server.url, sha256=checksums)
    assert sorted(f.name for f in tmp_path.rglob("*") if f.is_file()) == sorted(MNIST[:2])
    server.cut.clear()
    preparation.prepare("mnist", tmp_path, url=server.url, sha256=checksums)
    assert server.requests == [f"/{MNIST[i]}" for i in (0, 1, 2, 2, 3)]
    assert data.sizes("mnist", str(tmp_path)) == (12, 5)


@pytest.mark.parametrize("problem", ["404", "refused", "no such scheme", "silent"])
def test_a_server_that_does_not_serve(problem, server, tmp_path, monkeypatch):
    url, message = {
        "404": (server.url, "HTTP|Not Found"),
        "refused": ("http://127.0.0.1:9", "refused"),
        "no such scheme": ("nonsense", "unknown url type"),
        "silent": (server.url, "timed out"),
    }[problem]
    if problem == "silent":
        monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
        monkeypatch.setattr(server.RequestHandlerClass, "do_GET", lambda _: time.sleep(1))
    begin = time.perf_counter()
    with pytest.raises(ConnectionError, match=f"cannot download {url}/{MNIST[0]}: .*({message})"):
        preparation.prepare("mnist", tmp_path, url=url)
    assert time.perf_counter() - begin < 5


def test_raw_files_may_be_unzipped_and_only_then_need_no_checksum(tmp_path):
    arrays, files = mnist()
    for name, content in files.items():
        (tmp_path / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    said = preparation.prepare("mnist", tmp_path / "out", raw_dir=tmp_path)
    assert "without checksums, only the form of train-images-idx3-ubyte, " in said
    assert_reads_back("mnist", tmp_path / "out", "test", arrays[2].astype(np.uint8)[..., None], arrays[3])
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{MNIST[0]} has the SHA-256 checksum .*, expected 440fcabf"):
        preparation.prepare("mnist", tmp_path / "again", raw_dir=tmp_path)


def unzipped(folder, **changes):
    arrays, _ = mnist()
    for name, array in zip(MNIST, arrays, strict=True):
        (folder / name.removesuffix(".gz")).write_bytes(idx(array))
    for name, content in changes.items():
        (folder / f"{name.replace('_', '-')}-ubyte").write_bytes(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels_idx1": idx(np.zeros(11))}, "has 12 images, and .*labels.* has 11 labels"),
        ({"t10k_images_idx3": idx(np.zeros((5, 28, 27)))}, r"are \(28, 27\), not \(28, 28\)"),
        ({"train_images_idx3": idx(np.zeros(12))}, "begins with 00000801, not 00000803"),
        ({"train_images_idx3": b"<html>"}, "begins with 3c68746d, not 00000803"),
        ({"train_images_idx3": idx(np.zeros((12, 28, 28)))[:-9]}, "has 9415 bytes, .* says 9424, for shape"),
        ({"train_labels_idx1": idx(np.zeros(12))[:6]}, "has 6 bytes, and its header says"),
        ({"t10k_labels_idx1": idx(np.full(5, 10))}, "must be 0 to 9, got up to 10"),
        ({"t10k_images_idx3": b""}, "begins with , not 00000803"),
    ],
)
def test_files_of_mnist_that_are_not_what_they_should_be(changes, message, tmp_path):
    unzipped(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        preparation.prepare("mnist", tmp_path / "out", raw_dir=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_cut_gz_is_damaged_even_where_its_checksum_is_as_told(tmp_path):
    _, files = mnist()
    files[MNIST[0]] = files[MNIST[0]][:200]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{MNIST[0]} is damaged or cut off"):
        preparation.prepare(
            "mnist", tmp_path / "out", raw_dir=tmp_path, sha256=tuple(map(digest, files.values()))
        )


def shortened(archive):
    return archive[: len(archive) // 2]


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (shortened(cifar()[-1]), "is damaged or cut off"),
        (b"not an archive", "is damaged or cut off"),
        (cifar(drop="data_batch_3.bin")[-1], "has no cifar-10-batches-bin/data_batch_3.bin"),
        (cifar(100, (6, 3))[-1], "has no cifar-10-batches-bin/batches.meta.txt, cifar-10-batches-bin/data"),
        (cifar(batches=(3, 3, 0, 3, 3, 4))[-1], "data_batch_3.bin in .* has 0 bytes, no multiple of 3073"),
    ],
    ids=("cut", "no archive", "a file less", "CIFAR-100", "an empty file"),  # not bytes, which hold the time
)
def test_archives_of_cifar_that_are_not_what_they_should_be(archive, message, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(archive)
    with pytest.raises(ValueError, match=message):
        preparation.prepare("cifar10", tmp_path / "out", raw_dir=tmp_path, sha256=(digest(archive),))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "minst"}, ValueError, "must be one of mnist, .* got 'minst'"),
        ({"raw_dir": "here", "url": "there"}, ValueError, "not from both"),
        ({"sha256": ("0",)}, ValueError, "--sha256 belongs to"),
        ({"url": "u", "sha256": ("0",)}, ValueError, "must be 4 checksums, of train-images.*; got 1"),
        ({"raw_dir": "/nowhere"}, FileNotFoundError, f"/nowhere has no {', '.join(MNIST)}$"),
    ],
)
def test_what_cannot_be_is_said(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        preparation.prepare(**{"name": "mnist", "data_dir": tmp_path} | arguments)


def test_a_folder_in_the_way_is_not_overwritten(tmp_path):
    (tmp_path / "mnist/3.0.1").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="holds no dataset_info"):
        preparation.prepare("mnist", tmp_path, raw_dir=tmp_path)


def test_the_official_urls_and_checksums_are_asked_of_tensorflow_datasets():
    import tensorflow_datasets as tfds

    files = preparation.raw_files(tfds.builder_cls("mnist"))
    assert [file.name for file in files] == MNIST
    assert all(file.url.endswith(f"/{file.name}") for file in files)
    assert [file.size for file in files] == [9912422, 28881, 1648877, 4542]
    (file,) = preparation.raw_files(tfds.builder_cls("cifar10"), url="http://mirror/x")
    assert file.url == "http://mirror/x"
    assert file.sha256.startswith("c4a38c50a1bc5f3a")


def test_the_command_prepares_says_so_and_ends_in_one_sentence(tmp_path):
    unzipped(tmp_path)
    command = [sys.executable, "-m", "launch.prepare", "--dataset=mnist", f"--data_dir={tmp_path / 'out'}"]

    def run(*flags):
        return subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)

    failed = run(f"--raw_dir={tmp_path / 'empty'}")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"error: {tmp_path / 'empty'} has no {', '.join(MNIST)}\n"
    done = run(f"--raw_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("prepared 12 train and 5 test images of mnist in")
    assert run().stdout == f"mnist is already prepared: {tmp_path / 'out/mnist/3.0.1'}\n"


def test_an_interrupted_command_says_so(server, tmp_path):
    asked = threading.Event()

    def wait(handler):
        asked.set()
        time.sleep(1)

    server.RequestHandlerClass.do_GET = wait
    command = ["-m", "launch.prepare", "--dataset=mnist", f"--data_dir={tmp_path}", f"--url={server.url}"]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert asked.wait(20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert said == "\ninterrupted\n"
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == []
