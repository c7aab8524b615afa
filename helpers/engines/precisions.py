"""One ladder of precisions, each rounded once from the publisher's 32 bits, and what rounding a second time costs.

The course's language models come in files of 4 to 5 bits, so every other precision of them is rounded twice. The
encoder MiniLM comes in 32 bits. Its matrices are brought into llama.cpp's formats here, and what is compared is what
it is for: how far the vectors of texts turn, and how many customers' questions find the page that answers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from helpers.data import stored
from helpers.making.quantization import BITS, by_library
from helpers.models import embeddings

if TYPE_CHECKING:
    import torch

#: Formats one after the other: the last is what the model computes with.
ONCE = (("F16",), ("Q8_0",), ("Q5_0",), ("Q4_1",), ("Q4_0",))
TWICE = (("Q4_1", "Q8_0"), ("Q4_1", "Q4_0"))


def encoder_ladder(roads: Sequence[Sequence[str]] = (*ONCE, *TWICE)) -> list[dict[str, Any]]:
    """One row for 32 bits and one for each road of formats that the encoder's matrices take.

    `weight_error_percent` is the length of the change in percent of the length of the weights. `turned_degrees` is the
    angle by which a question's vector turns, in the mean over the questions. `right` counts the questions, of
    `questions`, whose nearest page is the right one. The embedding table stays in 32 bits.
    """
    import numpy as np

    entries, asked = stored("faq")["entries"], [one for one in stored("faq")["test"] if one["entry"]]
    pages, questions = [f"{one['question']} {one['answer']}" for one in entries], [one["question"] for one in asked]
    wanted = [[one["id"] for one in entries].index(one["entry"]) for one in asked]
    texts, rows = (*questions, *pages), []
    whole = _unrounded(texts)
    made: dict[tuple[str, ...], list[torch.Tensor]] = {tuple(road[:-1]): [] for road in roads if len(road) > 1}
    for road in ((), *roads):
        with _rounded(road, made) as error:
            vectors = embeddings.embed(texts) if road else whole
        found, kept = np.split(vectors, [len(questions)])
        nearest = (found @ kept.T).argmax(1)
        turned = np.degrees(np.arccos((found * whole[: len(questions)]).sum(1).clip(-1, 1))).mean()
        row = {"made": " → ".join(("32 bits", *road)), "times rounded": len(road)}
        row |= {"bits_per_weight": BITS[road[-1]] if road else 32.0, "weight_error_percent": error}
        rows.append(row | {"turned_degrees": float(turned), "right": int((nearest == wanted).sum())})
    return [row | {"questions": len(questions)} for row in rows]


@cache
def _unrounded(texts: tuple[str, ...]) -> Any:
    """The vectors by the encoder in 32 bits: the first row of every ladder."""
    return embeddings.embed(texts)


@contextmanager
def _rounded(road: Sequence[str], made: dict[tuple[str, ...], list[torch.Tensor]]) -> Iterator[float]:
    """The encoder with the matrices of its layers rounded along the road; gives the error of the weights in percent.

    `made` keeps the matrices of the roads that it names, from which longer ones go on.
    """
    import torch

    _, model = embeddings.encoder()
    matrices = [p for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2]
    originals = [p.detach().clone() for p in matrices]
    try:
        with torch.no_grad():
            before = made.get(tuple(road[:-1]))
            for number, parameter in enumerate(matrices):
                if before:
                    parameter.copy_(before[number])
                for form in road[-1:] if before else road:
                    parameter.copy_(by_library(parameter.detach(), form))
        if tuple(road) in made:
            made[tuple(road)] = [p.detach().clone() for p in matrices]
        lengths = [(float((p.detach() - was).norm()) ** 2, float(was.norm()) ** 2)
                   for p, was in zip(matrices, originals, strict=True)]  # fmt: skip
        yield 100 * (sum(moved for moved, _ in lengths) / sum(all_of for _, all_of in lengths)) ** 0.5
    finally:
        with torch.no_grad():
            for parameter, was in zip(matrices, originals, strict=True):
                parameter.copy_(was)
