"""Small mixtures of experts, their dense twins, and three kinds of text to train both on.

A mixture is `PhimoeForCausalLM`, the class of Phi-3.5-MoE, with smaller numbers. It has two dense twins of Phi-3.5's
class: one as wide as the experts that a token uses, so with the same arithmetic a token, and one as wide as all
experts together, so with the same memory. What the comparison says holds for this size and this text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers import machine
from helpers.data import FOLDER
from helpers.errors import DamagedFile, InvalidInput
from helpers.making import corpus, training
from helpers.making.training import CONTEXT, Batch, BatchAt

if TYPE_CHECKING:
    import torch

#: Which documents of the corpus make up each kind of text.
TEXT_KINDS: Mapping[str, tuple[str, ...]] = {
    "Python": ("code",),
    "English": ("docstrings", "reference"),
    "arithmetic": ("arithmetic",),
}
SUMS = 60_000
#: What the stored mixture was judged on: a part of each kind's held-out tokens.
HELD_OUT = FOLDER / "moe_05" / "held.safetensors"
VOCABULARY = 2048
#: How much a batch's imbalance adds to its loss; Fedus et al. 2022 (Switch Transformers, section 2.2) took half of it.
BALANCE = 0.02
#: How near a router's logit must come to the highest to be drawn in training; see `tiny_moe`.
JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of a mixture: `experts` of width `ffn` in every layer, of which a token uses `top`.

    transformers' class always uses two experts; `top` says so in the counts.
    """

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    ffn: int = 192
    experts: int = 8
    vocabulary: int = VOCABULARY

    @property
    def top(self) -> int:
        """The experts that a token uses: SparseMixer, the router of Phi-3.5-MoE, is written for two."""
        return 2

    @property
    def pace(self) -> training.Pace:
        """The learning rate, as the course's dense models of this width have it."""
        return {"peak": training.PEAK, "layers": 38 / self.hidden}


def tiny_moe(size: Size, *, seed: int = 0) -> Any:
    """A `PhimoeForCausalLM` with random weights.

    In training a router draws among the experts whose logits come near the highest, within twice its jitter times
    that logit, and learns from such draws only (SparseMixer; Liu et al. 2024, GRIN, arXiv 2409.12136). Microsoft's
    config has a jitter of 0.01, for a router that has learnt. A router that starts from nothing learns more from a
    wider choice: 0.1 is from trials of ours, in which 0.01 learnt more slowly and 1 chose too much by chance.
    """
    from transformers import PhimoeConfig, PhimoeForCausalLM

    if size.experts < size.top:
        raise InvalidInput(f"A token uses two experts, so {size.experts} are too few.", "Ask for two or more.")
    config = PhimoeConfig(
        **_shape(size),
        intermediate_size=size.ffn,
        num_local_experts=size.experts,
        num_experts_per_tok=size.top,
        router_aux_loss_coef=BALANCE,
        router_jitter_noise=JITTER,
    )
    config._experts_implementation = "eager"  # one expert after the other: the fastest on a processor
    return training.begun(PhimoeForCausalLM, config, seed)


def dense(size: Size, width: int, *, seed: int | None = 0) -> Any:
    """A `Phi3ForCausalLM` like the mixture, with one feed-forward layer of this width in place of the experts.

    Without a seed it serves to measure speed alone: each matrix repeats one random row, which takes no time to draw.
    """
    from transformers import Phi3Config, Phi3ForCausalLM

    config = Phi3Config(**_shape(size), intermediate_size=width, original_max_position_embeddings=CONTEXT)
    return training.begun(Phi3ForCausalLM, config, seed) if seed is not None else _for_timing(Phi3ForCausalLM, config)


def contenders(size: Size, *, seed: int = 0) -> dict[str, Any]:
    """The mixture and its two dense twins, from one seed."""
    return {
        "mixture": tiny_moe(size, seed=seed),
        "dense, same active": dense(size, size.top * size.ffn, seed=seed),
        "dense, same total": dense(size, size.experts * size.ffn, seed=seed),
    }


