"""One way to read images of every kind: known pixels, upright, refused where undefined."""

import itertools
import struct
import zlib
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmlens.datasets.images import (
    FACTS,
    MAX_PIXELS,
    ImageGate,
    open_rgb,
    perceptual_hash,
    read_facts,
)
from mmlens.features.base import Geometry
from mmlens.figures.attributions import read_image
from mmlens.models.inputs import read_pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112


def pixels(path):
    """Rows of RGB tuples of a file as every job of a run sees it."""
    image = open_rgb(path)
    assert image.mode == "RGB"
    return [[tuple(pixel) for pixel in row] for row in np.asarray(image).tolist()]


def grey(value):
    return (value, value, value)


def test_greyscale_and_bilevel_images(tmp_path):
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(tmp_path / "l.png")
    assert pixels(tmp_path / "l.png") == [[grey(0), grey(7), grey(255)]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert pixels(tmp_path / "1.png") == [[WHITE, grey(0)]]


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk.tif"])
def test_cmyk_is_converted(tmp_path, name):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / name, quality=100)
    assert read_facts(tmp_path / name)["mode"] == "CMYK"
    assert np.abs(np.array(pixels(tmp_path / name)[0][0]) - RED).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_transparency_lies_on_white(tmp_path, suffix):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    for column in range(3):
        image.putpixel((column, 0), column)
    image.save(tmp_path / f"plain.{suffix}")
    assert pixels(tmp_path / f"plain.{suffix}") == [[RED, GREEN, BLUE]]
    image.save(tmp_path / f"holes.{suffix}", transparency=1)
    assert pixels(tmp_path / f"holes.{suffix}") == [[RED, WHITE, BLUE]]


