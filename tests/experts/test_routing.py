"""Router statistics, on a model whose routing is known because its weights were set, and a layer written by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from helpers.errors import InvalidInput
from helpers.experts import mixture, routing
from helpers.experts.mixture import Size

SMALL = Size(hidden=8, layers=2, heads=2, ffn=16, experts=4, vocabulary=16)


@pytest.fixture
def known() -> Any:
    """A model whose token t goes to the experts t % 4 and, as second choice, (t + 1) % 4, in both layers.

    Attention and experts give nothing, so each layer sees the token's embedding: token t lights up place t % 4.
    """
    model = mixture.tiny_moe(SMALL).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.experts.down_proj.zero_()
            router = torch.zeros(4, 8)
            for expert in range(4):
                router[expert, expert], router[expert, (expert - 1) % 4] = 2.0, 1.0
            layer.mlp.router.weight.copy_(router)
        table = torch.zeros(16, 8)
        table[torch.arange(16), torch.arange(16) % 4] = 10.0
        model.model.embed_tokens.weight.copy_(table)
    return model


def test_each_token_is_found_at_its_experts(known: Any) -> None:
    found = routing.routes(known, torch.tensor([0, 1, 2, 3, 7]))
    assert found.experts.shape == (2, 5, 2)
    for layer in found.experts.tolist():
        assert layer == [[0, 1], [1, 2], [2, 3], [3, 0], [3, 0]]
    assert torch.equal(found.weights, torch.ones(2, 5, 2))  # no near-ties, so nothing to share


def test_shares_count_both_choices(known: Any) -> None:
    part = routing.shares(routing.routes(known, torch.tensor([0, 0, 0, 1])), 4)
    assert part[0].tolist() == [3 / 8, 4 / 8, 1 / 8, 0]
    assert part.sum(1).tolist() == [1, 1]


def test_use_and_balance_of_a_known_routing(known: Any) -> None:
    table = routing.use(known, {"zeros": torch.zeros(50).long(), "twos": torch.full((50,), 2)}, rows=2, length=8)
    assert len(table) == 2 * 2 * 4
    shares = {(row["kind"], row["expert"]): row["share"] for row in table if row["layer"] == 0}
    assert [shares["zeros", n] for n in range(4)] == [0.5, 0.5, 0, 0]
    assert [shares["twos", n] for n in range(4)] == [0, 0, 0.5, 0.5]
    for layer in routing.balance(table):
        assert (layer["busiest"], layer["dead"], layer["tells_kind"]) == (1.0, 0, 1.0)
        assert layer["effective"] == pytest.approx(4)


def test_idle_experts_are_dead(known: Any) -> None:
    one = routing.balance(routing.use(known, {"zeros": torch.zeros(50).long()}, rows=2, length=8))[0]
    assert (one["busiest"], one["dead"]) == (2.0, 2)
    assert one["effective"] == pytest.approx(2)


def test_a_switched_off_expert_gets_no_token_and_comes_back(known: Any) -> None:
    zeros = torch.zeros(6).long()
    with routing.without(known, 0, 0):
        off = routing.routes(known, zeros)
    assert 0 not in off.experts[0]
    assert 0 in off.experts[1]
    assert 0 in routing.routes(known, zeros).experts[0]


def test_switching_off_a_busy_expert_costs_something() -> None:
    model, ids = mixture.tiny_moe(SMALL).eval(), {"all": torch.arange(200) * 7 % 16}
    busy = routing.shares(routing.routes(model, ids["all"][:40]), 4)[0].argmax().item()
    rows = routing.costs_of_experts(model, lambda m: mixture.held_out(m, ids, rows=2, length=16), [(0, busy)])
    assert {row["kind"] for row in rows} == {"all", "mean"}
    assert rows[0]["rise"] != 0


def test_what_is_no_mixture_and_no_expert_ends_in_a_sentence(known: Any) -> None:
    with pytest.raises(InvalidInput, match="no mixture of experts"):
        routing.routers(mixture.dense(SMALL, 16))
    with pytest.raises(InvalidInput, match="no expert 9 in layer 0"), routing.without(known, 0, 9):
        pass
    with pytest.raises(InvalidInput, match="fewer than one stretch"):
        routing.use(known, {"short": torch.zeros(3).long()})


def test_listening_leaves_nothing_behind(known: Any) -> None:
    known.train()
    routing.routes(known, torch.arange(4))
    assert known.training
    assert not any(router._forward_hooks for router in routing.routers(known))


# A layer by hand


def by_hand(x: torch.Tensor, block: Any) -> torch.Tensor:
    """The mixture's layer as equations: two choices, each weighed among the experts that come near it."""
    logits = x @ block.router.weight.T
    left, out = logits.clone(), torch.zeros_like(x)
    for _ in range(2):
        best, expert = left.max(-1, keepdim=True)
        near = (best - logits) / torch.maximum(logits.abs(), best) <= 2 * block.router.router_jitter_noise
        weight = left.masked_fill(~near, -math.inf).softmax(-1).gather(-1, expert)
        for number in expert.unique():
            tokens = (expert == number).flatten()
            gate, up = (x[tokens] @ block.experts.gate_up_proj[number].T).chunk(2, -1)
            out[tokens] += weight[tokens] * ((gate * gate.sigmoid() * up) @ block.experts.down_proj[number].T)
        left = left.scatter(-1, expert, -math.inf)
    return out


