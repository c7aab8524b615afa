"""Optical character recognition: a picture in, its lines of text out; and how well a page was transcribed.

Two small networks work one after the other. A detector marks where there is text, and a recogniser reads each mark as
a strip of characters (PP-OCRv6, in the package rapidocr, 32 MB of weights that come with it). What is not text, such as
the height of a bar or the rule between two columns, is not in the answer; each line has its place and the engine's
confidence.

An error rate over characters says how much of a page can be trusted to the letter. It does not say which letters: one
wrong digit in a total costs as little as one in a greeting. So the cells of a table are counted too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import atan2, cos, dist, sin
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import images, machine, plots
from helpers.errors import BackendUnavailable, InvalidInput
from helpers.intervals import Rate
from helpers.vision import documents
from helpers.vision.documents import Cells, DrawnPage, text_page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


Corner = tuple[float, float]
LABELS = {
    "rotation_degrees": "rotation (degrees)",
    "noise_sigma": "noise (grey levels)",
    "type_size_pixels": "type size (pixels)",
    "blur_pixels": "blur (pixels)",
    "contrast_share": "contrast (share left)",
}


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


#: What harms a page of text: its levels from one end to the other, and the page of a seed so harmed.
HARMS: dict[str, tuple[tuple[float, ...], Callable[[int, float], Any]]] = {
    "rotation_degrees": ((0, 45, 90, 135, 180), lambda seed, by: documents.rotated(_page(seed).image, by)),
    "noise_sigma": ((0, 50, 100, 150, 200), lambda seed, by: documents.noisy(_page(seed).image, by, seed)),
    "type_size_pixels": ((4, 5, 6, 8, 12), lambda seed, size: _page(seed, int(size)).image),
    "blur_pixels": ((0, 1, 2, 3, 4), lambda seed, by: documents.blurred(_page(seed).image, by)),
    "contrast_share": ((0.02, 0.03, 0.04, 0.05, 1), lambda seed, left: documents.faded(_page(seed).image, left)),
}


def edit_distance(one: str, two: str) -> int:
    """The fewest insertions, deletions and substitutions of a character that turn `one` into `two`.

    >>> edit_distance("kitten", "sitting")
    3

    Levenshtein 1966, Soviet Physics Doklady 10(8):707-710; row by row as in Wagner and Fischer 1974, JACM 21(1):168.
    """
    row = list(range(len(two) + 1))
    for place, letter in enumerate(one, start=1):
        above, row = row, [place]
        for column, other in enumerate(two, start=1):
            row.append(min(row[-1] + 1, above[column] + 1, above[column - 1] + (letter != other)))
    return row[-1]


def character_error_rate(read: str, truth: str) -> float:
    """Edit distance ÷ characters of the truth, white space counted as single spaces.

    After Rice 1996, Measuring the Accuracy of Page-Reading Systems, University of Nevada, Las Vegas.

    0 is perfect, 1 as bad as reading nothing; inventing text can make it more than 1.

    >>> character_error_rate("Total 12.4O", "Total  12.40")
    0.09090909090909091
    """
    expected = " ".join(truth.split())
    if not expected:
        raise InvalidInput(
            "A character error rate needs a truth with characters.", "Give the text that was to be read."
        )
    return edit_distance(" ".join(read.split()), expected) / len(expected)


def cell_accuracy(read: Cells, truth: Cells) -> Rate:
    """The share of the truth's cells that stand to the letter in the same row and column of what was read."""
    places = [(row, column) for row, cells in enumerate(truth) for column in range(len(cells))]
    return Rate.of(
        row < len(read) and column < len(read[row]) and read[row][column] == truth[row][column]
        for row, column in places
    )


def under(harm: str, pages: int = 2, levels: Sequence[float] | None = None) -> pd.DataFrame:
    """One row for each level of a harm and each page of text: how many characters it has and its error rate.

    The harms are the keys of `HARMS`. The same pages, four lines of 16 pixels each, are harmed at every level.
    """
    import pandas as pd

    if harm not in HARMS:
        raise InvalidInput(f"There is no harm {harm!r}.", f"Choose one of: {', '.join(HARMS)}.")
    usual, harmed = HARMS[harm]
    rows = []
    for level in usual if levels is None else levels:
        for seed in range(pages):
            truth = _page(seed).text
            read = read_text(harmed(seed, level)).text
            rate = character_error_rate(read, truth)
            rows.append({"harm": harm, "level": level, "page": seed, "characters": len(truth), "error_rate": rate})
    return pd.DataFrame(rows)


def where_it_breaks(table: Any, *, x: str = "level", y: str = "error_rate", ax: Axes | None = None) -> Axes:
    """The median error rate over the levels of one harm, in a band from the best page to the worst."""
    rows = table.groupby(["harm", x], sort=False)[y].agg(["median", "min", "max"]).reset_index()
    harms = sorted(set(rows["harm"]))
    if len(harms) != 1:
        raise InvalidInput(f"This table holds {len(harms)} harms, and their levels have different units.", "Draw one.")
    percent = rows.assign(**{name: 100 * rows[name] for name in ("median", "min", "max")})
    ax = plots.lines(percent, x=x, y="median", band=("min", "max"), ax=ax)
    ax.set(xlabel=LABELS[harms[0]], ylabel="character error rate (%)", ylim=(-4, max(104, ax.get_ylim()[1])))
    return ax


def _page(seed: int, size: int = 16) -> DrawnPage:
    return text_page(seed, sizes=(size,) * 4)
