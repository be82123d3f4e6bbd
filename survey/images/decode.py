"""The bytes of an image become an array of colours: JPEG, PNG, or the planes of a FITS cut-out.

What a header says of the size is compared with the limits before anything is unpacked, so that a small file
cannot fill the memory. What cannot be read is `Refused`.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from survey.images.bad_pixels import without_damage
from survey.images.planes import reddest_first
from survey.spectrum import Refused

FORMATS = ("JPEG", "PNG")
ENDINGS = (".jpg", ".jpeg", ".png")
"""The endings of image files other than FITS, in lower case."""

Pixels = NDArray[np.float32] | NDArray[np.uint8]
"""Brightness (C, H, W): bytes of a JPEG or PNG, or numbers of any range of a FITS file."""

MOST_BANDS = 8


def decode(data: bytes | bytearray, smallest: int, largest: int) -> NDArray[np.uint8]:
    """The colours of a JPEG or PNG, (3, H, W)."""
    if not data:
        raise Refused("empty", "no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is checked here, damage raises
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(image.height, image.width, smallest, largest)
                colours = np.asarray(_to_colours(image))
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused("image_shape", f"sides from {smallest} to {largest} are allowed ({error})") from None
    except UnidentifiedImageError:
        raise Refused("bad_image", f"no JPEG or PNG; it begins with {bytes(data[:16])!r}") from None
    except Exception as error:  # a parser of others over damaged bytes may raise anything
        raise Refused("bad_image", f"{type(error).__name__}: {str(error)[:200]}") from error
    return np.ascontiguousarray(colours.transpose(2, 0, 1))


def _to_colours(image: Image.Image) -> Image.Image:
    """An image in three colours of 8 bits. Grey of 16 bits is brought from its range to 0 ... 255."""
    if image.mode.startswith(("I", "F")):
        grey = without_damage(np.asarray(image, np.float32)[None])[0]
        low, high = float(grey.min()), float(grey.max())
        grey = (grey - low) * (255 / max(high - low, 1e-9))
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def from_planes(
    pixels: NDArray[np.generic], smallest: int, largest: int, bands: tuple[str, ...] = ()
) -> NDArray[np.float32]:
    """The planes of a FITS image as (C, H, W), without damaged pixels; the reddest first if their bands are
    given.
    """
    planes = pixels[None] if pixels.ndim == 2 else pixels
    if planes.ndim != 3 or not 1 <= len(planes) <= MOST_BANDS:
        raise Refused("image_shape", f"an image of shape {pixels.shape}; needed are (H, W) or (C, H, W)")
    check_size(planes.shape[1], planes.shape[2], smallest, largest)
    with np.errstate(all="ignore"):
        values = planes.astype(np.float32)
    if not np.isfinite(values).any():
        raise Refused("blank_image", "no pixel is finite")
    order = reddest_first(bands, len(values))
    return without_damage(values if order == sorted(order) else values[order])


def check_size(height: int, width: int, smallest: int, largest: int) -> None:
    """Refuse an image that is too small to show anything, or larger than any cut-out."""
    if min(height, width) < smallest or max(height, width) > largest:
        raise Refused(
            "image_shape", f"{height} x {width} pixels; sides from {smallest} to {largest} are allowed"
        )
