"""Pictures of documents whose contents are known, and what harms them on their way to a scanner or a camera.

Lines of text, a receipt, a bar chart, a table: a seed decides the contents, and the fonts come with matplotlib, so a
document is the same on every system. What a reader makes of the picture can then be held against the truth: `text`,
`cells`, and questions with their answers. Then the page is turned, grainy, out of focus, or faded: each such function
takes a picture and how strong the harm is, and gives a new picture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from helpers.errors import InvalidInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["lines", "receipt", "labelled chart", "bare chart", "table"]
Cells = tuple[tuple[str, ...], ...]
#: Dots for each inch of a drawn chart or table: its type is then 14 pixels high.
DPI = 100
MARGIN = 24
PLACES = ("Lund", "Bergen", "Turku", "Aarhus", "Leeds", "Ghent")
INVOICE_MONTHS = ("January", "March", "April", "June", "August", "October")
GOODS = ("Bread", "Milk", "Coffee", "Apples", "Butter", "Cheese", "Honey", "Rice")
PRODUCTS = ("Lamp", "Chair", "Desk", "Clock", "Mirror", "Shelf", "Carpet", "Stool")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri")
#: How a question about a column is asked in other words.
IN_OTHER_WORDS = {
    "Stock": "How many of the {} are left?",
    "Price": "How much does the {} cost?",
    "Sales": "How many times was the {} bought?",
}


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


@dataclass(frozen=True, slots=True)
class PageQuestion:
    """A question on a document. `form` tells what it takes, `wording` whether it uses the document's own words."""

    text: str
    answer: str
    form: Literal["lookup", "compare"]
    wording: Literal["plain", "reworded"]


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """A picture with its truth: its `text` row by row, its `cells`, and `questions` with answers.

    A chart has no `text`: in which order its title, ticks and labels are read is nobody's truth.
    """

    kind: Kind
    image: Image.Image
    text: str
    cells: Cells = ()
    questions: tuple[PageQuestion, ...] = ()

    @property
    def name(self) -> str:
        """What a person would call it: "receipt", "bar chart"."""
        return "bar chart" if self.kind.endswith("chart") else self.kind

    def __repr__(self) -> str:
        return f"DrawnPage({self.kind!r}, {self.image.width} × {self.image.height} px, {len(self.questions)} questions)"


def text_page(seed: int = 0, sizes: Sequence[int] = (12, 16, 20, 28)) -> DrawnPage:
    """One sentence for each type size, which is the font's em in pixels."""
    if not sizes or min(sizes) < 1:
        raise InvalidInput("A page of text needs type sizes of one pixel or more.", "Give sizes such as (12, 16).")
    draw = random.Random(seed)
    sentences = [_sentence(draw) for _ in sizes]
    width = 2 * MARGIN + round(max(_font(size).getlength(s) for s, size in zip(sentences, sizes, strict=True)))
    image = Image.new("RGB", (width, 2 * MARGIN + round(sum(1.8 * size for size in sizes))), "white")
    place, top = ImageDraw.Draw(image), float(MARGIN)
    for sentence, size in zip(sentences, sizes, strict=True):
        place.text((MARGIN, top), sentence, font=_font(size), fill="black")
        top += 1.8 * size
    return DrawnPage("lines", image, "\n".join(sentences))


def receipt(seed: int = 0, size: int = 18) -> DrawnPage:
    """A shop's receipt: its name, the date, four goods with their prices, the total."""
    draw = random.Random(seed)
    prices = {
        item: price / 100 for item, price in zip(draw.sample(GOODS, 4), draw.sample(range(90, 990), 4), strict=True)
    }
    date = f"2026-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
    total = f"{sum(prices.values()):.2f}"
    cells = (("Date", date), *((item, f"{price:.2f}") for item, price in prices.items()), ("Total", total))
    shop = f"{draw.choice(PLACES)} Corner Shop"
    step = 1.9 * size
    image = Image.new("RGB", (20 * size, round(2 * MARGIN + step * (len(cells) + 1))), "white")
    place = ImageDraw.Draw(image)
    place.text((image.width / 2, MARGIN), shop, font=_font(size), fill="black", anchor="ma")
    for row, (label, value) in enumerate(cells, start=1):
        place.text((MARGIN, MARGIN + row * step), label, font=_font(size), fill="black")
        place.text((image.width - MARGIN, MARGIN + row * step), value, font=_font(size), fill="black", anchor="ra")
    item, dearest, cheapest = (
        draw.choice([*prices]),
        max(prices, key=prices.__getitem__),
        min(prices, key=prices.__getitem__),
    )
    questions = (
        *_asked(f"What is the price of {item}?", f"How much was paid for the {item.lower()}?", f"{prices[item]:.2f}"),
        *_asked("What is the total?", "How much did everything cost together?", total),
        *_asked("What is the date?", "When was this bought?", date),
        *_asked("Which item has the highest price?", "What was the dearest thing bought?", dearest, "compare"),
        *_asked("Which item has the lowest price?", "What was the cheapest thing bought?", cheapest, "compare"),
    )
    return DrawnPage("receipt", image, "\n".join((shop, *map(" ".join, cells))), cells, questions)