def test_alpha_lies_on_white(tmp_path):
    rgba = np.array([[[*RED, 255], [*RED, 0], [*RED, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert pixels(tmp_path / "rgba.png") == [[RED, WHITE, (255, 127, 127)]]
    Image.fromarray(np.array([[[0, 0], [0, 255]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png") == [[WHITE, grey(0)]]
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(tmp_path / "key.png", transparency=7)
    assert pixels(tmp_path / "key.png") == [[WHITE, grey(9)]]


SIXTEEN = np.array([[0, 128, 129, 257], [32896, 1000, 65000, 65535]], np.uint16)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, name):
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5 4 2 65535\n" + SIXTEEN.astype(">u2").tobytes())
    else:
        Image.fromarray(SIXTEEN).save(tmp_path / name)
    expected = [[0, 0, 1, 1], [128, 4, 253, 255]]
    assert pixels(tmp_path / name) == [[grey(value) for value in row] for row in expected]


def test_transparent_grey_of_16_bits_is_white(tmp_path):
    Image.fromarray(SIXTEEN).save(tmp_path / "a.png", transparency=1000)
    assert [row[1] for row in pixels(tmp_path / "a.png")] == [grey(0), WHITE]


@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_pixels_without_a_defined_white_are_refused(tmp_path, kind, mode):
    Image.fromarray(SIXTEEN.astype(kind)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"mode {mode}, whose white is not defined; use 8 bits"):
        open_rgb(tmp_path / "a.tif")
    assert "cannot be decoded (pixels of mode" in read_facts(tmp_path / "a.tif")["problem"]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, GREEN, BLUE)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert read_facts(tmp_path / f"a.{suffix}")["frames"] == 3
    assert pixels(tmp_path / f"a.{suffix}") == [[RED] * 4] * 3


# Where the pixels A B C of a row 3 wide and 1 high, stored so, are shown (EXIF 2.3, tag 0x0112).
TURNED = {
    1: ["ABC"],
    2: ["CBA"],
    3: ["CBA"],
    4: ["ABC"],
    5: ["A", "B", "C"],
    6: ["A", "B", "C"],
    7: ["C", "B", "A"],
    8: ["C", "B", "A"],
    99: ["ABC"],
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_rotation_is_done(tmp_path, suffix, orientation):
    side = 16  # a block of JPEG, so that colours do not bleed
    stored = np.repeat(np.repeat(np.array([[RED, GREEN, BLUE]], np.uint8), side, 0), side, 1)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a.{suffix}"
    image.save(path, exif=exif, lossless=True, quality=100)
    shown = open_rgb(path)
    letters = dict(zip("ABC", (RED, GREEN, BLUE), strict=True))
    expected = np.array([[letters[letter] for letter in row] for row in TURNED[orientation]])
    centres = np.asarray(shown).astype(int)[side // 2 :: side, side // 2 :: side]
    assert centres.shape == expected.shape
    assert np.abs(centres - expected).max() <= 2
    facts = read_facts(path)
    assert (facts["width"], facts["height"]) == shown.size
    assert facts["exif_orientation"] == orientation


def test_models_and_figures_see_the_same_image(tmp_path):
    rgba = np.zeros((4, 6, 4), np.uint8)
    image = Image.fromarray(rgba)
    exif = image.getexif()
    exif[ORIENTATION] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png").shape == (6, 4, 3)
    assert (read_pixels(tmp_path / "a.png", Geometry(32, 32)) == 255).all()


def png_of_size(width, height):
    """A PNG that says it is that large, and holds next to nothing."""

    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [8001, 20_000])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    assert side * side > MAX_PIXELS
    problem = read_facts(tmp_path / "bomb.png")["problem"]
    assert problem.startswith("cannot be decoded (")
    assert "pixels" in problem
    assert problem.endswith("replace the file")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    assert "cannot identify image file" in read_facts(tmp_path / "a.jpg")["problem"]


def test_gate_has_one_row_per_file_whatever_the_threads(tmp_path):
    paths = []
    for number in range(12):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (number + 1, 2), (number, 0, 0)).save(paths[-1])
    (tmp_path / "5.png").write_bytes(b"no image")
    (tmp_path / "6.png").unlink()
    asked = pd.Series([*paths[::-1], "", paths[0]], index=range(100, 114))
    tables, answers = [], []
    for threads in (1, 4):
        gate = ImageGate(threads)
        answers.append(gate.check(asked))
        tables.append(gate.table())
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(*answers)
    assert tables[0]["image"].tolist() == paths[::-1]
    assert tables[0].columns.tolist() == ["image", *FACTS]
    answer = answers[0]
    assert answer.index.tolist() == asked.index.tolist()
    assert answer.loc[113, "width"] == 1
    assert answer.loc[112, ["sha256", "problem"]].tolist() == ["", ""]
    broken = answer[answer["problem"] != ""]
    assert broken.index.tolist() == [105, 106]
    assert broken["problem"].iat[0] == "is missing; download it or correct dataset.root"
    assert "cannot be decoded" in broken["problem"].iat[1]


def small_files():
    """Bytes of a small image in every format."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
    image = Image.fromarray(noise).convert("P")
    for name in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        buffer = BytesIO()
        (image if name in ("GIF", "PNG") else image.convert("RGB")).save(buffer, name)
        yield buffer.getvalue()


@settings(derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(list(small_files())),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 400),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_are_a_problem(tmp_path, content, changes, lost):
    damaged = bytearray(content)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    path = tmp_path / "damaged"
    path.write_bytes(damaged[: max(1, len(damaged) - lost)])
    facts = read_facts(path)
    assert bool(facts["problem"]) != bool(facts["sha256"])
    if not facts["problem"]:
        assert open_rgb(path).size == (facts["width"], facts["height"])


def test_a_perceptual_hash_stays_with_small_changes_and_tells_images_apart():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    images = [Image.fromarray(c).resize((96, 96), Image.Resampling.BICUBIC) for c in coarse]
    hashes = [int(perceptual_hash(image), 16) for image in images]
    for image, own in zip(images, hashes, strict=True):
        noisy = np.asarray(image, float) + rng.normal(0, 6, (96, 96, 3))
        buffer = BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=60)
        for changed in (Image.open(buffer), image.resize((64, 64)), image.point(lambda v: v // 2)):
            assert (int(perceptual_hash(changed), 16) ^ own).bit_count() <= 8
    apart = [(a ^ b).bit_count() for a, b in itertools.combinations(hashes, 2)]
    assert min(apart) > 16
    assert perceptual_hash(Image.new("RGB", (9, 9), "white")) == "0" * 16
