"""What the routers of a mixture of experts do: which tokens go to which experts, and what if one were gone.

A router is one small matrix in each layer: its product with a token's state gives a logit for each expert, and the
highest two decide. Statistics are taken by listening to the routers of a `PhimoeForCausalLM` while it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import torch

#: An expert with less than this part of an even share is as good as dead.
DEAD = 0.1
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Routes:
    """Where tokens went: `experts` and `weights` are layers × tokens × 2, the first choice first."""

    experts: torch.Tensor
    weights: torch.Tensor


def routers(model: Any) -> list[Any]:
    """The router of each layer, from the first to the last."""
    found = [layer.mlp.router for layer in model.model.layers if hasattr(layer.mlp, "router")]
    if not found:
        raise InvalidInput(
            f"{type(model).__name__} is no mixture of experts, so it has no router to look at.",
            "Open a PhimoeForCausalLM, such as tiny_moe(Size()).",
        )
    return found


def routes(model: Any, ids: torch.Tensor) -> Routes:
    """Where each token of `ids`, a row of tokens or several, is sent in each layer, outside training."""
    import torch

    heard: list[list[Any]] = [[] for _ in routers(model)]
    hooks = [
        router.register_forward_hook(lambda _, __, out, place=place: place.append((out[2].cpu(), out[1].cpu())))
        for router, place in zip(routers(model), heard, strict=True)
    ]
    training = model.training
    try:
        model.eval()
        with torch.inference_mode():
            for part in torch.atleast_2d(ids).to(model.device).split(8):
                model(input_ids=part, use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    experts, weights = (torch.stack([torch.cat([call[n] for call in layer]) for layer in heard]) for n in (0, 1))
    return Routes(experts, weights)


def shares(found: Routes, experts: int) -> torch.Tensor:
    """The share of a layer's work that each expert does, layers × experts: every layer sums to 1."""
    import torch

    one_hot = torch.nn.functional.one_hot(found.experts, experts)
    return one_hot.flatten(1, 2).float().mean(1)


def use(model: Any, parts: Mapping[str, torch.Tensor], *, rows: int = 16, length: int = 128) -> list[Row]:
    """One row a layer, kind of text and expert: its `share` of that layer's work on that kind.

    As much is read of each kind, in stretches spread evenly over its tokens.
    """
    import torch

    found = []
    for kind, ids in parts.items():
        if len(ids) <= length:
            raise InvalidInput(f"{len(ids)} tokens of {kind} are fewer than one stretch of {length}.")
        starts = torch.linspace(0, len(ids) - length - 1, rows).long()[:, None]
        part = shares(routes(model, ids[starts + torch.arange(length)]), routers(model)[0].num_experts)
        for layer, values in enumerate(part.tolist()):
            found += [{"layer": layer, "kind": kind, "expert": n, "share": share} for n, share in enumerate(values)]
    return found


def balance(table: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a layer, all kinds together: how evenly the experts work, and how well they tell the kinds apart.

    `busiest` is in even shares: 1 is perfect balance, and half the number of experts the worst, as a token takes no
    expert twice. `dead` counts experts with under a tenth of an even share. `effective` is how many equally busy
    experts would be as varied, exp(entropy).
    `tells_kind` is how often an expert's number gives away the kind of text, if one guesses its most frequent kind.
    """
    rows = list(table)
    found = []
    for layer in sorted({row["layer"] for row in rows}):
        by_expert: dict[int, list[float]] = {}
        for row in rows:
            if row["layer"] == layer:
                by_expert.setdefault(row["expert"], []).append(row["share"])
        kinds = len(by_expert[0])
        means = [sum(by_kind) / kinds for by_kind in by_expert.values()]
        found.append(
            {
                "layer": layer,
                "busiest": max(means) * len(means),
                "dead": sum(mean * len(means) < DEAD for mean in means),
                "effective": exp(-sum(mean * log(mean) for mean in means if mean > 0)),
                "tells_kind": sum(max(by_kind) for by_kind in by_expert.values()) / kinds,
            }
        )
    return found


@contextmanager
def without(model: Any, layer: int, expert: int) -> Iterator[Any]:
    """The model whose router of one layer cannot choose one expert, for as long as the `with` lasts."""
    found = routers(model)
    if not (0 <= layer < len(found) and 0 <= expert < found[0].num_experts):
        raise InvalidInput(
            f"There is no expert {expert} in layer {layer}.",
            f"Layers go from 0 to {len(found) - 1} and experts from 0 to {found[0].num_experts - 1}.",
        )

    def reroute(router: Any, _: Any, out: Any) -> Any:
        from transformers.models.phimoe.modeling_phimoe import sparsemixer

        logits = out[0].clone()
        logits[:, expert] = float("-inf")
        return logits, *sparsemixer(logits, router.router_jitter_noise, router.training, router.top_k)

    hook = found[layer].register_forward_hook(reroute)
    try:
        yield model
    finally:
        hook.remove()


def costs_of_experts(model: Any, loss: Any, experts: Iterable[tuple[int, int]] | None = None) -> list[Row]:
    """How much the loss of each kind of text rises when one expert is switched off, for each (layer, expert).

    `loss` gives the losses of a model by kind, as `mixture.held_out` does.
    """
    found = routers(model)
    pairs = experts or [(layer, n) for layer in range(len(found)) for n in range(found[0].num_experts)]
    before = loss(model)
    rows = []
    for layer, expert in pairs:
        with without(model, layer, expert):
            after = loss(model)
        rows += [
            {"layer": layer, "expert": expert, "kind": kind, "rise": after[kind] - before[kind]} for kind in before
        ]
    return rows
