import re
from dataclasses import replace
from datetime import date

import pytest

from helpers import catalog
from helpers.catalog import card, cards
from helpers.errors import UnknownModel
from helpers.records import Sampling

NAMES = """smollm2-135m smollm2-360m smollm2-1.7b qwen2.5-coder-0.5b qwen2.5-coder-1.5b smolvlm-256m mini-vision
all-minilm-l6-v2 phi-3-mini phi-3-mini-128k phi-3-small phi-3-medium phi-3-vision phi-3.5-mini phi-3.5-vision
phi-3.5-moe phi-4 phi-4-mini phi-4-multimodal phi-4-mini-reasoning phi-4-reasoning phi-4-reasoning-plus mistral-7b
gpt-3 gpt-4""".split()


def test_the_table_lists_the_models_of_the_course_in_one_order():
    assert [c.name for c in cards()] == NAMES


@pytest.mark.parametrize("name", ["phi-3.5-mini", "PHI-3.5-Mini", " phi-3.5-mini ", "microsoft/Phi-3.5-mini-instruct"])
def test_a_card_is_found_by_name_and_hub_id_in_any_case(name):
    assert card(name).name == "phi-3.5-mini"


def test_every_title_and_hub_id_leads_to_its_own_card():
    for c in cards():
        assert card(c.title) is c
        assert c.hub is None or card(c.hub.repo) is c
        assert not (c.pinned and c.pinned.hub) or card(c.pinned.hub.repo) is c


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(UnknownModel, match=r"'phi35-mini'.*phi-3\.5-mini") as caught:
        card("phi35-mini")
    assert "cards()" in caught.value.next_step


def test_a_name_like_no_other_is_refused_without_a_guess():
    with pytest.raises(UnknownModel) as caught:
        card("zzzzzzzz")
    assert "nearest" not in str(caught.value)


def test_every_card_is_complete():
    for c in cards():
        assert c.source, c
        assert c.licence, c
        assert 0 < c.active_parameters <= c.parameters, c
        assert c.basis != "computed" or (c.shape and c.model_type), c
        assert c.model_type or c.note, f"{c}: a model without a native class says how it is reached instead"


def test_a_hub_model_states_its_download():
    for c in filter(lambda c: c.hub, cards()):
        assert c.hub.download_bytes == 2 * c.parameters, c


def test_no_revision_is_one_that_its_owner_can_change():
    for c in cards():
        pinned = c.pinned.hub if c.pinned else None
        for hub in filter(None, (c.hub, pinned)):
            assert hub.revision is None or re.fullmatch(r"[0-9a-f]{40}", hub.revision), c
        assert pinned is None or pinned.revision, f"{c}: its files are fetched at a pinned commit"
    assert all(card(name).hub.revision for name in ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"))


def test_what_microsoft_retired_is_told_with_its_day():
    at_azure = [c for c in cards() if c.publisher == "Microsoft" and "azure" in c.tags]
    gone = {c.name for c in at_azure if c.retired.get("azure") == date(2025, 8, 30)}
    assert gone == {c.name for c in at_azure if c.family in ("Phi-3", "Phi-3.5")}


def test_only_gpt_4_is_an_estimate_and_says_so():
    (guessed,) = (c for c in cards() if c.basis == "estimate")
    assert guessed.name == "gpt-4"
    assert "Unconfirmed" in guessed.note


def test_a_mixture_of_experts_is_less_active_than_large():
    moe = card("phi-3.5-moe")
    assert (moe.parameters, moe.active_parameters) == (41_873_153_344, 6_640_999_744)


def test_two_harnesses_give_one_model_two_scores():
    rows = [r for r in catalog.score_table("GSM8K") if r["model"] == "phi-3.5-mini"]
    assert {r["harness"]: r["percent"] for r in rows} == {"Phi-3.5-mini card": 86.2, "Phi-4-mini card": 76.9}


def test_a_score_lies_inside_its_interval_and_fewer_questions_make_it_wider():
    rows = catalog.score_table()
    assert all(r["low"] < r["percent"] < r["high"] and r["source"] for r in rows)
    width = {r["benchmark"]: r["high"] - r["low"] for r in rows if r["model"] == "phi-3-mini"}
    assert width["HumanEval"] > width["GSM8K"] > width["MMLU"]


def test_scores_of_a_model_of_unknown_size_are_kept_without_one():
    sizes = {r["model"]: r["parameters"] for r in catalog.score_table("MMLU", "Azure model catalog")}
    assert sizes["gpt-4-turbo-1106"] is None
    assert sizes["phi-3-mini"] == 3_821_079_552


def test_a_road_tells_what_it_costs_and_loses_little_where_the_course_takes_it():
    rows = catalog.roads("qwen2.5-coder-0.5b")
    assert {row["engine"] for row in rows} >= {"llamacpp", "transformers", "onnx-genai", "openvino"}
    assert all(row["disk_mb"] > 0 and row["note"].endswith(".") for row in rows)
    own = rows[0]["perplexity"]
    for row in rows[1:]:
        assert row["making_seconds"] > 0 < row["making_gib"]
        assert row["precision"] == "int4" or row.get("perplexity", own) < 1.01 * own
    assert catalog.roads("gpt-4") == []


def test_training_tokens_are_told_where_published():
    assert catalog.training_tokens("gpt-3") == (300_000_000_000, "arXiv:2005.14165, table 2.1")
    assert catalog.training_tokens("mistral-7b") is None


def test_the_table_has_one_row_a_card():
    row = catalog.table([card("mistral-7b")])
    assert [(r["model"], r["context"], r["download_gib"]) for r in row] == [("mistral-7b", 32768, 13.5)]


def test_the_publishers_sampling_stands_in_the_catalog_and_greedy_where_there_is_none():
    qwen = Sampling.recommended(card("qwen2.5-coder-0.5b"), max_new_tokens=8)
    assert (qwen.temperature, qwen.top_p, qwen.top_k, qwen.repetition_penalty) == (0.7, 0.8, 20, 1.1)
    assert (qwen.max_new_tokens, Sampling.recommended(card("phi-4"))) == (8, Sampling())
    assert Sampling.recommended(card("smollm2-135m")) == Sampling(temperature=0.2, top_p=0.9)


PINNED = [c for c in cards() if c.pinned]


@pytest.mark.parametrize("c", PINNED, ids=lambda c: c.name)
def test_a_pinned_file_is_known_to_the_byte_and_its_wheels_fill_it(c):
    assert all(
        re.fullmatch(r"[0-9a-f]{64}", file.sha256) and file.bytes for file in (*c.pinned.files, *c.pinned.wheels)
    )
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", wheel.requirement) for wheel in c.pinned.wheels)
    pieces = [wheel.piece_bytes for wheel in c.pinned.wheels]
    assert pieces == [None] or sum(pieces) == c.pinned.files[0].bytes


@pytest.mark.parametrize("c", [c for c in PINNED if c.gguf], ids=lambda c: c.name)
def test_a_file_stores_the_parameters_and_an_output_matrix_where_that_stands_apart(c):
    apart = c.gguf.numbers - c.parameters
    assert apart in (0, c.shape.vocabulary * c.shape.hidden)
    assert apart == 0 or f"{c.gguf.numbers:,} numbers" in c.note


def test_a_model_of_a_learners_own_has_no_pinned_file():
    assert replace(card("smollm2-135m"), path="/somewhere").gguf is None
