"""The steps of the proof: which tests and notebooks run, in which order, and that none hides another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.course import proof
from helpers.course.proof import ProofStep


def selected(step: ProofStep) -> str:
    """The markers' expression that a step hands to pytest."""
    return step.command[step.command.index("-m", 2) + 1]


def notebooks_of(step: ProofStep) -> list[Path]:
    return [proof.ROOT / part for part in step.command if part.endswith(".ipynb")]


def test_the_quick_proof_opens_no_engine_and_no_notebook() -> None:
    (unit,) = proof.unit_and_notebooks(quick=True)
    assert selected(unit) == "not engine and not nightly"


def test_the_nightly_proof_leaves_nothing_out() -> None:
    assert selected(proof.unit_and_notebooks()[0]) == "not nightly"
    assert selected(proof.unit_and_notebooks(nightly=True)[0]) == ""


@pytest.mark.parametrize(("memory_gib", "processes"), [(8, "2"), (12, "3")])
def test_unit_tests_take_as_many_processes_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, memory_gib: float, processes: str
) -> None:
    monkeypatch.setattr(proof.machine, "memory_gib", lambda: memory_gib)
    command = proof.unit_and_notebooks()[0].command
    assert command[command.index("-n") + 1] == processes


def test_notebooks_run_two_at_once_the_longest_first_without_a_network() -> None:
    shared, alone = proof.notebooks()
    every = sorted((proof.ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert sorted(notebooks_of(shared) + notebooks_of(alone)) == every
    minutes = [proof.minutes(path) for path in notebooks_of(shared)]
    assert minutes == sorted(minutes, reverse=True)
    assert {"--nbval-lax", "--nbval-current-env", "loadscope", "--no-loadscope-reorder"} <= set(shared.command)
    assert shared.environment["HF_HUB_OFFLINE"] == shared.environment["TQDM_DISABLE"] == "1"


def test_what_compares_times_runs_alone_and_with_the_machines_own_threads() -> None:
    shared, alone = proof.notebooks()
    assert [path.name for path in notebooks_of(alone)] == ["06_cloud_vs_local.ipynb"]
    assert {"-n", "loadscope"}.isdisjoint(alone.command)
    assert "SLM_THREADS" in shared.environment
    assert "SLM_THREADS" not in alone.environment


def test_the_readme_says_how_long_each_notebook_runs() -> None:
    paths = (proof.ROOT / "notebooks").glob("[0-9]*.ipynb")
    assert [path.name for path in paths if not 0 < proof.minutes(path) < 30] == []


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps at once and two after them, of which one each fails."""
    wrong, right = (
        ProofStep("wrong", python("raise SystemExit('bad style')")),
        ProofStep("right", python("print('fine')")),
    )
    monkeypatch.setattr(proof, "style", lambda: [wrong, right])
    late = [ProofStep("broken", python("raise SystemExit(1)")), ProofStep("last", python("open('last', 'w')"))]
    monkeypatch.setattr(proof, "unit_and_notebooks", lambda *_: late)


@pytest.mark.usefixtures("steps")
def test_every_step_runs_and_the_summary_names_those_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(proof, "ROOT", tmp_path)
    assert proof.main([]) == 1
    assert (tmp_path / "last").exists()
    printed = capsys.readouterr().out
    assert "── wrong\nbad style" in printed
    assert printed.rstrip().endswith("FAILED: wrong, broken")
