"""Asking a vision-language model many questions at once, to train it and to score it.

Questions on one image share its tokens: the image is read once, and each question attends to the image and to itself,
not to the other questions, as if it had been asked alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.intervals import Rate
from helpers.models.miniature import FAKE, GLOBAL, IMAGE, IMAGE_TOKENS
from helpers.vision import easyvqa
from helpers.vision.easyvqa import Question, Split

if TYPE_CHECKING:
    import pandas as pd
    import torch


#: What the model is shown: the right image, another one of the same split, or none.
SHOWN = ("right", "shuffled", "none")
#: The longest answer has two tokens; a model that writes on is wrong anyway.
MOST_TOKENS = 6
_IMAGE = FAKE + GLOBAL + IMAGE * IMAGE_TOKENS + FAKE


def prompt_ids(tokenizer: Any, images: int) -> list[int]:
    """The beginning that all questions on so many images share."""
    return _ids(tokenizer, "<|im_start|>user\n" + _IMAGE * images)


def question_ids(tokenizer: Any, text: str) -> list[int]:
    """A question from its first word to where the answer begins."""
    return _ids(tokenizer, f"{text}<|im_end|>\n<|im_start|>assistant\n")


def answer_ids(tokenizer: Any, text: str) -> list[int]:
    """An answer and its end."""
    return _ids(tokenizer, f"{text}<|im_end|>")


def pixels(split: Split, numbers: Sequence[int]) -> torch.Tensor:
    """Images as the processor hands them to the model: n × 3 × 64 × 64, from -1 to 1."""
    import numpy as np
    import torch

    stacked = np.stack([np.asarray(easyvqa.image(split, n)) for n in numbers])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def image_tokens(model: Any, pictures: torch.Tensor) -> torch.Tensor:
    """The image tokens of each picture: n × 16 × 576."""
    eyes = model.model.vision_model
    seen: torch.Tensor = model.model.connector(eyes(pictures.to(eyes.device, eyes.dtype)).last_hidden_state)
    return seen


def embeddings(model: Any, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The embeddings of a batch of token ids, image tokens put where the ids leave room for them, in their order."""
    embedded = model.model.text_model.embed_tokens(ids)
    room = (ids == model.config.image_token_id).unsqueeze(-1)
    merged: torch.Tensor = embedded.masked_scatter(room, seen.reshape(-1, embedded.shape[-1]).to(embedded.dtype))
    return merged


def image_answers(
    model: Any,
    tokenizer: Any,
    split: Split,
    questions: Sequence[Question],
    *,
    shown: str = "right",
    images_at_once: int = 8,
) -> Iterator[tuple[Question, str]]:
    """Each question with the answer that the model writes, greedily; in the order of their numbers of images.

    The answers are free text: nothing limits them to the thirteen words of the data set.
    """
    if shown not in SHOWN:
        raise InvalidInput(f"A model cannot be shown {shown!r}.", f"Choose one of {', '.join(SHOWN)}.")
    by_images = sorted(questions, key=lambda q: (len(q.images), q.images))
    if shown == "none":  # the same words get the same answer, so each text is read once
        once = list({question.text: question for question in by_images}.values())
        answers = {question.text: text for question, text in _batch(model, tokenizer, split, [once], shown)}
        yield from ((question, answers[question.text]) for question in by_images)
        return
    for _, alike in groupby(by_images, key=lambda q: len(q.images)):
        sets = [list(asked) for _, asked in groupby(alike, key=lambda q: q.images)]
        for start in range(0, len(sets), images_at_once):
            yield from _batch(model, tokenizer, split, sets[start : start + images_at_once], shown)


