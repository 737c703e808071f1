import os
import socket

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from fedgame.learning import data, image_files, memory

LEVELS = iter(range(5, 10**6, 7))


def draw(folder, *files, mode="RGB", size=(4, 5), **options):
    """An image for each of the files, all of different brightness."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        level = 100 + next(LEVELS) % 150
        Image.new("L", size, level).convert(mode).save(folder / file, **options)


def pets(folder, number=6, classes=("cat", "dog"), **options):
    """A folder with as many images of each class."""
    draw(folder, *[f"{name}/{k}.png" for name in classes for k in range(number)], **options)
    return folder


def remarks(folder):
    """What is told, without the path of the folder."""
    return [told.replace(str(folder), "PETS") for told in data.load(f"{folder}/", 3, 1, 0).remarks]


def decoded(image, folder, **options):
    """What is read of an image, [h, w, c] of 0 to 255, and what is told."""
    file = folder / "image.png"
    image.save(file, **options)
    pixels, told = image_files.decode([file], file, "images")
    return np.rint(pixels[0] * 255).astype(int), told


# What is an image


@pytest.mark.parametrize("suffix", [*image_files.SUFFIXES, ".JPG", ".Webp"])
def test_images_of_every_usual_format_are_read(suffix, tmp_path):
    pets(tmp_path)
    draw(tmp_path, *[f"dog/more{k}{suffix}" for k in range(3)])
    assert sum(data.sizes(f"{tmp_path}/")) == 15
    assert data.everything(tmp_path).pixels.shape == (15, 5, 4, 3)
    assert remarks(tmp_path) == []


def test_files_that_are_ignored_are_counted(tmp_path):
    pets(tmp_path)
    for name in ("dog/a.txt", "dog/b.TXT", "dog/c.mp4", "dog/none", ".cache", "labels.csv", "cat.png"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "dog/puppies").mkdir()
    assert remarks(tmp_path) == [
        "ignored in PETS, as in no folder of a class: images (1), .csv (1)",
        "ignored in class dog of PETS, as no images: .txt (2), .mp4 (1), without ending (1), folders (1)",
    ]
    assert data.everything(tmp_path).remarks == list(data.load(f"{tmp_path}/", 8, 4, 0).remarks)


def test_many_classes_with_files_that_are_ignored_are_told_in_a_few_sentences(tmp_path):
    pets(tmp_path, classes=[f"class{k:02}" for k in range(14)])
    for k in range(14):
        (tmp_path / f"class{k:02}/a.{k}").write_text("no image")
    *first, last = remarks(tmp_path)
    assert len(first) == 10
    assert last == "ignored in 4 other classes of PETS, as no images: .10 (1), .11 (1), .12 (1), .13 (1)"
    assert image_files._counted(f".{k}" for k in range(12)).endswith(".9 (1), others (2)")


def test_what_is_no_regular_file_is_ignored_and_never_opened(tmp_path):
    pets(tmp_path)
    os.mkfifo(tmp_path / "dog/pipe.png")
    (tmp_path / "dog/lost.png").symlink_to(tmp_path / "nowhere.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "dog/socket.png"))
    assert remarks(tmp_path) == ["ignored in class dog of PETS, as no images: no regular files (3)"]
    os.mkfifo(tmp_path / "all.npz")
    with pytest.raises(ValueError, match=r"all\.npz is no regular file"):
        data.sizes(str(tmp_path / "all.npz"))


def test_results_of_a_command_are_no_class(tmp_path):
    pets(tmp_path)
    pets(tmp_path / "out")  # figures, for example
    (tmp_path / "out/config.json").write_text("{}")
    (tmp_path / "results/train").mkdir(parents=True)
    (tmp_path / "results/train/config.json").write_text("{}")
    assert data.classes(f"{tmp_path}/") == ("cat", "dog")
    assert remarks(tmp_path) == ["ignored in PETS, as results of a command: 'out', 'results'"]


def test_results_in_the_folder_of_a_class_do_not_take_it_away(tmp_path):
    pets(tmp_path)
    (tmp_path / "dog/out").mkdir()
    (tmp_path / "dog/out/config.json").write_text("{}")
    assert data.classes(f"{tmp_path}/") == ("cat", "dog")
    assert remarks(tmp_path) == ["ignored in class dog of PETS, as no images: folders (1)"]
    assert not image_files.holds_a_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\nb", r"the name of a class must be printable text, not 'a\\nb'"),
        (os.fsdecode(b"caf\xe9"), r"must be printable text, not 'caf\\udce9'"),
        (" ", "must be printable text, not ' '"),
        ("cafe\u0301", "two folders in .* are of one class, café"),
    ],
)
def test_classes_must_have_names_of_their_own(name, message, tmp_path):
    pets(tmp_path, classes=("café", "dog"))
    pets(tmp_path, classes=(name,))
    with pytest.raises(ValueError, match=message):
        data.sizes(f"{tmp_path}/")


def test_what_lies_in_a_class_without_images_is_said(tmp_path):
    pets(tmp_path)
    (tmp_path / "eel").mkdir()
    (tmp_path / "eel/a.heic").write_text("photo")
    with pytest.raises(ValueError, match=r"eel holds no images \(\.png, .*\.tiff\), but \.heic \(1\)$"):
        data.sizes(f"{tmp_path}/")
    pets(tmp_path / "eel")
    with pytest.raises(
        ValueError, match=r"folders \(2\), \.heic \(1\); members' own images go with --federati"
    ):
        data.sizes(f"{tmp_path}/")


def test_what_lies_in_a_folder_without_classes_is_said(tmp_path):
    draw(tmp_path, "1.png", "2.png")
    with pytest.raises(ValueError, match=r"has no folders of classes: there are images \(2\)$"):
        data.sizes(f"{tmp_path}/")
    (tmp_path / "north.csv").write_text("a,y\n1,2\n")
    with pytest.raises(ValueError, match=r"\.csv \(1\); members' own tables go with --federation$"):
        data.sizes(f"{tmp_path}/")


def test_folders_that_may_not_be_read(tmp_path, monkeypatch):
    pets(tmp_path)
    listed = os.scandir

    def forbidden(folder):
        if folder == tmp_path / "dog":
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(ValueError, match="dog cannot be read: Permission denied"):
        data.sizes(f"{tmp_path}/")


# Parts


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_validation_images_are_the_test_images_if_there_are_no_others(name, tmp_path):
    pets(tmp_path / "train")
    pets(tmp_path / name, 2)
    assert data.sizes(f"{tmp_path}/") == (12, 4)
    assert data.classes(f"{tmp_path}/") == ("cat", "dog")
    assert remarks(tmp_path) == [f"images of PETS/{name} are the test images, as there is no test"]
    assert len(data.everything(tmp_path).pixels) == 16
    pets(tmp_path / "Test", 1)
    assert data.sizes(f"{tmp_path}/") == (12, 2)
    assert remarks(tmp_path) == [f"ignored in PETS, beside train and test: {name}"]


def test_what_lies_beside_parts_is_told(tmp_path):
    pets(tmp_path / "train")
    pets(tmp_path / "test", 2)
    draw(tmp_path / "unlabelled", "1.png")
    (tmp_path / "test/cat/a.txt").write_text("no image")
    (tmp_path / "train/config.json").write_text("{}")  # of another program
    assert remarks(tmp_path) == [
        "ignored in PETS, as no parts with a folder per class: 'unlabelled'",
        "ignored in PETS/train, as in no folder of a class: .json (1)",
        "ignored in class cat of PETS/test, as no images: .txt (1)",
    ]


@pytest.mark.parametrize(
    ("divided", "flat", "message"),
    [
        (
            ["train"],
            [],
            r"PETS holds train: needed are train and test \(or val\) .* at random, name PETS/train/$",
        ),
        (["train"], ["cat", "dog"], "PETS holds cat, dog, train: needed are train and test"),
        (["train"], ["test"], "PETS holds test, train: needed are train and test"),
        (["test", "val"], [], "PETS holds test, val: needed are train and test"),
        (["train", "val", "valid"], [], "PETS holds val and valid: remove one of them"),
        (["train", "test", "Train"], [], "PETS holds Train and train: remove one of them"),
        ([], ["train", "test"], "PETS/test must hold a folder of images for each class"),
    ],
)
def test_parts_that_are_not_complete(divided, flat, message, tmp_path):
    for part in divided:
        pets(tmp_path / part, 1)
    for part in flat:
        draw(tmp_path / part, "1.png", "2.png", "3.png", "4.png")
    with pytest.raises(ValueError, match=message.replace("PETS", str(tmp_path))):
        data.sizes(f"{tmp_path}/")


def test_trains_may_be_a_class(tmp_path):
    pets(tmp_path, classes=("bus", "train", "test"))
    assert data.classes(f"{tmp_path}/") == ("bus", "test", "train")


def test_one_class_is_nothing_to_learn(tmp_path):
    pets(tmp_path, classes=("cat",))
    with pytest.raises(ValueError, match="are of one class, cat: there is nothing to learn"):
        data.sizes(f"{tmp_path}/")


# Pixels


def test_photographs_are_turned_as_the_camera_says(tmp_path):
    photo = np.zeros((2, 3), np.uint8)
    photo[0, 0] = 255
    tags = Image.Exif()
    tags[0x0112] = 6  # of the camera, turned to the right
    pixels, told = decoded(Image.fromarray(photo), tmp_path, exif=tags)
    np.testing.assert_array_equal(pixels[..., 0], np.rot90(photo, -1))
    assert told == []


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_what_is_transparent_counts_as_white(mode, tmp_path):
    icon = np.zeros((3, 4, 4), np.uint8)  # black, all of it; drawn in alpha
    icon[1, 1:3, 3] = 255, 128
    image = Image.fromarray(icon).convert(mode)
    if mode == "P":
        image = Image.fromarray((icon[..., 3] > 200).astype(np.uint8), "L").convert("P")
        image.putpalette([7, 7, 7, 0, 0, 0])
    options = {"transparency": 0} if mode == "P" else {}
    pixels, told = decoded(image, tmp_path, **options)
    want = np.full((3, 4), 255)
    want[1, 1:3] = (0, 255) if mode == "P" else (0, 127)
    assert pixels.shape == (3, 4, 1 if mode == "LA" else 3)
    np.testing.assert_array_equal(pixels, np.broadcast_to(want[..., None], pixels.shape))
    assert told == ["1 of 1 images are transparent in places, which counts as white"]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_full_opacity_changes_nothing(mode, tmp_path):
    draw(tmp_path, "a.png", "b.png", mode=mode)
    pixels, told = image_files.decode([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "a.png", "images")
    plain = [np.asarray(Image.open(tmp_path / f"{name}.png"))[..., : pixels.shape[3]] for name in "ab"]
    np.testing.assert_array_equal(np.rint(pixels * 255), plain)
    assert told == []


def test_an_icon_in_white_would_vanish(tmp_path):
    icon = np.full((3, 4, 4), 255, np.uint8)
    icon[0, :, 3] = 0
    with pytest.raises(ValueError, match=r"image\.png is of one colour, as what is transparent counts as wh"):
        decoded(Image.fromarray(icon), tmp_path)


@pytest.mark.parametrize(
    ("mode", "suffix", "want"),
    [
        ("1", "png", [255]),
        ("P", "gif", [204, 204, 204]),  # the nearest of the palette
        ("P", "png", [204, 204, 204]),
        ("CMYK", "jpg", [200, 200, 200]),
        ("CMYK", "tif", [200, 200, 200]),
        ("YCbCr", "jpg", [200, 200, 200]),
    ],
)
def test_other_ways_to_store_colours(mode, suffix, want, tmp_path):
    file = tmp_path / f"image.{suffix}"
    Image.new("L", (4, 5), 200).convert("RGB").convert(mode).save(file)
    pixels, _ = image_files.decode([file], file, "images")
    assert pixels.shape == (1, 5, 4, len(want))
    np.testing.assert_allclose(pixels[0, 0, 0] * 255, want, atol=1)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused(mode, tmp_path):
    file = tmp_path / "image.tif"
    Image.new(mode, (4, 5)).save(file)
    with pytest.raises(ValueError, match=r"image\.tif must have 8 bits a channel, its mode is [IF]"):
        image_files.decode([file], file, "images")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animations_are_refused(suffix, tmp_path):
    file = tmp_path / f"image.{suffix}"
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "green")]
    frames[0].save(file, save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"must hold one image, not 3: save the one that is meant"):
        image_files.decode([file], file, "images")


def test_the_preview_behind_a_photograph_is_ignored(tmp_path):
    file = tmp_path / "image.jpg"
    photo, preview = (Image.new("RGB", (9, 9), colour) for colour in ("white", "black"))
    photo.save(file, "MPO", save_all=True, append_images=[preview])
    assert image_files.decode([file], file, "images")[0].min() == 1


def test_dark_images_are_told(tmp_path):
    for k in range(3):
        Image.new("L", (2, 2), k % 2).save(tmp_path / f"{k}.png")
    files = [tmp_path / f"{k}.png" for k in range(3)]
    told = image_files.decode(files, files[0], "images")[1]
    assert told == ["no pixel of 3 images is brighter than 1, and 255 is white"]
    assert image_files.decode(files[:1], files[0], "images")[1] == []  # one may well be black


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"PIXELS"])
def test_what_is_no_image_is_named(content, tmp_path):
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"image\.png cannot be read as an image: "):
        image_files.decode([tmp_path / "image.png"], tmp_path / "image.png", "images")


def test_no_program_is_started_for_an_image(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: begun.append(args))
    file = tmp_path / "image.png"
    Image.new("RGB", (4, 4)).save(file, "EPS")
    with pytest.raises(
        ValueError, match=r"image\.png cannot be read as an image: cannot identify image file"
    ):
        image_files.decode([file], file, "images")
    assert begun == []


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    draw(tmp_path, "image.png", size=(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"cannot be read as an image: .*decompression bomb"):
        image_files.decode([tmp_path / "image.png"], tmp_path / "image.png", "images")


@pytest.mark.filterwarnings("ignore")  # Pillow's own
@hypothesis.given(
    suffix=st.sampled_from(["png", "jpg", "bmp", "webp", "gif", "tif"]),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture], deadline=None)
def test_damaged_files_are_read_or_named(suffix, place, byte, cut, tmp_path):
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file)
    content = bytearray(file.read_bytes())
    where = int(place * len(content))
    content[where] = byte
    file.write_bytes(content[:where] if cut else content)
    told = str(file)
    try:
        image_files.decode([file], file, "images")
    except ValueError as error:
        told = str(error)
    assert str(file) in told or "memory" in told


def test_images_that_do_not_fit_into_memory_are_refused_before_any_is_held(tmp_path, monkeypatch):
    pets(tmp_path, number=30)
    monkeypatch.setattr(memory, "of_machine", lambda: 4000)
    assert len(data.load(f"{tmp_path}/", 6, 6, 0).train.images) == 6  # 20 pixels, 3 channels, 5 bytes
    seen, decode_one = [], image_files._decode
    monkeypatch.setattr(image_files, "_decode", lambda file: seen.append(file) or decode_one(file))
    with pytest.raises(ValueError, match=r"^40 training images need \S+ GB of memory, and this machine has"):
        data.load(f"{tmp_path}/", 40, 6, 0)
    assert len(seen) == 1
