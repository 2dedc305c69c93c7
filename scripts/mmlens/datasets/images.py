"""Images: the one way to read them, and the gate that decodes each of them once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import ExifTags, Image, ImageOps
from scipy.fft import dctn

from ..files import sha256_file

# A decompression bomb is an error of the data, not a reason to run out of memory.
MAX_PIXELS = 64_000_000
# No others: some of them run programs (EPS) or hold something else than pixels.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
FACTS = ("sha256", "width", "height", "mode", "format", "frames", "exif_orientation")
FACTS += ("perceptual_hash", "problem")
NO_IMAGE = dict.fromkeys(FACTS, "") | {"width": 0, "height": 0}


def open_rgb(path):
    """An image file as RGB of 8 bits, upright: what every job of a run sees of it.

    Greyscale, palettes and CMYK are converted (without colour profiles), 16-bit grey is scaled by
    1/257, so that 65535 becomes 255 (of 16-bit colours Pillow keeps the high byte), transparency
    is laid on white, of an animation the first frame is taken, and the rotation that the EXIF
    orientation asks for is done.

    Returns
    -------
    PIL.Image.Image of mode RGB, decoded

    Raises
    ------
    ValueError for more than MAX_PIXELS, and for 32-bit and floating-point pixels, whose white is
    not defined. OSError and what else Pillow raises for files that it cannot decode to the end.
    """
    with open_image(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return to_rgb(image)


def open_image(path):
    """The file opened by Pillow; nothing is decoded yet."""
    image = Image.open(path, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels, at most {MAX_PIXELS} are read")
    return image


def to_rgb(image):
    """A decoded image as RGB, see `open_rgb`."""
    # Pillow reads the 16-bit PGM as I; other files of that mode hold 32 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        values = np.asarray(image)
        grey = ((values.astype(np.int32) + 128) // 257).astype(np.uint8)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode[0] in "IF":
        raise ValueError(f"pixels of mode {image.mode}, whose white is not defined; use 8 bits")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    return image.convert("RGB")


def read_facts(path):
    """The FACTS of an image file; problem says what is wrong with it, "" if nothing is.

    width and height are those of the upright image; mode, format, number of frames and EXIF
    orientation ("" without) those of the file.
    """
    try:
        with open_image(path) as image:
            facts = {
                "mode": image.mode,
                "format": image.format,
                "frames": getattr(image, "n_frames", 1),
                "exif_orientation": image.getexif().get(ExifTags.Base.Orientation, ""),
            }
        image = open_rgb(path)
        facts |= {"sha256": sha256_file(path), "width": image.width, "height": image.height}
        facts |= {"perceptual_hash": perceptual_hash(image), "problem": ""}
    except FileNotFoundError:
        return {**NO_IMAGE, "problem": "is missing; download it or correct dataset.root"}
    except Exception as error:  # Pillow raises many kinds for files that are not what they say
        cause = str(error) or type(error).__name__
        return {**NO_IMAGE, "problem": f"cannot be decoded ({cause}); replace the file"}
    return facts


def perceptual_hash(image):
    """64 bits, as 16 hex digits, that change little with small changes of an image.

    The 8 x 8 lowest frequencies of its cosine transform at 32 x 32 pixels of grey, each above their
    median or not, without the mean brightness: as pHash (Zauner 2010), which filters the image and
    leaves out the lowest row and column. Of an image without structure the bits mean nothing.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR), float)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


class ImageGate:
    """Decodes every image file once and remembers its facts.

    Parameters
    ----------
    threads : int, how many files are decoded at a time; the facts do not depend on it
    """

    def __init__(self, threads=1):
        self.threads = threads
        self.facts = {}

    def check(self, paths):
        """DataFrame with the FACTS of a Series of paths, row by row; for "" those of NO_IMAGE."""
        Image.init()  # its lazy loading of formats is not meant for several threads
        new = [path for path in dict.fromkeys(paths) if path and path not in self.facts]
        with ThreadPoolExecutor(self.threads) as pool:
            self.facts.update(zip(new, pool.map(read_facts, new), strict=True))
        rows = [self.facts[path] if path else NO_IMAGE for path in paths]
        return pd.DataFrame(rows, columns=list(FACTS), index=paths.index)

    def table(self):
        """DataFrame image + FACTS, one row per file in the order in which they were checked."""
        rows = [{"image": path, **facts} for path, facts in self.facts.items()]
        return pd.DataFrame(rows, columns=["image", *FACTS])