def load_miniature(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of the miniature's folder, in fp32, ready to answer."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model.eval(), AutoProcessor.from_pretrained(folder).tokenizer


def habit(questions: Sequence[Question]) -> Iterator[tuple[Question, str]]:
    """Each question with what is answered most often, in training, to the same words: what can be known blind."""
    told: dict[str, Counter[str]] = {}
    for question in easyvqa.questions("train"):
        told.setdefault(question.text, Counter())[question.answer] += 1
    for question in questions:
        yield question, told[question.text].most_common(1)[0][0] if question.text in told else "yes"


def scores_by_kind(given: Iterable[tuple[Question, str]]) -> pd.DataFrame:
    """A row for each kind of question, and "all": the `share` of right answers, its interval, the `questions`."""
    import pandas as pd

    right: dict[str, list[bool]] = {}
    for question, text in given:
        for kind in (question.kind, "all"):
            right.setdefault(kind, []).append(text == question.answer)
    rows = []
    for kind, results in sorted(right.items(), key=lambda item: (item[0] == "all", item[0])):
        rate = Rate.of(results)
        low, high = rate.interval
        rows.append({"kind": kind, "share": rate.share, "low": low, "high": high, "questions": rate.trials})
    return pd.DataFrame(rows)


def _batch(
    model: Any, tokenizer: Any, split: Split, sets: list[list[Question]], shown: str
) -> Iterator[tuple[Question, str]]:
    """The answers to sets of questions, each set on the same images, all with the same number of them."""
    import torch
    from transformers import DynamicCache

    text_model, asked = model.model.text_model, [question for group in sets for question in group]
    images = 0 if shown == "none" else len(sets[0][0].images)
    start = torch.tensor([prompt_ids(tokenizer, images)] * len(sets), device=model.device)
    with torch.inference_mode():
        inputs = text_model.embed_tokens(start)
        if images:
            numbers = [number for group in sets for number in _shown(group[0], split, shown)]
            inputs = embeddings(model, start, image_tokens(model, pixels(split, numbers)))
        cache = DynamicCache(config=model.config.text_config)
        text_model(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
        rows = [n for n, group in enumerate(sets) for _ in group]
        cache.batch_select_indices(torch.tensor(rows, device=model.device))
        tails = [question_ids(tokenizer, question.text) for question in asked]
        written = _write(model, tokenizer.convert_tokens_to_ids("<|im_end|>"), cache, tails)
    for question, tokens in zip(asked, written, strict=True):
        yield question, tokenizer.decode(tokens).strip()


def _write(model: Any, end: int, cache: Any, tails: list[list[int]]) -> list[list[int]]:
    """What the model writes after each tail, greedily; the cache holds what stands before it."""
    import torch

    past, longest, count = cache.get_seq_length(), max(map(len, tails)), len(tails)
    here = {"device": model.device, "dtype": torch.long}
    ids = torch.tensor([tail + [end] * (longest - len(tail)) for tail in tails], **here)
    real = torch.tensor([[1] * len(tail) + [0] * (longest - len(tail)) for tail in tails], **here)
    mask = torch.cat([torch.ones(count, past, **here), real], dim=1)
    position = past + torch.arange(longest, **here).expand(count, -1)
    last = real.sum(1) - 1
    written: list[list[int]] = [[] for _ in tails]
    going = torch.ones(count, dtype=torch.bool, device=model.device)
    for _ in range(MOST_TOKENS):
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": position}
        hidden = model.model.text_model(**inputs, past_key_values=cache, use_cache=True).last_hidden_state
        chosen = model.lm_head(hidden[torch.arange(count, **here), last]).argmax(-1)
        going &= chosen != end
        for row in going.nonzero().flatten().tolist():
            written[row].append(int(chosen[row]))
        if not going.any():
            break
        ids, position = chosen[:, None], position.gather(1, last[:, None]) + 1
        mask = torch.cat([mask, torch.ones(count, 1, **here)], dim=1)
        last = torch.zeros_like(last)
    return written


def _shown(question: Question, split: Split, shown: str) -> tuple[int, ...]:
    """The images to show: the question's own, or as many others of the split, always the same ones."""
    if shown == "right":
        return question.images
    draw = random.Random(f"shuffled {question.images}")
    others = [n for n in easyvqa.labels(split) if n not in question.images]
    return tuple(draw.sample(others, len(question.images)))


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
