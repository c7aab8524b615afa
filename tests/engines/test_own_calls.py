"""The cells of notebook 07 that call an engine which is not here, run against what stands in for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest

import ollama_stand_in
from helpers.data import ROOT
from helpers.engines import qnn, stack
from helpers.models import embeddings, sources

NOTEBOOK = nbformat.read(ROOT / "notebooks" / "07_engines.ipynb", as_version=4)


def cell(marker: str) -> str:
    """The one code cell with these words in it."""
    (found,) = [c.source for c in NOTEBOOK.cells if c.cell_type == "code" and marker in c.source]
    return str(found)


class Genai:
    """Stands in for onnxruntime_genai: notes what is called, in order, and ends after two tokens."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.Model = self.GeneratorParams = self.Generator = lambda *_: self
        self.Images = SimpleNamespace(open=lambda *paths: ("images", paths))
        self.left = ["A ", "lamp."]

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **named: self.calls.append((name, *values))

    def create_multimodal_processor(self) -> Any:
        def processor(text: str, images: Any) -> str:
            self.calls.append(("processor", text, images))
            return "tensors"

        processor.create_stream = lambda: SimpleNamespace(decode=lambda token: token)
        return processor

    def is_done(self) -> bool:
        return not self.left

    def get_next_tokens(self) -> list[str]:
        return [self.left.pop(0)]


def test_phi_vision_is_asked_by_todays_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    og = Genai()
    source = cell("PHI_VISION, PICTURE =").replace('Path("cpu-int4-rtn-block-32-acc-level-4")', repr(str(tmp_path)))
    source = source.replace("PHI_VISION.is_dir()", "True")
    exec(compile(source, "cell", "exec"), {"og": og, "Path": Path, "here": lambda name: True})
    assert [call[0] for call in og.calls] == [
        *("processor", "set_search_options", "set_inputs", "generate_next_token", "generate_next_token"),
    ]
    assert og.calls[2] == ("set_inputs", "tensors")
    assert "<|image_1|>" in og.calls[0][1]
    assert capsys.readouterr().out == "A lamp."


@pytest.mark.engine
@pytest.mark.skipif(ollama_stand_in.missing() is not None, reason=str(ollama_stand_in.missing()))
def test_ollamas_two_calls_run_against_its_stand_in(
    stand_in: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=stand_in)
    monkeypatch.setattr(ollama, "pull", client.pull)
    monkeypatch.setattr(ollama, "chat", client.chat)
    source = cell("ollama.pull(").replace('"phi3.5"', repr(ollama_stand_in.MODEL))
    asked = [{"role": "user", "content": "What is the capital of Sweden?"}]
    with client._client:  # what it leaves open would be found in another test
        exec(compile(source, "cell", "exec"), {"here": lambda name: True, "MESSAGES": asked})
    assert "Stockholm" in capsys.readouterr().out


def test_an_absent_engine_is_a_sentence_in_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    own = [c.source for c in NOTEBOOK.cells if c.cell_type == "code" and c.source.startswith("if here(")]
    for source in own:
        exec(compile(source, "cell", "exec"), {"here": lambda name: print(name, "is not here")})
    assert capsys.readouterr().out.count("is not here") == len(own) >= 6


@pytest.mark.skipif(qnn.missing() is not None, reason=str(qnn.missing()))
def test_the_small_graph_is_whole_numbers_that_say_what_the_block_says(tmp_path: Path) -> None:
    graph, inputs = qnn.small_graph(tmp_path)
    whole = qnn.run_profiled(graph, inputs, "CPUExecutionProvider")[0]
    plain = qnn.run_profiled(tmp_path / "float.onnx", inputs, "CPUExecutionProvider")[0]
    assert 0 < qnn._error(whole, plain) < 10


def test_the_drawing_names_every_engine_and_hints_at_absent_ones() -> None:
    ax = stack.draw_stack({"ollama"})
    texts = {text.get_text() for text in ax.texts}
    assert set(stack.STACKS) <= texts
    assert [patch.get_facecolor()[:3] for patch in ax.patches].count((1.0, 1.0, 1.0)) == len(stack.ROWS_OF_STACK)


@pytest.mark.engine
@pytest.mark.skipif(sources.state(embeddings.ENCODER) != "ready", reason="the encoder is not here")
def test_rounding_twice_turns_vectors_further_and_leaves_the_encoder_as_it_was() -> None:
    from helpers.engines import precisions

    before = embeddings.embed(["A lamp."])
    once, twice = precisions.encoder_ladder([("Q4_0",), ("Q4_1", "Q4_0")])[1:]
    assert 0 < once["turned_degrees"] < twice["turned_degrees"]
    assert once["weight_error_percent"] < twice["weight_error_percent"]
    assert np.array_equal(before, embeddings.embed(["A lamp."]))
