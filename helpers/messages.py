"""Messages in OpenAI's form that hold images, for models that see.

An image travels inside the request as a data address: its bytes in base64, which makes them a third longer. So a
request can grow beyond what a provider takes, and the size is checked before anything is sent.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput

#: The first bytes of the formats that every provider takes.
FORMATS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
#: Enough for a screenshot, and below every documented limit but the smallest.
IMAGE_BYTES = 4_000_000


def message(text: str, *images: Path | str | bytes, limit: int = IMAGE_BYTES) -> dict[str, Any]:
    """A user's message: a text and its images, each a file or its bytes.

    `limit` is what all images of the request may take together, in bytes as they are sent; a provider's own stands
    in its row as `image_bytes`.

    >>> message("What is this?")
    {'role': 'user', 'content': [{'type': 'text', 'text': 'What is this?'}]}
    """
    addresses = [data_address(image) for image in images]
    size = sum(map(len, addresses))
    if size > limit:
        raise InvalidInput(
            f"The images take {size:,} bytes as they are sent, above the limit of {limit:,}.",
            "Make them smaller, or save them as JPEG: a model sees little more than 1,000 pixels a side.",
        )
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": address}} for address in addresses]
    return {"role": "user", "content": parts}


def data_address(image: Path | str | bytes) -> str:
    """An image as a `data:` address (RFC 2397)."""
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    kind = next((kind for start, kind in FORMATS.items() if data.startswith(start)), None)
    if kind is None:
        raise InvalidInput("The image is in no format that every provider takes.", "Save it as PNG, JPEG or JPG.")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
