"""The drawings of thinking in tokens and of a step of GRPO."""

from __future__ import annotations

from helpers.reasoning.drawings import draw_grpo, draw_ways


def test_each_way_is_named_and_a_chain_has_more_tokens() -> None:
    ax = draw_ways()
    assert {"at once", "step by step", "five votes"} <= {text.get_text() for text in ax.texts}
    assert len(ax.patches) > 100


def test_rewards_and_advantages_stand_beside_their_answers() -> None:
    ax = draw_grpo([1, 0, 0.5], [1.0, -1.0, 0.0])
    assert {"1", "0", "0.5", "+1.00", "-1.00", "answer 3"} <= {text.get_text() for text in ax.texts}
