"""Tables and drawings of attacks, over rows that are made up."""

from __future__ import annotations

import pytest

from helpers.assistant.attack_results import conversation_table, defence_table, draw_attacks, draw_defences
from helpers.assistant.attacks import attacks

NAMES = [one.id for one in attacks()]


def rows(way, won, kind="attack"):
    made = [(name, number < won) for number, name in enumerate(NAMES)]
    return [{"model": "m", "way": way, "kind": kind, "id": name, "came_about": came} for name, came in made]


def test_a_way_is_compared_attack_by_attack_with_none():
    table = defence_table([*rows("bare", 20), *rows("rights", 0)], "m").set_index("way")
    assert table.loc["bare", "attacks won"].startswith("20 of 20 = 100 %")
    assert table.loc["rights", "against bare"] == "-100 (-100 to -100)"


def test_what_a_defence_costs_stands_beside_what_it_stops():
    table = defence_table(
        [*rows("bare", 9), *rows("check", 9), *rows("bare", 20, "honest"), *rows("check", 10, "honest")], "m"
    )
    assert table.set_index("way").loc["check", "harm"].startswith("-50 (")


def test_each_attack_is_drawn_for_each_way_that_was_tried():
    axes = draw_attacks([*rows("bare", 5), *rows("schema", 2)], "m")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bare", "schema"]
    assert len(axes.patches) == 40


def test_the_drawing_of_defences_names_their_places():
    assert {"marks", "rights", "schema, check"} <= {text.get_text() for text in draw_defences().texts}


@pytest.mark.parametrize(("joules", "told"), [(None, "not told here"), (30.4, 30)])
def test_energy_is_told_where_the_machine_tells_it(joules, told):
    row = {"model": "m", "provider": "here", "came_about": True, "prompt_tokens": 10, "new_tokens": 2, "seconds": 1.0}
    assert conversation_table([row | {"peak_memory_gib": 1.0, "joules": joules}]).loc[0, "joules"] == told
