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
from typing import Any

from helpers.errors import InvalidInput
from helpers.making.batched import batched_texts
from helpers.reasoning.problems import WordSum
from helpers.reasoning.rewards import worth
from helpers.reasoning.warmup import asked

#: An answer in the form needs up to 20 tokens.
LONGEST_ANSWER = 24
#: The held-out templates come by their kind of sum, three of each: so far apart are answers of which a text is kept.
APART = 3
#: Temperatures at which a model is looked at. The trainer draws at 1, so that is what the training improves.
LOOKED_AT = {"greedy": 0.0, "drawn": 1.0}


def asked_sums(tokenizer: Any, problems: Sequence[WordSum], *, told: bool = False) -> Any:
    """The problems as TRL reads them: a `Dataset` of prompts, with the column `answer` for the reward."""
    from datasets import Dataset

    return Dataset.from_list(
        [{"prompt": asked(tokenizer, one.question, told=told), "answer": one.answer} for one in problems]
    )


def held_shares(problems: Sequence[WordSum], answers: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """How many answers have the form and the right number, their mean length and reward, and the texts of three.

    An answer is its text and its number of tokens. `marks` has a letter for each: r for the right number in the form, f
    for the form alone, - for neither.
    """
    n, parts = len(answers), [worth(text, one.answer) for one, (text, _) in zip(problems, answers, strict=True)]
    return {
        "items": n,
        "form": sum(one.form for one in parts),
        "right": sum(one.right for one in parts),
        "tokens": round(sum(tokens for _, tokens in answers) / n, 2),
        "reward": round(sum(one.reward for one in parts) / n, 4),
        "marks": "".join("r" if one.right else "f" if one.form else "-" for one in parts),
        "texts": [text for text, _ in answers[: 3 * APART : APART]],
    }


def held_look(
    tokenizer: Any, held: Sequence[WordSum], *, told: bool = False, how: Sequence[str] = tuple(LOOKED_AT)
) -> Callable[[Any], dict[str, Any]]:
    """A function that has a model answer these problems: what `held_shares` tells of it, for each of `how`."""
    if not held:
        raise InvalidInput("There are no problems to answer.", "Give at least one.")
    prompts = [asked(tokenizer, one.question, told=told) for one in held]

    def look(model: Any) -> dict[str, Any]:
        return {
            name: held_shares(
                held,
                batched_texts(model, tokenizer, prompts, longest=LONGEST_ANSWER, temperature=LOOKED_AT[name]),
            )
            for name in how
        }

    return look
