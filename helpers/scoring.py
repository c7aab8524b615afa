"""How likely a model finds a text: log-likelihood, multiple choice, perplexity, paired preference.

A causal language model gives every next token a probability. By the chain rule the probability of a continuation is
the product of those of its tokens; we add logarithms instead, in nats. All functions here take a loaded transformers
model and its tokenizer and read that one number:

    log p(continuation | prompt) = Σ log p(token | prompt and the tokens before it)

A share of right answers is a sample, so it comes as a `Rate`, with its interval (see intervals.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from helpers.errors import ContextOverflow, InvalidInput
from helpers.intervals import Rate

if TYPE_CHECKING:
    import pandas as pd
    import torch

Normalise = Literal["tokens", "characters", "none"]
#: The form in which a question is asked; the model scores what may follow.
QUESTION = "Question: {question}\nAnswer:"
#: The same without the question: what is chosen then is chosen by the options alone (Poliak et al. 2018, *SEM).
NO_QUESTION = "Answer:"
#: Longest stretch that `perplexity` reads at once: logits of 1,024 tokens over 49,152 words take 0.2 GB in fp32.
WINDOW = 1024
#: Continuations that are scored at once.
BATCH = 32


class LogLikelihood(NamedTuple):
    """The logarithm of a continuation's probability, in nats, and over how many tokens it is a sum."""

    logprob: float
    tokens: int


def log_likelihood(model: Any, tokenizer: Any, prompt: str, continuations: Sequence[str]) -> list[LogLikelihood]:
    """What each continuation scores after the prompt, all of them in one batch.

    Text is tokenized whole, since a token may straddle the end of the prompt. What is scored begins where the tokens
    of prompt and continuations first differ, so every continuation is compared from the same point.
    An empty prompt is replaced by the tokenizer's start token.
    """
    if isinstance(continuations, str) or not continuations:
        raise InvalidInput("There is nothing to score.", "Give a list of at least one continuation.")
    if not all(continuations):
        raise InvalidInput("An empty continuation has no probability of its own.", "Leave it out.")
    encoded = [_encode(tokenizer, prompt + continuation) for continuation in continuations]
    shared = _shared(_encode(tokenizer, prompt), *encoded)
    if shared == 0:
        start = _start(tokenizer)
        encoded, shared = [[start, *ids] for ids in encoded], 1
    _check_length(model, max(len(ids) for ids in encoded))
    return _score(model, encoded[0][:shared], [ids[shared:] for ids in encoded])


def multiple_choice(
    model: Any,
    tokenizer: Any,
    items: Iterable[Mapping[str, Any]],
    normalise: Normalise = "characters",
    *,
    form: str = QUESTION,
) -> pd.DataFrame:
    """One row an item: the option that the model finds likeliest as an answer, and whether it is right.

    Options are compared by log-likelihood as it is ("none") or divided by their length, so that long options are not
    punished: by "tokens", or by "characters", which does not depend on the tokenizer. `margin` is the lead over the
    best other option, in those units. An item has `question`, `options` and `answer`, the index of the right one.
    A `form` that leaves the question out, `NO_QUESTION`, tells what the options alone give away.
    """
    import pandas as pd

    if normalise not in ("tokens", "characters", "none"):
        raise InvalidInput(f"There is no normalisation {normalise!r}.", "Choose tokens, characters or none.")
    rows = []
    for item in items:
        options = item["options"]
        if len(options) < 2 or not 0 <= item["answer"] < len(options):
            raise InvalidInput(f"The item {item['question']!r} needs two options or more and the index of one.")
        prompt = form.format(question=item["question"])
        scored = log_likelihood(model, tokenizer, prompt, [" " + option for option in options])
        lengths = {"none": [1] * len(options), "tokens": [s.tokens for s in scored], "characters": map(len, options)}
        scores = [s.logprob / length for s, length in zip(scored, lengths[normalise], strict=True)]
        chosen = scores.index(max(scores))
        margin = scores[chosen] - max(score for index, score in enumerate(scores) if index != chosen)
        kept = {key: value for key, value in item.items() if key not in ("options", "answer")}
        rows.append(kept | {"chosen": options[chosen], "correct": chosen == item["answer"], "margin": margin})
    if not rows:
        raise InvalidInput("There are no questions to ask.", "Give at least one item.")
    return pd.DataFrame(rows)


def accuracy(rows: pd.DataFrame) -> Rate:
    """The share of right answers among the rows of `multiple_choice`."""
    return Rate.of(rows["correct"])