def bar_chart(seed: int = 0, *, labelled: bool = True) -> DrawnPage:
    """Visitors on five days. Only a labelled chart prints its values; in a bare one the heights alone tell them."""
    draw = random.Random(seed)
    visitors = dict(zip(DAYS, draw.sample(range(12, 98), len(DAYS)), strict=True))
    with _drawing(5.2, 3.4) as figure:
        axes = figure.add_subplot()
        bars = axes.bar(list(visitors), list(visitors.values()), color="#56B4E9")
        axes.set_ylim(0, 110)
        axes.set_title("Visitors per day")
        if labelled:
            axes.bar_label(bars)
        image = _image(figure)
    day, most, least = (
        draw.choice(DAYS),
        max(visitors, key=visitors.__getitem__),
        min(visitors, key=visitors.__getitem__),
    )
    questions = (
        *_asked(f"What is the number of visitors on {day}?", f"How many people came on {day}?", str(visitors[day])),
        *_asked("Which day has the highest number?", "When was it most crowded?", most, "compare"),
        *_asked("Which day has the lowest number?", "When was it most quiet?", least, "compare"),
    )
    cells = tuple((day, str(number)) for day, number in visitors.items())
    kind: Kind = "labelled chart" if labelled else "bare chart"
    return DrawnPage(kind, image, "", cells, questions)


def product_table(seed: int = 0) -> DrawnPage:
    """Five products with stock, price and pieces sold, under a header."""
    draw = random.Random(seed)
    header = ("Product", "Stock", "Price", "Sales")
    columns = [draw.sample(range(10, 99), 5), draw.sample(range(15, 290), 5), draw.sample(range(100, 999), 5)]
    rows = [(name, *map(str, numbers)) for name, *numbers in zip(draw.sample(PRODUCTS, 5), *columns, strict=True)]
    with _drawing(5.2, 2.4) as figure:
        axes = figure.add_subplot()
        axes.axis("off")
        drawn = axes.table(cellText=rows, colLabels=header, loc="center", cellLoc="center")
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(10)
        drawn.scale(1, 1.6)
        image = _image(figure)
    column, row = draw.randrange(1, len(header)), draw.choice(rows)
    top = max(rows, key=lambda row: int(row[2]))[0]
    most = max(rows, key=lambda row: int(row[3]))[0]
    questions = (
        *_asked(
            f"What is the {header[column].lower()} of the {row[0]}?",
            IN_OTHER_WORDS[header[column]].format(row[0].lower()),
            row[column],
        ),
        *_asked("Which product has the highest price?", "Which thing is the most expensive?", top, "compare"),
        *_asked("Which product has the highest sales?", "Which thing do people like to buy most?", most, "compare"),
    )
    cells = (header, *rows)
    return DrawnPage("table", image, "\n".join(map(" ".join, cells)), cells, questions)


#: A document of each kind that is asked about, from a seed.
MAKERS: dict[Kind, Callable[[int], DrawnPage]] = {
    "receipt": receipt,
    "table": product_table,
    "labelled chart": bar_chart,
    "bare chart": lambda seed: bar_chart(seed, labelled=False),
}


def collection(each: int, first_seed: int = 0) -> list[DrawnPage]:
    """So many documents of each kind that is asked about."""
    return [make(seed) for make in MAKERS.values() for seed in range(first_seed, first_seed + each)]


def _sentence(draw: random.Random) -> str:
    place, day, month = draw.choice(PLACES), draw.randint(1, 28), draw.choice(INVOICE_MONTHS)
    if draw.random() < 0.5:
        return f"Order {draw.randint(1000, 9999)} left {place} on {day} {month}."
    return f"Please pay {draw.randint(1000, 9999) / 100:.2f} to {place} by {day} {month}."


def _asked(plain: str, reworded: str, answer: str, form: Literal["lookup", "compare"] = "lookup") -> list[PageQuestion]:
    return [PageQuestion(plain, answer, form, "plain"), PageQuestion(reworded, answer, form, "reworded")]


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


@contextmanager
def _drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure outside pyplot, in matplotlib's own style whatever theme is set: the picture must not depend on it."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context("default"):
        yield Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _image(figure: Figure) -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
