"""Messages in OpenAI's form that hold images, for models that see elsewhere.

An image travels inside the request as a data address: its bytes in base64, which makes them a third longer. So a
request can grow beyond what a provider takes, and the size is checked before anything is sent.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from helpers import images
from helpers.errors import InvalidInput
from helpers.records import Turn

#: The first bytes of the formats that every provider takes.
SENT_FORMATS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
#: Enough for a screenshot, and below every documented limit but the smallest.
IMAGE_BYTES = 4_000_000


def conversation(turns: Sequence[Turn], limit: int = IMAGE_BYTES) -> list[dict[str, Any]]:
    """The messages of a conversation; an image that is too large for its share of `limit` goes as a smaller JPEG.

    >>> conversation([Turn("user", "Hi")])
    [{'role': 'user', 'content': 'Hi'}]
    """
    pictures = [picture for turn in turns for picture in turn.images]
    room = limit * 3 // 4 // max(1, len(pictures)) - len("data:image/jpeg;base64,")  # base64: 4 bytes for 3
    files = iter([images.as_small_bytes(picture, room) for picture in pictures])
    messages: list[dict[str, Any]] = []
    for turn in turns:
        shown = [next(files) for _ in turn.images]
        content = message(turn.text, *shown, limit=limit)["content"] if shown else turn.text
        messages.append({"role": turn.role, "content": content})
    _refuse_more_than(limit, [part for m in messages if isinstance(m["content"], list) for part in m["content"][1:]])
    return messages


def message(text: str, *files: Path | str | bytes, limit: int = IMAGE_BYTES) -> dict[str, Any]:
    """A user's message: a text and its images, each a file or its bytes.

    `limit` is what all images of the request may take together, in bytes as they are sent; a provider's own stands
    in its row as `image_bytes`.

    >>> message("What is this?")
    {'role': 'user', 'content': [{'type': 'text', 'text': 'What is this?'}]}
    """
    parts = [{"type": "image_url", "image_url": {"url": data_address(file)}} for file in files]
    _refuse_more_than(limit, parts)
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def data_address(image: Path | str | bytes) -> str:
    """An image as a `data:` address (RFC 2397)."""
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    kind = next((kind for start, kind in SENT_FORMATS.items() if data.startswith(start)), None)
    if kind is None:
        raise InvalidInput("The image is in no format that every provider takes.", "Save it as PNG, JPEG or JPG.")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _refuse_more_than(limit: int, parts: Sequence[Mapping[str, Any]]) -> None:
    size = sum(len(part["image_url"]["url"]) for part in parts)
    if size > limit:
        raise InvalidInput(
            f"The images take {size:,} bytes as they are sent, above the limit of {limit:,}.",
            "Make them smaller, or save them as JPEG: a model sees little more than 1,000 pixels a side.",
        )