def perplexity(model: Any, tokenizer: Any, text: str, *, window: int | None = None, stride: int | None = None) -> float:
    """The exponential of the mean surprise per token: among how many equally likely tokens the model hesitates.

        perplexity = exp(−(1 / (n − 1)) Σ log p(token i | tokens before i)),   i = 2 … n

    The first token has nothing before it and is left out. A text longer than `window` tokens is read in windows that
    move by `stride`; each token is scored once, with at least window − stride tokens before it where there are so
    many. Perplexities compare only between models that share a tokenizer (Jelinek et al. 1977, JASA 62:S63).
    """
    ids = _encode(tokenizer, text)
    if len(ids) < 2:
        raise InvalidInput("Perplexity needs a text of two tokens or more.", "Give a longer text.")
    window = min(window or WINDOW, _context(model))
    stride = stride or max(1, window // 2)
    if window < 2 or not 1 <= stride < window:
        raise InvalidInput(f"A window of {window} tokens cannot move by {stride}.", "Choose 1 ≤ stride < window.")
    total, done = 0.0, 1
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        if end > done:
            total += _score(model, ids[begin:done], [ids[done:end]])[0].logprob
            done = end
    return exp(-total / (len(ids) - 1))


def paired_preference(
    model: Any, tokenizer: Any, pairs: Iterable[Mapping[str, Any]], context: str = "\n"
) -> pd.DataFrame:
    """One row a pair: by how many nats the model prefers the sentence that is `more_stereotypical`.

    Both sentences follow the same `context`; `prefers_stereotype` is true where the `difference` is above zero. After
    Nangia et al. 2020 (CrowS-Pairs, EMNLP), who score masked models. A single difference also holds how frequent the
    words are; where two pairs form a `cross`, its mean is free of that. Limits of such pairs: Blodgett et al. 2021.
    """
    import pandas as pd

    rows = [dict(pair) for pair in pairs]
    if not rows:
        raise InvalidInput("There are no pairs to compare.", "Give at least one pair of sentences.")
    for row in rows:
        if row["more_stereotypical"] == row["less_stereotypical"]:
            raise InvalidInput(f"Both sentences of a pair are {row['more_stereotypical']!r}.", "Change a word in one.")
    sentences = [row[kind] for kind in ("more_stereotypical", "less_stereotypical") for row in rows]
    scored = log_likelihood(model, tokenizer, context, sentences)
    for row, more, less in zip(rows, scored, scored[len(rows) :], strict=False):
        row["difference"] = more.logprob - less.logprob
        row["prefers_stereotype"] = row["difference"] > 0
    return pd.DataFrame(rows)


def _score(model: Any, context: list[int], rests: list[list[int]]) -> list[LogLikelihood]:
    """The rests' log-likelihoods after a shared context, in batches of similar length to save padding."""
    order = sorted(range(len(rests)), key=lambda index: len(rests[index]))
    logprobs: dict[int, float] = {}
    for begin in range(0, len(order), BATCH):
        batch = order[begin : begin + BATCH]
        logprobs |= dict(zip(batch, _score_batch(model, context, [rests[index] for index in batch]), strict=True))
    return [LogLikelihood(logprobs[index], len(ids)) for index, ids in enumerate(rests)]


def _score_batch(model: Any, context: list[int], rests: list[list[int]]) -> list[float]:
    """The same for one batch: the context is computed once, and its KV cache repeated for every rest."""
    import torch

    longest = max(map(len, rests))
    padded = torch.tensor([ids + [0] * (longest - len(ids)) for ids in rests], device=model.device)
    padding = torch.arange(longest) >= torch.tensor([[len(ids)] for ids in rests])
    with torch.inference_mode():
        start = model(input_ids=torch.tensor([context], device=model.device), use_cache=True, logits_to_keep=1)
        logits = start.logits.float().expand(len(rests), -1, -1)
        if longest > 1:
            cache = start.past_key_values
            cache.batch_repeat_interleave(len(rests))
            # Padding stands on the right and attention looks only left, so no mask is needed.
            more = model(input_ids=padded[:, :-1], past_key_values=cache, use_cache=True)
            logits = torch.cat([logits, more.logits.float()], dim=1)
        chosen = _gather(logits, padded).masked_fill(padding.to(padded.device), 0)
    return [float(value) for value in chosen.sum(dim=1)]


def _gather(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (batch, length) that logits (batch, length, vocabulary) give to the targets."""
    chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _shared(*encoded: list[int]) -> int:
    """How many tokens all have in common at the start."""
    count = 0
    for column in zip(*encoded, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    # A continuation that the prompt swallowed would have no token left to score.
    return min(count, *(len(ids) - 1 for ids in encoded[1:]))


def _start(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InvalidInput("This tokenizer has no start token.", "Give a prompt that is not empty.")


def _context(model: Any) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def _check_length(model: Any, length: int) -> None:
    if length > _context(model):
        raise ContextOverflow(
            f"The text has {length:,} tokens, and the model's context holds {_context(model):,}.",
            "Score a shorter text.",
        )
