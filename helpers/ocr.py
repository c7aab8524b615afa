"""Optical character recognition: a picture in, its lines of text out, each with its place and the engine's confidence.

Two small networks work one after the other. A detector marks where there is text, and a recogniser reads each mark as
a strip of characters (PP-OCRv6, in the package rapidocr, 32 MB of weights that come with it). What is not text, such as
the height of a bar or the rule between two columns, is not in the answer.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from math import atan2, cos, dist, sin
from statistics import median
from typing import Any

import numpy as np

from helpers import images, machine
from helpers.errors import BackendUnavailable

Corner = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A stretch of text with its four corners, clockwise from its upper left, in pixels; `confidence` is 0 to 1."""

    text: str
    confidence: float
    box: tuple[Corner, Corner, Corner, Corner]

    @property
    def centre(self) -> Corner:
        """The middle of the box."""
        return sum(x for x, _ in self.box) / 4, sum(y for _, y in self.box) / 4

    @property
    def slope(self) -> float:
        """The angle at which the text runs, in radians. A tall strip is taken to run upwards, as beside an axis."""
        (x, y), (right, right_y), _, (below_x, below) = self.box
        return atan2(y - below, x - below_x) if self._is_tall else atan2(right_y - y, right - x)

    @property
    def height(self) -> float:
        """The height of the strip across its text, in pixels."""
        return dist(self.box[0], self.box[1 if self._is_tall else 3])

    @property
    def _is_tall(self) -> bool:
        """The engine's own rule for text that stands on end; a single letter is tall anyway."""
        return len(self.text) > 1 and dist(self.box[0], self.box[3]) >= 1.5 * dist(self.box[0], self.box[1])


@dataclass(frozen=True, slots=True)
class Page:
    """What was read in a picture: `rows` from top to bottom, the lines of each from left to right."""

    rows: tuple[tuple[Line, ...], ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines in reading order."""
        return tuple(line for row in self.rows for line in row)

    @property
    def text(self) -> str:
        """The lines in reading order, a row of the picture on a row."""
        return "\n".join(" ".join(line.text for line in row) for row in self.rows)

    def __repr__(self) -> str:
        return f"Page({len(self.lines)} lines in {len(self.rows)} rows)"


def read_text(image: Any) -> Page:
    """The text in a picture: a path, a PIL image or an array, as `images.read` takes it. A blank one has no rows."""
    pixels = np.ascontiguousarray(
        np.asarray(images.as_pil(images.read(image)))[:, :, ::-1]
    )  # the engine takes blue first
    found = _engine(machine.threads())(pixels)
    if found.boxes is None or not found.txts:
        return Page(())
    corners = [tuple((float(x), float(y)) for x, y in box) for box in found.boxes]
    lines = [Line(t, float(s), box) for t, s, box in zip(found.txts, found.scores, corners, strict=True)]  # type: ignore[arg-type]
    return Page(_rows([line for line in lines if line.text.strip()]))


def _rows(lines: list[Line]) -> tuple[tuple[Line, ...], ...]:
    """The lines grouped to rows, as seen along the page's own slope: a page that lies askew is still read in order.

    The engine turns a strip that is upside down, and does not tell: an upside-down page is read from its last line up.
    """
    if not lines:
        return ()
    # Each letter has a vote, so that long strips decide: the box of a short one is nearly square.
    slope = median(line.slope for line in lines for _ in line.text)
    tolerance = median(line.height for line in lines) / 2
    upright = {line: _turned(line.centre, slope) for line in lines}
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: upright[line][1]):
        if rows and upright[line][1] - upright[rows[-1][-1]][1] <= tolerance:
            rows[-1].append(line)
        else:
            rows.append([line])
    return tuple(tuple(sorted(row, key=lambda line: upright[line][0])) for row in rows)


def _turned(point: Corner, angle: float) -> Corner:
    x, y = point
    return x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)


@cache
def _engine(threads: int) -> Any:
    """The engine, its networks loaded once from its own package; nothing is fetched."""
    for package in ("rapidocr", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise BackendUnavailable(
                f"Text in pictures cannot be read: the package {package} is not installed.",
                f"Run pip install {package}, or python3 course.py setup.",
            )
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",  # it tells each file that it loads
            "Global.max_side_len": images.MAX_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # By default a picture is enlarged for the detector, which doubled the time on our pages and found no more.
            "Det.limit_type": "max",
            "Det.limit_side_len": images.MAX_SIDE,
        }
    )
