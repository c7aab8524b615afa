"""How Phi-4-multimodal looks at an image: once as a whole, and once in square crops of its full resolution.

The image is enlarged until it fills a grid of squares, as many as its size asks for; what is left over is white and
masked. Each crop gives side / patch / 2 image tokens a side, less where it is masked, with one more token at the end of
each row; the whole image gives a square of them, and one token stands between the two. So 448 × 448 pixels take 545
tokens, and 1,344 × 896 take 1,841. (Phi-4-Mini technical report, arXiv:2503.01743, section 2.2; the counts are what
transformers' class expects.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cut:
    """One image: `pixels` crops × 3 × side × side, the whole first; `mask` crops × patches × patches."""

    pixels: Any
    mask: Any
    height: int
    width: int
    tokens: int


def cut(image: Any, *, side: int, patch: int, most: int) -> Cut:
    """The crops of a PIL image in RGB, squares of `side` pixels, `most` at the most."""
    import numpy
    import torch
    from torch.nn.functional import interpolate, pad

    image = _at_most(image, side, most)
    columns, rows = math.ceil(image.width / side), math.ceil(image.height / side)
    scale = min(columns * side / image.width, rows * side / image.height)
    height, width = int(image.height * scale + 1e-6), int(image.width * scale + 1e-6)
    raw = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None].float()
    large = interpolate(raw, (height, width), mode="bilinear", antialias=True).round()
    right, below = columns * side - width, rows * side - height
    grid = pad(large, (0, right, 0, below), value=255) / 127.5 - 1
    whole = interpolate(grid, (side, side), mode="bicubic")

    patches = side // patch
    mask = torch.ones(rows * patches, columns * patches)
    mask[:, mask.shape[1] - right // patch :] = 0
    mask[mask.shape[0] - below // patch :, :] = 0
    crops = grid.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    masks = mask.reshape(rows, patches, columns, patches).transpose(1, 2).flatten(0, 1)
    seen = mask.reshape(rows, patches, columns, patches)[:, ::2, :, ::2]
    half = math.ceil(patches / 2)
    tokens = half * (half + 1) + 1 + int(seen.sum()) + int(seen[:, :, 0, 0].sum())
    return Cut(
        torch.cat([whole, crops]), torch.cat([torch.ones_like(masks[:1]), masks]), rows * side, columns * side, tokens
    )


def batch(cuts: Sequence[Cut]) -> dict[str, Any]:
    """The images of a conversation as the model's inputs, filled up to the largest number of crops."""
    import torch
    from torch.nn.functional import pad

    most = max(len(one.pixels) for one in cuts)
    missing = [most - len(one.pixels) for one in cuts]
    return {
        "image_pixel_values": torch.stack(
            [pad(one.pixels, (0, 0) * 3 + (0, n)) for one, n in zip(cuts, missing, strict=True)]
        ),
        "image_attention_mask": torch.stack(
            [pad(one.mask, (0, 0) * 2 + (0, n), value=1) for one, n in zip(cuts, missing, strict=True)]
        ),
        "image_sizes": torch.tensor([[one.height, one.width] for one in cuts]),
    }


def _at_most(image: Any, side: int, most: int) -> Any:
    """The image, made smaller where it would take more crops; `helpers.images` keeps photographs below that."""
    while math.ceil(image.width / side) * math.ceil(image.height / side) > most:
        image = image.resize((max(1, image.width * 9 // 10), max(1, image.height * 9 // 10)))
    return image
