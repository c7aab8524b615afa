r"""A short supervised warm-up, so that a form that is to be rewarded has a chance of being written at all.

    question    "Mia has 3 pens and buys 4 more. How many pens has Mia now?"
    worked      "<think>3 + 4 = 7</think>\n7"

Reinforcement only makes more probable what a model already writes now and then. A form that it never writes earns
nothing, however good it would be; a few examples, written by code, change that (DeepSeek-AI 2025, DeepSeek-R1, section
2.3, call it cold-start data).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.making import finetuning, training
from helpers.making.training import Batch, BatchAt, LossRow
from helpers.reasoning.problems import WordSum, word_sums
from helpers.reasoning.rewards import CLOSE, OPEN

if TYPE_CHECKING:
    pass

#: What the model is shown; short, since a step of training reads it many times.
SUM_PROMPT = "Sum: {question}\n"
#: What it is told before the question where it has seen no example of the form.
FORM_ASKED = f"Write the sum in {OPEN}{CLOSE}, then the number on a new line."
RANK = 8
#: The layers that get an adapter, the upper half of 30: gradients run no further down, and a step is shorter.
UPPER_LAYERS = range(15, 30)
#: Examples, rows a step, steps and the highest learning rate of the warm-up.
EXAMPLES, ROWS, STEPS, PEAK = 24, 6, 12, 3e-3
#: The problems of the warm-up are drawn by this seed, those of the training by others.
WARM_SEED = 1808


def asked(tokenizer: Any, question: str, *, told: bool = False) -> str:
    """The whole prompt of a question, up to where its answer begins; `told` asks for the form, in a chat's template."""
    if not told:
        return SUM_PROMPT.format(question=question)
    messages = [{"role": "system", "content": FORM_ASKED}, {"role": "user", "content": question}]
    prompt: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return prompt


def worked(problem: WordSum) -> str:
    """The answer as it should look: the sum and what it comes to between tags, then the number."""
    return f"{OPEN}{problem.expression} = {problem.answer}{CLOSE}\n{problem.answer}"


def worked_batches(tokenizer: Any, problems: Sequence[WordSum], *, rows: int = ROWS) -> BatchAt:
    """A function from the step to its batch: worked problems in turn, padded on the left, answers as labels."""
    if not problems or rows < 1:
        raise InvalidInput("There are no problems to warm up on.", "Give one or more, and one or more a batch.")

    def batch_at(step: int) -> Batch:
        batch = [problems[n % len(problems)] for n in range(step * rows, (step + 1) * rows)]
        return finetuning.completed(tokenizer, [(asked(tokenizer, one.question), worked(one)) for one in batch])

    return batch_at


def upper_adapter(model: Any, *, seed: int = 0) -> Any:
    """The model, frozen, with a LoRA adapter beside each attention matrix of the upper half of its layers."""
    targets = [f"layers.{layer}.self_attn.{matrix}" for layer in UPPER_LAYERS for matrix in finetuning.TARGETS]
    return finetuning.with_adapter(model, rank=RANK, targets=targets, seed=seed)


def warmed(*, seed: int = 0, steps: int = STEPS) -> tuple[Any, Any, list[LossRow]]:
    """SmolLM2-135M with a LoRA adapter that has seen a few worked sums: (model, tokenizer, a row for each step).

    Without steps the adapter is new and the model as it was.
    """
    model, tokenizer = finetuning.base()
    adapted = upper_adapter(model, seed=seed)
    if steps < 1:
        return adapted, tokenizer, []
    batches = worked_batches(tokenizer, word_sums("train", count=EXAMPLES, seed=WARM_SEED + seed))
    rows = training.train(adapted, batches, steps=steps, peak=PEAK, loss=finetuning.answer_loss, label="warm-up")
    return adapted, tokenizer, rows
