"""The process in which a PDF is read: its bytes on standard input, its pages as one line of JSON on standard output.

    python -m helpers.assistant.pdf_child '{"memory_bytes": …, "seconds": …, "pages": …}' < some.pdf

A PDF is a small program for drawing pages, and one can be made that takes hours or fills the memory. So it is read
apart: where the system has limits, they are set before the first byte is looked at, and whoever started this process
ends it after some seconds.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import sys
from typing import Any

from helpers.instruct.coding_child import limit


def pages_of(data: bytes, most: int) -> list[dict[str, Any]]:
    """Each page's `number`, its `text` in the file's own order, the same as `layout`, and an `image` if it has no text.

    The layout keeps columns apart with spaces, which is how a table is known again.
    """
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("it is locked with a password.")
    if len(reader.pages) > most:
        raise ValueError(f"it has {len(reader.pages)} pages, and a document may have {most}.")
    pages = []
    for number, page in enumerate(reader.pages, start=1):
        text = page.extract_text()
        layout, image = "", None
        if text.strip():
            layout = page.extract_text(extraction_mode="layout", layout_mode_space_vertically=False)
        else:
            image = max((one.data for one in page.images), key=len, default=None)
        pages.append({"number": number, "text": text, "layout": layout})
        pages[-1]["image"] = image and base64.b64encode(image).decode()
    return pages


def main() -> None:
    """Reads, and tells the pages or the `problem` in a sentence."""
    limits = json.loads(sys.argv[1])
    limit(limits["memory_bytes"], limits["seconds"])
    logging.disable()  # a damaged file makes pypdf say much
    try:
        told: dict[str, Any] = {"pages": pages_of(sys.stdin.buffer.read(), limits["pages"])}
    except ValueError as error:
        told = {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - a damaged file fails in many ways
        told = {"problem": f"it is no PDF, or damaged ({type(error).__name__})."}
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(told))


if __name__ == "__main__":
    main()
