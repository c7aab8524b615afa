"""Fifty pairs of a shorter and a longer answer, what preferring the shorter ones changes, and what it costs.

    pairs = preference_pairs(*finetuning.base())
    pairs[0]        {"prompt": …, "chosen": "A kite is a toy …", "rejected": "A kite is a toy … It has been …"}

Both answers are the model's own: `rejected` is what it writes, up to a limit, and `chosen` the first sentence of that.
So nothing new is to be learnt but where to stop, and code can count whether it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from helpers.data import stored
from helpers.errors import InvalidInput
from helpers.making.batched import batched_texts
from helpers.reasoning.losses import token_logprobs

#: What is asked about: as "What is …?" in the pairs, otherwise and of other things where it is measured.
PRACTISED_THINGS = (
    "a kite|a lantern|a bicycle|a volcano|a thermometer|a harbour|an orchestra|a recipe|a glacier|a library|"
    "a compass|a beehive|a canal|a sundial|a magnet|an island|a waterfall|a greenhouse|a telescope|a vaccine|"
    "a mortgage|a poem|a tide|an earthquake|a symphony|a battery|a fossil|a parachute|a museum|a fable|a satellite|"
    "a windmill|a ferry|an atlas|a microscope|a rainbow|a desert|a tunnel|a barometer|a dictionary|an engine|a comet|"
    "a vineyard|a submarine|a drought|a census|an encyclopedia|a lighthouse|a piano|a passport|a budget|a pyramid|"
    "a calendar|a novel|a bakery|a bridge|a cathedral|a marathon|an antique|a hurricane|a lever|a mosaic|a quarry"
).split("|")
HELD_THINGS = (
    "clocks|elephants|glass|bread|tea|chess|paper|rivers|trains|honey|salt|penguins|coins|maps|wool|clouds|bamboo|"
    "cheese|mirrors|owls"
).split("|")
PAIRS = 50
#: An answer is cut off after so many tokens, in the pairs and where it is measured.
LONGEST_TALK = 48
SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def talk_prompt(tokenizer: Any, question: str) -> str:
    """A question in the model's own chat template, up to where its answer begins, without its usual system message."""
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": question}]
    prompt: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return prompt


def talk_questions(*, held: bool = False) -> list[str]:
    """The questions of the pairs, or the held-out ones, which are worded otherwise."""
    return [f"Tell me about {thing}." for thing in HELD_THINGS] if held else [f"What is {t}?" for t in PRACTISED_THINGS]


def sentences(text: str) -> list[str]:
    """The whole sentences of a text, as far as points tell them; what was cut off at its end is left out.

    >>> sentences("A kite flies. It needs 2.5 m/s of wind! And a li")
    ['A kite flies.', 'It needs 2.5 m/s of wind!']
    """
    ends = [found.end() for found in SENTENCE_END.finditer(text)]
    return [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]


def preference_pairs(model: Any, tokenizer: Any, *, count: int = PAIRS) -> list[dict[str, str]]:
    """Pairs as TRL reads them: a prompt, the chosen and the rejected answer, of the model's own making."""
    questions = talk_questions()
    pairs = []
    for question, (text, _) in zip(questions, talks(model, tokenizer, questions), strict=True):
        first, long = sentences(text)[:1], text.strip()
        if first and "\n" not in first[0] and len(long) > len(first[0]):
            pairs.append({"prompt": talk_prompt(tokenizer, question), "chosen": first[0], "rejected": long})
    if len(pairs) < count:
        raise InvalidInput(f"Only {len(pairs)} answers go on after a first sentence; {count} pairs were asked for.")
    return pairs[:count]


def talks(model: Any, tokenizer: Any, questions: Sequence[str]) -> list[tuple[str, int]]:
    """What the model answers, greedily, and with how many tokens; `LONGEST_TALK` where it was cut off."""
    prompts = [talk_prompt(tokenizer, question) for question in questions]
    return batched_texts(model, tokenizer, prompts, longest=LONGEST_TALK)


def held_shorts(model: Any, tokenizer: Any) -> list[dict[str, str]]:
    """The first sentences of the model's answers to the held-out questions, each behind its prompt."""
    questions = talk_questions(held=True)
    shorts = [sentences(text)[:1] for text, _ in talks(model, tokenizer, questions)]
    return [
        {"prompt": talk_prompt(tokenizer, question), "chosen": short[0]}
        for question, short in zip(questions, shorts, strict=True)
        if short
    ]


def preferred_look(tokenizer: Any, shorts: Sequence[dict[str, str]]) -> Callable[[Any], dict[str, Any]]:
    """A function that measures a model: how long it talks, and how likely it finds texts that it was not trained on.

    `one_sentence` counts the answers to held-out questions that are a single sentence and end, `cut` those
    that do not end; `talk_tokens` are their lengths. `short_nats` is the mean surprise, in nats a token, about the
    held-out `shorts`, and `text_nats` about plain English, the paragraphs of data/instruct_summarisation.json.
    """
    short_texts = [(one["prompt"], one["chosen"] + tokenizer.eos_token) for one in shorts]
    plain = [(tokenizer.bos_token, one["text"]) for one in stored("instruct_summarisation")["items"]]

    def look(model: Any) -> dict[str, Any]:
        answers = talks(model, tokenizer, talk_questions(held=True))
        ended = [text for text, tokens in answers if tokens < LONGEST_TALK]
        return {
            "one_sentence": sum(len(sentences(text)) == 1 for text in ended),
            "cut": len(answers) - len(ended),
            "talk_tokens": [tokens for _, tokens in answers],
            "short_nats": round(surprise(model, tokenizer, short_texts), 4),
            "text_nats": round(surprise(model, tokenizer, plain), 4),
            "talk_texts": [text for text, _ in answers[:3]],
        }

    return look


def surprise(model: Any, tokenizer: Any, texts: Sequence[tuple[str, str]]) -> float:
    """The mean surprise about each token of the second text of a pair after the first, in nats."""
    import torch

    training, nats, count = model.training, 0.0, 0
    model.eval()
    for before, after in texts:
        start, rest = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (before, after))
        ids = torch.tensor([start + rest], device=model.device)
        with torch.inference_mode():
            nats -= float(token_logprobs(model, ids, torch.ones_like(ids), last=len(rest)).sum())
        count += len(rest)
    model.train(training)
    return nats / count
