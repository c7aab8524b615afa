"""What experts are good for: a phone book that must be known by heart, and sums that must be worked out.

    a name of two syllables, "kar ris"  →  a number of two pairs, "20 71"           nothing in the name tells it
    2 7 + 5 8                           →  5 8 0, the lowest digit first            a rule tells it

Nothing but the rows of a phone book says which number belongs to a name, so how many are recalled is a measure of
memory, and names that were held out are the control: nobody can know theirs. Of sums the held-out ones are the
question: whoever has learnt the rule gets them right. Both after Jelassi et al. 2024, "Mixture of Parrots"
(arXiv 2410.19034), who compare mixtures with dense models of as many active and of as many total parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.experts import mixture
from helpers.experts.mixture import Size
from helpers.making.training import Batch, BatchAt

if TYPE_CHECKING:
    import torch

#: 100 syllables, a token each: a name has two of them, so there are 10,000 names.
SYLLABLES = tuple(first + vowel + last for first in "bdfghklmrt" for vowel in "aeiou" for last in "ns")
#: Tokens 0 to 9 are also the digits of the sums; a number of the book has two tokens, 00 to 99 each.
HUNDRED, LONG = 100, 2
RIVAL = Size(hidden=32, layers=2, heads=2, ffn=16, experts=8, vocabulary=HUNDRED + len(SYLLABLES))
#: The added weight of the balancing loss, as in Fedus et al. 2022.
EVEN = 0.01
SMALL, LARGE, EIGHT, SIXTEEN = "dense, same active", "dense, same total as 8", "8 experts", "16 experts"
RIVALS = (SMALL, EIGHT, SIXTEEN, LARGE)


@dataclass(frozen=True, slots=True)
class Drill:
    """Rows of tokens to learn and rows held out: the first `asked` tokens of a row are given, the rest is wanted."""

    practised: torch.Tensor
    held: torch.Tensor
    asked: int


def phone_book(pairs: int, *, held: int = 1000, seed: int = 0) -> Drill:
    """A book of so many names with random numbers, and `held` further names with numbers that nobody is shown."""
    import torch

    syllables = len(SYLLABLES)
    if not 0 < pairs <= syllables**2 - held:
        raise InvalidInput(
            f"There are {syllables**2:,} names, so {pairs:,} and {held:,} more are no book.", "Take fewer."
        )
    dice = torch.Generator().manual_seed(seed)
    names = torch.randperm(syllables**2, generator=dice)[: pairs + held]
    numbers = torch.randint(HUNDRED, (pairs + held, LONG), generator=dice)
    rows = torch.cat([HUNDRED + torch.stack([names // syllables, names % syllables], 1), numbers], 1)
    return Drill(rows[:pairs], rows[pairs:], asked=2)


def sums(practised: int = 9000, *, held: int = 1000, seed: int = 0) -> Drill:
    """So many of the 10,000 sums of two numbers below 100, and `held` others. Digits are tokens of their own."""
    import torch

    if not 0 < practised <= 10_000 - held:
        raise InvalidInput(f"There are 10,000 sums, so {practised:,} and {held:,} more are too many.", "Take fewer.")
    chosen = torch.randperm(10_000, generator=torch.Generator().manual_seed(seed))[: practised + held]
    one, other = chosen // 100, chosen % 100
    total = one + other
    digits = [one // 10, one % 10, other // 10, other % 10, total % 10, total // 10 % 10, total // 100]
    rows = torch.stack(digits, 1)
    return Drill(rows[:practised], rows[practised:], asked=4)


def row_text(row: Any, asked: int) -> str:
    """A row as a person writes it.

    >>> row_text([100, 199, 20, 4], asked=2)
    'ban tus → 20 04'
    """
    values = [int(value) for value in row]
    words = [SYLLABLES[value - HUNDRED] if value >= HUNDRED else f"{value:02}" if asked == 2 else str(value)
             for value in values]  # fmt: skip
    return f"{' '.join(words[:asked])} → {' '.join(words[asked:])}"


def rivals(size: Size = RIVAL, *, seed: int = 0) -> dict[str, Any]:
    """Four models with random weights: mixtures of 8 and 16 experts, and dense ones as large as a part of them.

    The small dense one has as many parameters as a token uses in either mixture, the large one as many as the mixture
    of 8 has in all. A `PhimoeForCausalLM` with one expert gives no numbers at all, so the dense ones are of Phi-3.5's
    class, which has the same layers without a router.
    """
    return {
        SMALL: mixture.dense(size, size.top * size.ffn, seed=seed),
        EIGHT: mixture.tiny_moe(replace(size, experts=8), seed=seed),
        SIXTEEN: mixture.tiny_moe(replace(size, experts=16), seed=seed),
        LARGE: mixture.dense(size, 8 * size.ffn, seed=seed),
    }


def drill_batches(drill: Drill, *, rows: int = 128, seed: int = 0) -> BatchAt:
    """A function from the step to its batch: the practised rows from first to last in a new order at each pass."""
    import torch

    whole = len(drill.practised)
    each = -(-whole // rows)  # batches of a pass; the last is a little shorter

    def batch_at(step: int) -> Batch:
        one_pass, place = divmod(step, each)
        order = torch.randperm(whole, generator=torch.Generator().manual_seed(1_000_003 * seed + one_pass))
        torch.manual_seed(1_000_003 * seed + step)  # a mixture draws experts at random in training
        return {"input_ids": drill.practised[order[place * rows : (place + 1) * rows]]}

    return batch_at


def steps_of(drill: Drill, passes: int, rows: int = 128) -> int:
    """The steps in which every practised row is read so many times."""
    return passes * -(-len(drill.practised) // rows)


def recall_loss(asked: int) -> Any:
    """A loss for `training.train`: the surprise about what follows the first `asked` tokens, in nats a token.

    Of a mixture the balancing loss is added, `EVEN` times.
    """
    import torch

    def drill_loss(model: Any, batch: Batch) -> torch.Tensor:
        ids = batch["input_ids"]
        mixed = hasattr(model.config, "num_local_experts")
        out = model(input_ids=ids[:, :-1], use_cache=False, **({"output_router_logits": True} if mixed else {}))
        loss = torch.nn.functional.cross_entropy(out.logits[:, asked - 1 :].flatten(0, 1), ids[:, asked:].flatten())
        return loss + EVEN * out.aux_loss if mixed else loss

    return drill_loss


def recall(model: Any, rows: torch.Tensor, asked: int) -> dict[str, float]:
    """The share of the rows whose answer is right as a `whole`, and of the single tokens (`parts`), written greedily.

    A greedy answer is right as a whole exactly if each token is the likeliest after the right ones before it, so one
    reading of the rows tells.
    """
    import torch

    was = model.training
    model.eval()
    with torch.inference_mode():
        right = torch.cat(
            [
                model(input_ids=part[:, :-1], use_cache=False).logits[:, asked - 1 :].argmax(-1) == part[:, asked:]
                for part in rows.to(model.device).split(2048)
            ]
        )
    model.train(was)
    return {"whole": float(right.all(1).float().mean()), "parts": float(right.float().mean())}