def texts(*, sums: int = SUMS) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """(to train on, held out): the texts of each kind, cleaned, without copies, split by source as in notebook 02."""
    documents = corpus.clean(corpus.collect(sums=sums))
    copies = corpus.duplicates(documents)
    sides = corpus.split(d for n, d in enumerate(documents) if n not in copies)
    train, held = (
        {kind: [d.text for d in side if d.kind in kinds] for kind, kinds in TEXT_KINDS.items()} for side in sides
    )
    return train, held


def held_texts() -> dict[str, torch.Tensor]:
    """Tokens of each kind of text that the stored mixture has not read, 12,000 of each, as they came with it.

    The standard library of another Python would be split otherwise, and have texts on this side that it has read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {kind: ids.long() for kind, ids in load_file(HELD_OUT).items()}
    except (OSError, SafetensorError) as error:
        raise DamagedFile(f"data/moe_05/{HELD_OUT.name} cannot be read.", "Restore it with git.") from error


def encode_kinds(tokenizer: Any, parts: Mapping[str, Iterable[str]]) -> dict[str, torch.Tensor]:
    """Each kind of text as one row of token ids."""
    return {kind: training.encode(tokenizer, list(part)) for kind, part in parts.items()}


def balanced_batches(ids: Mapping[str, torch.Tensor], *, rows: int, length: int, seed: int = 0) -> BatchAt:
    """A function from the step to its batch, in which every kind of text has the same number of rows.

    It also sets torch's seed from (seed, step): a mixture draws experts at random in training, and a run that was
    stopped must draw the same.
    """
    import torch

    if rows % len(ids):
        raise InvalidInput(f"{rows} rows do not divide among {len(ids)} kinds.", f"Take a multiple of {len(ids)}.")
    parts = [training.batches(part, rows=rows // len(ids), length=length, seed=seed) for part in ids.values()]

    def batch_at(step: int) -> Batch:
        torch.manual_seed(1_000_003 * seed + step)
        return {"input_ids": torch.cat([part(step)["input_ids"] for part in parts])}

    return batch_at


def balanced_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The next-token loss plus the mixture's load-balancing loss times `router_aux_loss_coef`.

    transformers adds it only where router logits are asked for, and reckons it over all layers together: layers that
    are lopsided in different ways look balanced to it. Source: load_balancing_loss_func in its modeling_phimoe.py,
    after Fedus et al. 2022, equations 4 to 6.
    """
    loss: torch.Tensor = model(**batch, labels=batch["input_ids"], use_cache=False, output_router_logits=True).loss
    return loss


def held_out(model: Any, ids: Mapping[str, torch.Tensor], *, rows: int = 32, length: int = 128) -> dict[str, float]:
    """The held-out loss of each kind of text in nats a token, and their mean; no balancing loss in it."""
    losses = {kind: training.held_out_loss(model, part, rows=rows, length=length) for kind, part in ids.items()}
    return {**losses, "mean": sum(losses.values()) / len(losses)}


def ratios(runs: Iterable[Mapping[str, Any]], one: str, other: str, loss: str = "mean") -> list[float]:
    """For each seed that both have: the last held-out loss of `one` ÷ that of `other`. Below 1, `one` is better."""
    last = {(run["name"], run["seed"]): run["points"][-1][loss] for run in runs}
    return [value / last[other, seed] for (name, seed), value in last.items() if name == one and (other, seed) in last]


def seconds_per_token(model: Any, ids: torch.Tensor, *, warm: int = 4) -> list[float]:
    """The seconds of each decoding step over a row of tokens, one after the other; the first few only warm up."""
    import torch
    from transformers import DynamicCache

    cache, seconds = DynamicCache(config=model.config), []
    model.eval()
    with torch.inference_mode():
        for token in ids.to(model.device).reshape(-1, 1, 1):
            began = time.perf_counter()
            model(input_ids=token, past_key_values=cache)
            machine.finish(model.device)
            seconds.append(time.perf_counter() - began)
    return seconds[warm:]


def _shape(size: Size) -> dict[str, Any]:
    return training.small_shape(size.vocabulary, size.hidden, size.layers, size.heads)


def _for_timing(model_class: Any, config: Any) -> Any:
    """The model with numbers in its weights that took no time to draw: a hundred million random ones take seconds."""
    import torch
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = model_class(config)
    model.tie_weights()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape[-1]) / weight.shape[-1] ** 0.5)
    return model
