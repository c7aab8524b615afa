"""The table of engines: settings, trials in processes of their own, agreement, reports; and the fixed questions."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from helpers.backends import Backend, engines
from helpers.engines import agreement, benchmark, speculation, sweeps, trial
from helpers.engines.benchmark import Report
from helpers.engines.trial import Setting
from helpers.errors import InvalidInput
from helpers.records import ModelCard
from talk import fresh

ROW = {
    "engine": "llamacpp", "precision": "q4_1", "decode_tokens_per_second": 50.0, "decode_tokens_per_second_low": 40.0,
    "decode_tokens_per_second_high": 60.0, "model_bytes": 98_400_000, "weight_bytes": 98_362_432,
}  # fmt: skip


@pytest.fixture
def report() -> Report:
    missing = {"engine": "mlx", "precision": "int4", "reason": "the package mlx-lm is not installed"}
    return Report("a machine", "2026-11-22", "smollm2-135m", 1, (ROW, missing))


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """One short trial in its own process."""
    return benchmark.trial(Setting("llamacpp", "q4_1", threads=1, seconds=0.5, repeats=2, brief=True), patience=120)


# The fixed questions


def test_clear_answers_have_a_margin_and_open_ones_have_not() -> None:
    every = agreement.fixed_questions()
    assert all((question["margin"] >= agreement.CLEAR) == (question["kind"] == "clear") for question in every)
    assert len({question["prompt"] for question in every}) == len(every)
    assert min(len(agreement.fixed_questions(kind)) for kind in ("clear", "open")) >= 5


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [([1, 2], [1, 2], 1), ([1, 2], [1, 3], 0.5), ([1], [1, 2, 3, 4], 0.25), ([1, 2], [3, 2], 0), ([], [], 1)],
)
def test_agreement_counts_up_to_the_first_difference(ours: list[int], theirs: list[int], share: float) -> None:
    assert agreement.token_agreement(ours, theirs) == share


def test_characters_of_several_tokens_have_their_probabilities(llama: Backend, reference: Backend) -> None:
    text = "“in” 敏捷的棕色 × 😀 → 👩‍👩‍👧"
    here, there = (agreement._READERS[one.name](one, one.tokenize(text)) for one in (llama, reference))
    assert here == pytest.approx(there, abs=1)


def test_an_engine_without_probabilities_has_no_perplexity(card: ModelCard) -> None:
    chat = fresh(engines()["echo"].open(card, context=64, threads=1, precision=None), card)
    assert agreement.engine_perplexity(chat) is None


# Trials


def test_a_trial_reports_what_the_table_shows(measured: dict[str, Any]) -> None:
    others = ("spread", "clear", "agreement_percent", "reason", *benchmark.MAKING)
    wanted = {name for name in benchmark.HEADINGS if name not in others}
    assert {name.replace("_mb", "_bytes") for name in wanted} <= set(measured)


def test_a_trial_measures_rates_with_their_spread_and_its_disk(measured: dict[str, Any]) -> None:
    low, middle, high = (measured[f"decode_tokens_per_second{end}"] for end in ("_low", "", "_high"))
    assert 0 < low <= middle <= high
    assert measured["load_seconds"] > 0 < measured["peak_memory_gib"]
    assert measured["model_bytes"] == measured["weight_bytes"] == 98_362_432
    assert measured["engine_bytes"] > 10_000_000
    assert len(measured["answers"]) == 3
    assert measured["new_tokens"] >= trial.SHORTEST


def test_a_process_that_crashes_becomes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = subprocess.CompletedProcess([], -11, "", "loading\nSegmentation fault")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: crash)
    row = benchmark.trial(Setting("mlx"), 1)
    assert row["reason"] == "its process ended with status -11: Segmentation fault"


def test_a_process_that_hangs_becomes_a_row() -> None:
    assert "it was not ready after 0 s" in benchmark.trial(Setting("echo"), 0.01)["reason"]


def test_an_opening_that_converted_tells_what_that_took_and_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    made = {"making_seconds": 40.0, "making_memory_gib": 2.0}

    def run(command: list[str], **_: Any) -> Any:
        asked.append(json.loads(command[-1])["again"])
        return subprocess.CompletedProcess(command, 0, json.dumps(made if len(asked) == 1 else ROW), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert benchmark.trial(Setting("llamacpp"), 1) == made | ROW
    assert asked == [False, True]


def test_an_engines_own_lines_do_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"loading\n{{not json\n{json.dumps(ROW)}\nbye\n"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, ""))
    assert benchmark.trial(Setting("llamacpp"), 1) == ROW


def test_a_damaged_file_of_another_format_is_made_again(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(source: Path, target: Path, precision: str) -> Path:
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"whole")
        return target

    monkeypatch.setattr(trial, "home", lambda: tmp_path)
    monkeypatch.setattr(trial.quantization, "requantize", make)
    setting = Setting("llamacpp", "q8_0")
    made = trial._path(setting, card)
    made.write_bytes(b"who")
    assert trial._path(setting, card) == made
    assert made.read_bytes() == b"whole"


# Settings and missing engines


def test_the_reference_comes_first_and_every_local_engine_is_there() -> None:
    pairs = benchmark.settings()
    assert pairs[0] == benchmark.REFERENCE
    local = {name for name, engine in engines().items() if not engine.hosted and name != "echo"}
    assert {engine for engine, _ in pairs} == local
    assert len(benchmark.settings(quick=True)) < len(pairs)


def test_the_precision_of_the_file_is_the_models_own() -> None:
    assert ("llamacpp", "q4_1") in benchmark.settings()
    assert {("llamacpp", "q4_k_m"), ("openvino", "q4_k_m")} <= set(benchmark.settings(own="q4_k_m"))


def test_an_unknown_engine_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"no engine 'steam'"):
        benchmark.settings(["steam"])


def test_missing_engines_are_rows_and_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in engines().values():
        monkeypatch.setattr(engine, "missing", classmethod(lambda cls: f"install {cls.name}"))
    monkeypatch.setattr(benchmark, "trial", lambda *_: pytest.fail("a process was started"))
    rows = benchmark.benchmark(quick=True).rows
    assert [row["reason"] for row in rows] == [f"install {row['engine']}" for row in rows]
    assert len(benchmark.report_table(Report("", "", "", 1, rows))) == len(rows) >= 2


# Reports


def test_a_report_survives_its_file(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "here.json")
    assert Report.load(tmp_path / "here.json") == report
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InvalidInput, match="no report"):
        Report.load(tmp_path / "x.json")


def test_the_table_shows_the_spread_and_the_reason(report: Report) -> None:
    shown = benchmark.report_table(report)
    assert shown.loc[("llamacpp", "q4_1"), "lowest to highest"] == "40 to 60"
    assert "not installed" in shown.loc[("mlx", "int4"), "why not"]


def test_the_table_tells_what_making_took_where_a_run_made_something(report: Report) -> None:
    titles = [benchmark.HEADINGS[name] for name in benchmark.MAKING]
    assert not set(titles) & set(benchmark.report_table(report).columns)
    made = ROW | {"making_seconds": 40.0, "making_memory_gib": 2.0}
    shown = benchmark.report_table(Report("", "", "", 1, (made, *report.rows)))
    assert list(shown[titles].iloc[0]) == [40.0, 2.0]


def test_two_machines_are_laid_side_by_side(report: Report, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    faster = Report("another machine", "2026-11-23", "smollm2-135m", 8, ({**ROW, "decode_tokens_per_second": 200.0},))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    for one, file in zip((report, faster), files, strict=True):
        one.save(Path(file))
    assert benchmark.main(["--compare", *files]) == 0
    printed = capsys.readouterr().out
    assert "another machine" in printed
    assert "200.0" in printed


def test_answers_are_compared_with_the_references(card: ModelCard) -> None:
    prompt = agreement.fixed_questions("clear")[0]["prompt"]
    rows = [
        {"engine": engine, "precision": precision, "answers": {prompt: answer}}
        for (engine, precision), answer in {
            benchmark.REFERENCE: "It is Seoul.",
            ("mlx", "int4"): "It is Tokyo.",
        }.items()
    ]
    benchmark._compare_answers(rows, card)
    assert [row["clear"] for row in rows] == ["1 of 1", "0 of 1"]
    assert rows[0]["agreement_percent"] == 100 > rows[1]["agreement_percent"] > 30


# Reading it


def test_a_share_of_the_bound_is_rate_by_bandwidth_over_bytes() -> None:
    row = sweeps.share_of_bound([ROW], bandwidth=98_362_432 * 100.0)[0]
    assert row["share"] == pytest.approx(0.5, rel=0.03)  # the KV cache of 64 tokens is read too


def test_a_draft_changes_no_answer_and_a_copy_accepts_it() -> None:
    text = "Shopping list: 2 kg of apples, 3 loaves of bread, 1 bag of rice, 6 eggs.\n" * 3 + "Shopping list: 2 kg"
    rows = speculation.speculate({"list": text}, drafts=(0, 6), new_tokens=16, repeats=1, threads=1)
    assert rows[1]["same"]
    assert (rows[0]["tokens_per_step"], rows[0]["accepted"]) == (1, None)
    assert rows[1]["tokens_per_step"] > 2


def test_a_matrix_product_is_told_from_the_rest(reference: Backend, llama: Backend, card: ModelCard) -> None:
    products, rest = sweeps.operations(fresh(reference, card), steps=1)
    assert products["calls"] == 30 * 7 + 1  # each layer has seven matrices, and the head is one
    assert rest["calls"] > products["calls"]
    with pytest.raises(InvalidInput, match="Only transformers"):
        sweeps.operations(fresh(llama, card))


def test_prompts_have_the_lengths_that_were_asked_for(llama: Backend, card: ModelCard) -> None:
    rows = sweeps.prompts(fresh(llama, card), (4, 12), repeats=2, new_tokens=2)
    assert [row["prompt_tokens"] for row in rows] == [4, 4, 12, 12]
    assert all(row["prefill_tokens_per_second"] > 0 for row in rows)


def test_threads_are_changed_and_nothing_else() -> None:
    rows = sweeps.thread_sweep(["echo"], (1, 2), repeats=2, new_tokens=4)
    assert [row["threads"] for row in rows] == [1, 1, 2, 2]
    assert {row["backend"] for row in rows} == {"echo"}


def test_an_answer_that_takes_too_long_with_its_threads_is_not_repeated() -> None:
    rows = sweeps.thread_sweep(["echo"], (1,), repeats=3, new_tokens=4, seconds=0)
    assert len(rows) == 1


def test_without_a_cache_the_whole_text_is_read_for_each_token(
    reference: Backend, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = reference.model, list[int]()
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda ids, **more: (read.append(ids.shape[1]), forward(ids, **more))[1])
    rows = sweeps.without_cache(fresh(reference, card), prompt_tokens=8, new_tokens=2)
    assert [row["KV cache"] for row in rows] == [True, False]
    assert read == [8, 8, 1, 9, 1, 10, 1, 11]


def test_the_plot_has_a_point_for_each_row_that_ran(report: Report) -> None:
    row = {**ROW, "agreement_percent": 90.0, "peak_memory_gib": 0.2}
    ax = benchmark.speed_and_quality([row, report.rows[1]])
    assert len(ax.collections) >= 1
    assert "tokens/s" in ax.get_xlabel()
    assert "%" in ax.get_ylabel()
