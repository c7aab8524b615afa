"""What happens to a page on its way to a scanner or a camera: it is turned, grainy, out of focus, or faded.

Each function takes a picture and how strong the harm is, and gives a new picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from helpers.errors import InvalidInput


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    """The picture turned anticlockwise about its middle, on white, and as large as that needs."""
    return image.rotate(degrees, resample=Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def noisy(image: Image.Image, sigma: float, seed: int = 0) -> Image.Image:
    """The picture with Gaussian noise of standard deviation `sigma`, where black is 0 and white 255."""
    _refuse_negative(sigma, "standard deviation")
    grain = np.random.default_rng(seed).normal(0, sigma, (image.height, image.width, 1))
    return Image.fromarray((np.asarray(image, dtype=float) + grain).clip(0, 255).round().astype(np.uint8))


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """The picture out of focus: a Gaussian blur whose standard deviation is `radius` pixels."""
    _refuse_negative(radius, "radius")
    return image.filter(ImageFilter.GaussianBlur(radius))


def faded(image: Image.Image, contrast: float) -> Image.Image:
    """The picture with this share of its contrast left, bleached towards white."""
    if not 0 <= contrast <= 1:
        raise InvalidInput(f"A contrast of {contrast} is not a share.", "Choose 0 (white) to 1 (unchanged).")
    return Image.blend(Image.new("RGB", image.size, "white"), image, contrast)


def _refuse_negative(value: float, what: str) -> None:
    if value < 0:
        raise InvalidInput(f"A {what} of {value} is below nothing.", "Choose 0 or more.")
