"""How well a page was transcribed, and where that breaks: character error rate, cell accuracy, harm step by step.

An error rate over characters says how much of a page can be trusted to the letter. It does not say which letters: one
wrong digit in a total costs as little as one in a greeting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers import distortions, plots
from helpers.documents import Cells, Document, text_page
from helpers.errors import InvalidInput
from helpers.ocr import read_text
from helpers.rates import Rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: What harms a page of text: its levels from one end to the other, and the page of a seed so harmed.
HARMS: dict[str, tuple[tuple[float, ...], Callable[[int, float], Any]]] = {
    "rotation_degrees": ((0, 45, 90, 135, 180), lambda seed, by: distortions.rotated(_page(seed).image, by)),
    "noise_sigma": ((0, 50, 100, 150, 200), lambda seed, by: distortions.noisy(_page(seed).image, by, seed)),
    "type_size_pixels": ((4, 5, 6, 8, 12), lambda seed, size: _page(seed, int(size)).image),
    "blur_pixels": ((0, 1, 2, 3, 4), lambda seed, by: distortions.blurred(_page(seed).image, by)),
    "contrast_share": ((0.02, 0.03, 0.04, 0.05, 1), lambda seed, left: distortions.faded(_page(seed).image, left)),
}
LABELS = {
    "rotation_degrees": "rotation (degrees)",
    "noise_sigma": "noise (grey levels)",
    "type_size_pixels": "type size (pixels)",
    "blur_pixels": "blur (pixels)",
    "contrast_share": "contrast (share left)",
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


def _page(seed: int, size: int = 16) -> Document:
    return text_page(seed, sizes=(size,) * 4)
