"""Questions about documents, answered on three roads and scored alike.

    rules       OCR → cells → patterns of words that we wrote for these documents
    pipeline    OCR → cells → a language model that only reads text
    end to end  the picture itself → a model that sees

The first two know nothing but what the OCR engine hands on. A model that sees has the bars and the rules too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from helpers.chat import Chat
from helpers.vision.documents import Cells, DrawnPage, PageQuestion
from helpers.vision.ocr import Line, Page, read_text

if TYPE_CHECKING:
    import pandas as pd

#: A reader: what it is told of the picture (its OCR page), the document and the question in; its answer out.
Road = Callable[[Page, DrawnPage, PageQuestion], str]
NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
#: Rows of a receipt that are no goods.
NO_GOODS = ("date", "total")
#: A document and four questions answered, then the one that is asked about: a small model follows what it is shown.
EXAMPLE = """Text of a price list:
Pen: Price 12, Left 5
Book: Price 88, Left 31
Bag: Price 45, Left 74

Question: What does the book cost?
Answer: 88

Question: Which thing is the cheapest?
Answer: Pen

Question: How many of the bag are left?
Answer: 74

Question: Which thing is the most expensive?
Answer: Book

"""
PAGE_PROMPT = "Text of a {name}:\n{text}\n\nQuestion: {question}\nAnswer:"
BRIEFLY = "Answer with one word or number."


def cells(page: Page, document: DrawnPage) -> Cells:
    """The cells of a page, rebuilt from where its lines stand; "" where a place in the grid has no text."""
    if document.name == "bar chart":
        return _chart_cells(page)
    rows = [row for row in page.rows if len(row) > 1]
    if not rows:
        return ()
    columns = [line.centre[0] for line in max(rows, key=len)]
    return tuple(_in_columns(row, columns) for row in rows)


def answer_by_rules(page: Page, document: DrawnPage, question: PageQuestion) -> str:
    """The cell that simple patterns point to, or "": a row and a column named in the question, or an extreme value."""
    grid, asked = cells(page, document), _words(question.text)
    header = _header(grid)
    column = next((n for n, name in enumerate(header) if n and name.lower() in asked), len(header) - 1)
    rows = [row for row in grid if row != header and any(row[1:])]
    extreme = next((pick for word, pick in (("highest", max), ("lowest", min)) if word in asked), None)
    if extreme:
        priced = {row[0]: _value(row[column]) for row in rows if row[0].lower() not in NO_GOODS}
        known = {label: value for label, value in priced.items() if value is not None}
        return extreme(known, key=lambda label: known[label]) if known else ""
    return next((row[column] for row in rows if row[0].lower() in asked), "")


def by_model(chat: Chat, *, conversation: bool = False) -> Road:
    """The road through a language model that is given the page as text.

    It continues an example, which suits the smallest models best; in a `conversation` it is asked without one, as
    larger models and those of providers are.
    """

    def answer(page: Page, document: DrawnPage, question: PageQuestion) -> str:
        text = _as_text(cells(page, document)) or page.text
        prompt = PAGE_PROMPT.format(name=document.name, text=text, question=question.text)
        asked = chat.another()
        if not conversation:
            return asked.complete(EXAMPLE + prompt, max_new_tokens=12, stop="\n").text.strip()
        return asked.say(f"{prompt} {BRIEFLY}", max_new_tokens=24).text.strip()

    return answer


def end_to_end(chat: Chat) -> Road:
    """The road of a model that sees: the picture and the question go to `chat`, and no OCR result does."""

    def answer(_: Page, document: DrawnPage, question: PageQuestion) -> str:
        asked = f"{question.text} {BRIEFLY}"
        return chat.another().say(asked, images=[document.image], max_new_tokens=24).text.strip()

    return answer


def ask_page(chat: Chat, document: DrawnPage, most: int | None = None) -> pd.DataFrame:
    """The questions on the document put to a chat that sees, as `scored` gives them; nothing is read by OCR.

    `most` asks only so many, the first ones.
    """
    return scored({"end to end": end_to_end(chat)}, [document], most, pages=[Page(())])


def scored(
    roads: dict[str, Road],
    documents: Iterable[DrawnPage],
    most: int | None = None,
    pages: Iterable[Page] | None = None,
) -> pd.DataFrame:
    """One row for each road and question: the `reply`, and whether it is `right`. Each page is read once.

    `most` asks only so many questions about each page, the first ones. `pages` are what OCR has read of the documents,
    where that was done before.
    """
    import pandas as pd

    rows, known = [], None if pages is None else iter(pages)
    for document in documents:
        page = read_text(document.image) if known is None else next(known)
        for name, answer in roads.items():
            for question in document.questions[:most]:
                reply = answer(page, document, question)
                row = {"road": name, "kind": document.kind, "form": question.form, "wording": question.wording}
                row |= {"question": question.text, "answer": question.answer, "reply": reply}
                rows.append(row | {"right": is_right(reply, question, document)})
    return pd.DataFrame(rows)


def is_right(reply: str, question: PageQuestion, document: DrawnPage) -> bool:
    """Whether a reply gives the answer and nothing that contradicts it.

    The only number in it must be the answer or, where the answer is a name, it must stand there as a word and no
    other label of the document may. Capitals and the words around do not matter.
    """
    if NUMBER.fullmatch(question.answer):
        return {number for number in NUMBER.findall(reply)} == {question.answer}
    labels = {row[0].lower() for row in document.cells}
    return labels & _words(reply) == {question.answer.lower()}


def _in_columns(row: Sequence[Line], columns: Sequence[float]) -> tuple[str, ...]:
    """The texts of a row, each in the column whose middle is nearest; several in one column are joined."""
    filled: list[list[str]] = [[] for _ in columns]
    for line in row:
        nearest = min(range(len(columns)), key=lambda column: abs(columns[column] - line.centre[0]))
        filled[nearest].append(line.text)
    return tuple(" ".join(texts) for texts in filled)


def _chart_cells(page: Page) -> Cells:
    """Each name below the chart with the number that stands above it, "" where none does."""
    names = next((row for row in reversed(page.rows) if sum(_value(line.text) is None for line in row) > 1), ())
    labels = [line for line in names if _value(line.text) is None]
    if not labels:
        return ()
    reach = (labels[-1].centre[0] - labels[0].centre[0]) / (len(labels) - 1) / 2
    numbers = [line for line in page.lines if line not in names and _value(line.text) is not None]

    def above(label: Line) -> str:
        return next((line.text for line in numbers if abs(line.centre[0] - label.centre[0]) < reach), "")

    return tuple((label.text, above(label)) for label in labels)


def _header(grid: Cells) -> tuple[str, ...]:
    """The first row where it names columns, which no number can; else a row of blanks."""
    first = grid[0] if grid else ("", "")
    return first if not any(NUMBER.search(text) for text in first) else ("",) * len(first)


def _as_text(grid: Cells) -> str:
    """The grid in words: a row on a line, each value behind the name of its column where there is a header."""
    header = _header(grid)
    rows = [row for row in grid if row != header]
    if not any(any(row[1:]) for row in rows):
        return ""
    return "\n".join(
        f"{row[0]}: " + ", ".join(f"{name} {text}".strip() for name, text in zip(header[1:], row[1:], strict=True))
        for row in rows
    )


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