@pytest.mark.parametrize("jitter", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("engine", ["eager", "grouped_mm"])
def test_a_layer_by_hand_is_the_librarys(jitter: float, engine: str) -> None:
    model = mixture.tiny_moe(Size(layers=1)).eval()
    model.set_experts_implementation(engine)
    block = model.model.layers[0].mlp
    block.router.router_jitter_noise = jitter
    x = torch.randn(2, 40, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs, mine = block(x), by_hand(x.flatten(0, 1), block).reshape(x.shape)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-5)
    assert theirs.abs().max() > 0.1


# Pictures


def test_the_heat_map_has_a_row_a_layer_and_kind(known: Any) -> None:
    table = routing.use(known, {"a": torch.zeros(50).long(), "b": torch.ones(50).long()}, rows=2, length=8)
    ax = routing.heat(table)
    assert [label.get_text() for label in ax.get_yticklabels()][:2] == ["layer 0, a", "layer 0, b"]
    assert len(ax.texts) == 4 * 4


def test_coloured_text_keeps_every_character_and_its_lines() -> None:
    ax = routing.coloured_text(["def", " add", "\n  ", "x" * 90, "$"], [0, 1, 2, 3, 3])
    shown = [text.get_text() for text in ax.texts]
    assert {"def", " add", "  ", "x" * 90, r"\$"} <= set(shown)
    lines = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert lines["def"] == lines[" add"] < lines["  "] < lines["x" * 90]


def test_coloured_text_tells_each_tokens_expert_by_its_number_too() -> None:
    ax = routing.coloured_text(["def", " add", "\n  "], [0, 7, 2])
    below = sorted((text.get_position(), text.get_text()) for text in ax.texts if text.get_text().isdigit())
    assert [number for _, number in below] == ["0", "2", "7"]  # from the left: the third token begins its own line


def test_coloured_text_refuses_what_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="1 tokens cannot be coloured by 2"):
        routing.coloured_text(["a"], [0, 1])
    with pytest.raises(InvalidInput, match="colours for 8 experts"):
        routing.coloured_text(["a"], [8])


def test_the_drawing_shows_who_computes_with_which_weight_and_who_rests() -> None:
    texts = [text.get_text() for text in routing.draw_choice([0.2, 3.0, 2.95, 0.0], {1: 0.51, 2: 1.0}).texts]
    assert [text for text in texts if text.startswith("expert")] == [f"expert {n}" for n in range(4)]
    assert {"× 0.51", "× 1.00", "+2.95"} <= set(texts)
    assert texts.count("rests") == 2
