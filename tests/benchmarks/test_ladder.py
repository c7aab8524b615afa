"""The ladder's units: stored one by one, made again only where what they are made from changed, whole at any time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import ladder, ladder_parts, ladder_table
from benchmarks.ladder_parts import ALL, PARTS, Bias, Calls, Comprehension, Task
from helpers.backends import Backend
from helpers.chat import Chat, open_chat
from helpers.errors import ModelUnavailable
from helpers.records import ModelCard
from talk import fresh


class Small:
    """A rung that echoes, so that an answer has as many words as its question."""

    threads = 1

    def __init__(self, name: str = "small", parameters: int = 10, sha256: str = "a") -> None:
        self.name, self.asked = name, 0
        self.model = "smollm2-135m"
        self.entry = {"name": name, "parameters": parameters, "sha256": sha256}

    def chat(self, backend: str) -> Chat:
        self.asked += 1
        return open_chat(self.model, backend="echo")

    def close(self) -> None:
        pass


class Unreachable(Small):
    def chat(self, backend: str) -> Chat:
        raise ModelUnavailable("No network answers.")


class Killed(Small):
    """Stops like a process that is interrupted, at its second part."""

    def chat(self, backend: str) -> Chat:
        if self.asked == 1:
            raise KeyboardInterrupt
        return super().chat(backend)


QUICK = ["generation", "completion"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ladder.json"


def unit(rung: str, *right: bool, part: str = "completion", sha256: str = "a") -> dict[str, Any]:
    rows = [{"item": str(n), "group": "g", "answer": "", "cut": True, "right": one} for n, one in enumerate(right)]
    return {"rung": rung, "part": part, "model_sha256": sha256, "items_sha256": "i", "rows": rows}


def rungs(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "parameters": n, "sha256": "a"} for n, name in enumerate(names)]


def test_a_unit_that_is_stored_is_not_asked_again(path: Path) -> None:
    ladder.run([Small()], QUICK, None, path)
    again = Small()
    assert ladder.run([again], QUICK, None, path)
    assert again.asked == 0


def test_a_killed_run_leaves_what_it_had_and_goes_on_from_there(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ladder.run([Killed()], QUICK, None, path)
    assert [one["part"] for one in ladder.load(path)["units"]] == QUICK[:1]
    rest = Small()
    ladder.run([rest], QUICK, None, path)
    assert rest.asked == 1


def test_a_file_that_is_cut_off_while_it_is_written_is_not_the_stored_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder.run([Small()], QUICK[:1], None, path)
    before = path.read_bytes()

    def half(self: Path, text: str, encoding: str) -> None:
        self.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        ladder.run([Small()], QUICK, None, path)
    assert path.read_bytes() == before


def test_another_file_of_a_model_takes_all_units_of_the_old_one_along(path: Path) -> None:
    ladder.run([Small()], QUICK, None, path)
    ladder.run([Small(sha256="b")], QUICK[:1], None, path)
    stored = ladder.load(path)
    assert [(one["part"], one["model_sha256"]) for one in stored["units"]] == [(QUICK[0], "b")]
    assert not ladder.is_done(stored, Small(sha256="b").entry, QUICK[1])


def test_another_cap_makes_a_unit_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder.run([Small()], QUICK[:1], None, path)
    monkeypatch.setitem(PARTS, QUICK[0], Task("generation", "plain", 3))
    assert not ladder.is_done(ladder.load(path), Small().entry, QUICK[0])


def test_answers_that_the_cap_ended_are_counted() -> None:
    words = sorted(len(item.prompt.split()) for item in PARTS["generation"].items(None))
    cap = words[len(words) // 2]
    short = Task("generation", "plain", cap)
    cut = sum(row["cut"] for row in short.rows(Small(), None))
    assert cut == sum(count > cap for count in words) > 0


def test_a_quick_try_is_not_stored(path: Path) -> None:
    ladder.run([Small()], QUICK, 1, None)
    assert not path.exists()


def test_what_cannot_be_made_here_is_a_sentence_and_the_rest_goes_on(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not ladder.run([Unreachable("gone"), Small()], QUICK[:1], None, path)
    assert "No network answers." in capsys.readouterr().out
    assert [one["rung"] for one in ladder.load(path)["units"]] == ["small"]


def test_what_is_stored_reads_back_as_it_was_with_a_line_for_each_row(path: Path) -> None:
    ladder.store(path, rungs("small")[0], unit("small", True, False))
    assert ladder.load(path)["units"] == [unit("small", True, False)]
    assert sum('"item": ' in line for line in path.read_text(encoding="utf-8").splitlines()) == 2


def test_a_share_has_wilsons_interval_and_a_completion_is_cut_by_design() -> None:
    (row,) = ladder_table.scores(rungs("small"), [unit("small", True, True, True, False)])
    assert (row["score"], row["low"], row["high"], row["items"]) == (75, 30.06, 95.44, 4)
    assert row["cut"] is None


def test_a_gain_is_paired_item_by_item() -> None:
    both = [unit("small", True, False, False, False), unit("large", False, True, True, False)]
    (gain,) = ladder_table.differences(rungs("small", "large"), both)
    assert (gain["value"], gain["better"], gain["worse"]) == (25, 2, 1)
    assert gain["low"] < 0 < gain["high"]


def test_items_that_all_differ_alike_have_no_interval() -> None:
    both = [unit("small", False, False), unit("large", True, True)]
    (gain,) = ladder_table.differences(rungs("small", "large"), both)
    assert (gain["value"], gain["low"]) == (100, None)


def test_an_interval_ends_where_points_end() -> None:
    both = [unit("small", *[False] * 3), unit("large", True, True, False)]
    (gain,) = ladder_table.differences(rungs("small", "large"), both)
    assert (gain["value"], gain["high"]) == (66.67, 100)


def test_a_group_of_few_items_has_no_score_of_its_own() -> None:
    made = unit("small", *[True] * 12)
    for row in made["rows"][:4]:
        row["group"] = "few"
    assert [row["group"] for row in ladder_table.scores(rungs("small"), [made])] == [ALL, "g"]


def test_other_items_are_not_paired() -> None:
    both = [unit("small", True), unit("large", True) | {"items_sha256": "others"}]
    assert ladder_table.differences(rungs("small", "large"), both) == []


@pytest.mark.parametrize("part", PARTS)
def test_what_a_part_is_made_from_is_the_same_each_time(part: str) -> None:
    first, second = (ladder.made_from(Small().entry, part) for _ in range(2))
    assert first == second


def test_the_agents_material_holds_all_that_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Calls(constrained=False).material()
    monkeypatch.setattr("helpers.agents.agent.SYSTEM", "Choose.")
    assert Calls(constrained=False).material() != before


def test_a_baseline_has_the_items_of_its_part() -> None:
    rows = PARTS["prompting, plain"].baseline()
    assert len(rows) == 36
    assert {row["right"] for row in rows if row["group"] == "reviews"} == {50}


def test_the_dates_are_those_of_the_notebook_and_the_rules_stand_beside_them() -> None:
    rows = PARTS["dates, few-shot"].rows(Small(), 3)
    assert [(row["answer"], row["right"]) for row in rows] == [(row["item"], False) for row in rows]
    rules = PARTS["dates, few-shot"].baseline()
    assert (len(rules), sum(row["right"] for row in rules)) == (100, 40)


@pytest.mark.engine
def test_the_likelihood_parts_read_a_real_model(reference: Backend, card: ModelCard) -> None:
    class Real(Small):
        def chat(self, backend: str) -> Chat:
            assert backend == "transformers"
            return fresh(reference, card)

    (answer,) = Comprehension().rows(Real(), 1)
    assert (answer["right"], answer["right_undivided"]) == (False, True)
    (cross,) = Bias().rows(Real(), 1)
    assert cross["stereotype"] is True


@pytest.mark.engine
def test_a_speed_has_its_four_figures() -> None:
    figures = ladder_parts._speed("smollm2-135m", "llamacpp", ["Hi", "Say hello to a friend."], 3, 1)
    assert set(figures) == set(ladder_table.SPEEDS)
    assert min(figures.values()) > 0


STORED = ladder.load(ladder.RESULT)


def test_the_stored_rows_are_what_todays_scores_make_of_the_stored_answers() -> None:
    assert STORED["units"]
    for made in STORED["units"]:
        assert ladder.rows_as_read_today(made) == made["rows"], f"{made['part']}: run with --read-again"


def test_answers_are_read_again_without_a_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder.run([Small()], QUICK, None, path)
    monkeypatch.setattr("helpers.instruct.tasks.score", lambda item, answer: {"kept": True, "right": True})
    ladder.read_again(path)
    assert {row["score"] for row in ladder.load(path)["scores"] if row["measure"] in ("kept", "right")} == {100}


def test_the_stored_scores_follow_from_the_stored_rows() -> None:
    assert ladder_table.scores(STORED["rungs"], STORED["units"]) == STORED["scores"]
    assert ladder_table.differences(STORED["rungs"], STORED["units"]) == STORED["differences"]


def test_the_table_shows_every_rung_with_its_interval_and_its_cut_answers() -> None:
    stored = {"rungs": rungs("small"), "units": [], "differences": []}
    row = {"model": "small", "part": "generation", "group": ALL, "measure": "kept", "items": 12, "baseline": None}
    text = ladder_table.markdown(stored | {"scores": [row | {"score": 41.7, "low": 19.3, "high": 68.0, "cut": 2}]})
    assert "| 42 (19 to 68), 2 cut off |" in text


def test_the_readmes_figure_is_drawn_from_what_is_stored(tmp_path: Path) -> None:
    ladder_table.figure(ladder.load(ladder.RESULT), str(tmp_path / "ladder.png"))
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    assert set(ladder_table.DRAWN) <= {row["task"] for row in ladder.load(ladder.RESULT)["scores"]}
