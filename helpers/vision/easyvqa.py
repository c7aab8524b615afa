"""easy-VQA as questions: one coloured shape an image, asked about in words, and questions on several images made of it.

The data are Victor Zhou's (MIT licence) and come in the package `easy-vqa`: 4,000 images of 64 × 64 pixels with 38,575
questions to train on, 1,000 with 9,673 to test on, thirteen possible answers. No image is in both.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from helpers.errors import InvalidInput

Split = Literal["train", "test"]
#: The shape and the colour of each image, by its number.
Labels = Mapping[int, tuple[str, str]]
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
IMAGE_ORDINALS = ("first", "second", "third", "fourth")
#: What can be asked of several images; "which" has at most one right image, and "none" where there is none.
GROUP_KINDS = ("same", "which", "how many", "one of them")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one image or several, given by their numbers in the split, and the one right answer."""

    images: tuple[int, ...]
    text: str
    answer: str
    kind: str


@cache
def questions(split: Split) -> tuple[Question, ...]:
    """All official questions of a split, in their order."""
    texts, answers, images = _read(split, "questions")
    return tuple(Question((i,), t, a, _kind(a)) for t, a, i in zip(texts, answers, images, strict=True))


@cache
def labels(split: Split) -> Labels:
    """The shape and the colour of each image, as far as the split's own questions tell both."""
    shapes: dict[int, str] = {}
    colours: dict[int, str] = {}
    for question in questions(split):
        words = [question.answer, *question.text.rstrip("?").split()]
        # "what is the blue shape?" tells the colour too.
        if question.kind == "yes/no" and not is_there(question):
            continue
        for word in words:
            if word in SHAPES or word in COLOURS:
                (shapes if word in SHAPES else colours)[question.images[0]] = word
    return {image: (shapes[image], colours[image]) for image in sorted(shapes.keys() & colours.keys())}


def is_there(question: Question) -> bool:
    """Whether the image holds what a yes/no question names: yes to "is there …", or no to "is there not …"."""
    denied = bool({"no", "not"} & set(question.text.rstrip("?").split()))
    return (question.answer == "yes") != denied


@cache
def image(split: Split, number: int) -> Any:
    """An image of the split as an RGB PIL image of 64 × 64 pixels."""
    from PIL import Image

    paths = _read(split, "image_paths")
    if number not in paths:
        raise InvalidInput(f"There is no image {number} in easy-VQA's {split} split.", f"0 to {len(paths) - 1}.")
    with Image.open(paths[number]) as opened:
        return opened.convert("RGB")


def group_questions(
    split: Split, count: int, *, sizes: Sequence[int] = (2,), seed: int = 0, together: int = 1
) -> list[Question]:
    """Questions on several images of a split, drawn at random, the kinds in turn.

    "same": do all have one colour, one shape; "which": which one has the circle, or is red; "how many"; and "one of
    them": the shape or colour of one, named by its place. Half of the "same" questions have "yes" for an answer.
    So many questions `together` are asked about the same images; with four, that is one of each kind.
    """
    if min(sizes) < 2 or max(sizes) > len(IMAGE_ORDINALS):
        raise InvalidInput(f"A group has 2 to {len(IMAGE_ORDINALS)} images.")
    known, draw = labels(split), random.Random(f"{split} {seed}")
    made: list[Question] = []
    while len(made) < count:
        kind = GROUP_KINDS[len(made) % len(GROUP_KINDS)]
        if len(made) % together == 0:
            images = _images(known, draw, draw.choice(sizes), alike=kind == "same")
        question = _ask(kind, images, known, draw)
        if question is not None:
            made.append(question)
    return made


def about(known: Labels, draw: random.Random, *, size: int, count: int) -> list[Question]:
    """Several questions on the same `size` images, drawn from those whose labels are known."""
    images = _images(known, draw, size, alike=draw.random() < 0.4)
    made: list[Question] = []
    while len(made) < count:
        question = _ask(draw.choice(GROUP_KINDS), images, known, draw)
        if question is not None:
            made.append(question)
    return made


def _images(known: Labels, draw: random.Random, size: int, *, alike: bool) -> tuple[int, ...]:
    """Images at random; with `alike`, half of the time all share their shape or their colour."""
    pool = list(known)
    if alike and draw.random() < 0.5:
        which = draw.randrange(2)
        wanted = known[draw.choice(pool)][which]
        pool = [i for i in pool if known[i][which] == wanted]
    return tuple(draw.sample(pool, size))


def _ask(kind: str, images: tuple[int, ...], known: Labels, draw: random.Random) -> Question | None:
    which = draw.randrange(2)
    word = ("shape", "color")[which]
    values = [known[i][which] for i in images]
    if kind == "same":
        return Question(images, f"do all images have the same {word}?", "yes" if len(set(values)) == 1 else "no", kind)
    if kind == "one of them":
        place = draw.randrange(len(images))
        return Question(images, f"what is the {word} in the {IMAGE_ORDINALS[place]} image?", values[place], kind)
    # Mostly of something that is there: a word at random would nearly always be absent.
    wanted = draw.choice(values) if draw.random() < 0.8 else draw.choice((SHAPES, COLOURS)[which])
    thing = f"the {wanted}" if which == 0 else f"a {wanted} shape"
    if kind == "how many":
        plural = f"are {wanted}s" if which == 0 else f"are {wanted}"
        return Question(images, f"how many of the shapes {plural}?", str(values.count(wanted)), kind)
    if values.count(wanted) > 1:
        return None
    answer = IMAGE_ORDINALS[values.index(wanted)] if wanted in values else "none"
    return Question(images, f"which image has {thing}?", answer, kind)


def _kind(answer: str) -> str:
    return "shape" if answer in SHAPES else "colour" if answer in COLOURS else "yes/no"


@cache
def _read(split: Split, what: str) -> Any:
    if split not in ("train", "test"):
        raise InvalidInput(f"easy-VQA has no split {split!r}.", "Choose 'train' or 'test'.")
    try:
        import easy_vqa
    except ImportError as error:
        raise InvalidInput("The package easy-vqa is not installed.", "pip install easy-vqa==1.0") from error
    return getattr(easy_vqa, f"get_{split}_{what}")()
