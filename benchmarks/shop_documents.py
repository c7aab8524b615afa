"""The shop's two documents that are no text: a price list as PDF, and a notice as a scanned page.

    python -m benchmarks.shop_documents

The PDF is written by matplotlib, which every learner has; its tables are text and lines, as a word processor writes
them. The notice is drawn, turned by less than a degree, and made grainy, as a scanner in an office would.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from helpers.data import FOLDER
from helpers.vision import documents

SHOP = FOLDER / "shop"
LAMPS = [
    ["Lamp", "Price", "Weight", "Height", "Light", "Colours"],
    ["Luna", "24.50 euros", "310 g", "14 cm", "120 lumens", "white, sand"],
    ["Stella", "39.00 euros", "540 g", "46 cm", "350 lumens", "white, black"],
    ["Aurora", "61.25 euros", "1,250 g", "38 cm", "800 lumens", "white"],
    ["Comet", "18.90 euros", "95 g", "11 cm", "200 lumens", "red, yellow, blue"],
    ["Vega", "47.00 euros", "880 g", "52 cm", "260 lumens", "green, black"],
]
PARTS = [
    ["Part", "Price", "Fits"],
    ["Battery 18650", "9.00 euros", "all lamps"],
    ["USB cable, 2 metres", "6.50 euros", "all lamps"],
    ["Remote control", "14.00 euros", "Aurora"],
    ["Desk clamp", "8.75 euros", "Stella"],
    ["Ground spike", "5.20 euros", "Vega"],
]
NOTICE = """Repair mornings

On the first Saturday of every month, from
10 to 13, we repair lamps in the workshop at
Kanalgatan 8 in Malmö.

Bring the lamp and its number. The work is
free; only parts are paid for. A repair takes
about 25 minutes, so please book a time.

Closed in July, and on 24 and 31 December."""


def price_list(path: Path) -> None:
    """Writes the PDF: the lamps on its first page, the spare parts on its second."""
    told = {"CreationDate": None, "Title": "Price list"}
    with matplotlib.rc_context({"pdf.fonttype": 42}), PdfPages(path, metadata=told) as book:
        for title, rows in {"Price list for lamps": LAMPS, "Price list for spare parts": PARTS}.items():
            page = Figure(figsize=(8.27, 5))
            page.text(0.08, 0.9, title, fontsize=16)
            page.text(0.08, 0.84, "Prices with tax, without shipping. Valid until the end of 2026.", fontsize=10)
            axes = page.add_axes((0.08, 0.3, 0.84, 0.48))
            axes.axis("off")
            table = axes.table(cellText=rows, cellLoc="left", bbox=(0, 0, 1, 1))
            table.auto_set_font_size(False)
            table.set_fontsize(10)
            book.savefig(page)


def notice(path: Path) -> None:
    """Writes the scanned page."""
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    page = Image.new("RGB", (760, 520), "white")
    draw, top = ImageDraw.Draw(page), 40
    for number, line in enumerate(NOTICE.splitlines()):
        draw.text((60, top), line, font=ImageFont.truetype(str(font), 34 if number == 0 else 24), fill="#222222")
        top += 50 if number == 0 else 40 if line else 22
    scanned = documents.noisy(documents.rotated(page, 0.7), 4).convert("L").quantize(8)
    scanned.save(path, optimize=True)


def main() -> None:
    price_list(SHOP / "prices.pdf")
    notice(SHOP / "notice.png")


if __name__ == "__main__":
    main()
