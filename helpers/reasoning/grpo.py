"""Small sums as GRPO's trainer is given them, and how well a model answers those that were held out.

    model, tokenizer, _ = warmed()
    settings = GRPOConfig(**laptop(), num_generations=6, per_device_train_batch_size=12, max_steps=10, …)
    trainer = GRPOTrainer(model, checked_reward, args=settings, train_dataset=asked_sums(tokenizer, problems),
                          processing_class=tokenizer, callbacks=[watch(held_look(tokenizer, held), every=5)])

TRL writes several answers to each question, asks the reward what they are worth, and moves the adapter along the
gradient of the loss that losses.py writes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from helpers.errors import InvalidInput
from helpers.reasoning.greedy import greedy_texts
from helpers.reasoning.problems import WordSum
from helpers.reasoning.rewards import worth
from helpers.reasoning.warmup import asked

#: An answer in the form needs up to 20 tokens.
LONGEST_ANSWER = 32
#: The held-out templates come by their kind of sum, three of each: so far apart are answers of which a text is kept.
APART = 3


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """One answer to a held-out problem, written greedily: its text, its tokens, and what it is worth."""

    question: str
    answer: int
    text: str
    tokens: int
    form: bool
    right: bool
    reward: float


def asked_sums(tokenizer: Any, problems: Sequence[WordSum]) -> Any:
    """The problems as TRL reads them: a `Dataset` of prompts, with the column `answer` for the reward."""
    from datasets import Dataset

    rows = [{"prompt": asked(tokenizer, one.question), "answer": one.answer} for one in problems]
    return Dataset.from_list(rows)


def held_answers(model: Any, tokenizer: Any, problems: Sequence[WordSum]) -> list[HeldAnswer]:
    """What the model answers, greedily, and what that is worth; it is left in the mode that it was in."""
    if not problems:
        raise InvalidInput("There are no problems to answer.", "Give at least one.")
    prompts = [asked(tokenizer, one.question) for one in problems]
    texts = greedy_texts(model, tokenizer, prompts, longest=LONGEST_ANSWER)
    return [_judged(one, text, tokens) for one, (text, tokens) in zip(problems, texts, strict=True)]


def _judged(problem: WordSum, text: str, tokens: int) -> HeldAnswer:
    parts = worth(text, problem.answer)
    return HeldAnswer(problem.question, problem.answer, text, tokens, parts.form, parts.right, parts.reward)


def held_shares(answers: Sequence[HeldAnswer]) -> dict[str, Any]:
    """How many answers of `held_items` have the form and the right number, and their mean length and reward.

    `held_marks` has a letter for each problem: r for the right number in the form, f for the form alone, - for neither.
    """
    n = len(answers)
    return {
        "held_items": n,
        "held_form": sum(one.form for one in answers),
        "held_right": sum(one.right for one in answers),
        "held_tokens": round(sum(one.tokens for one in answers) / n, 2),
        "held_reward": round(sum(one.reward for one in answers) / n, 4),
        "held_marks": "".join("r" if one.right else "f" if one.form else "-" for one in answers),
    }


def held_look(tokenizer: Any, held: Sequence[WordSum]) -> Callable[[Any], dict[str, Any]]:
    """A function that has a model answer these problems: what `held_shares` counts, and the texts of three answers."""

    def look(model: Any) -> dict[str, Any]:
        answers = held_answers(model, tokenizer, held)
        return held_shares(answers) | {"held_texts": [one.text for one in answers[: 3 * APART : APART]]}

    return look
