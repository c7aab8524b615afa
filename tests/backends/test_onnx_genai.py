"""ONNX Runtime GenAI: what its options mean, its folders when they are damaged, and the calls of a model that sees."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines_here import opened
from helpers import images
from helpers.backends import Backend
from helpers.backends.onnx_genai import Engine, search_options
from helpers.chat import open_chat
from helpers.engines import agreement
from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.models import engine_files, local, sources
from helpers.records import ModelCard, Prompt, Sampling, Turn
from talk import fresh

PASSAGE = "The river rises in the mountains and flows south until it reaches the sea."
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture(scope="module")
def engine() -> Backend:
    """The embedded model in int4."""
    return opened("onnx-genai").backend


# What the options mean: four tokens with the probabilities 0.5, 0.25, 0.15 and 0.1, drawn by the engine itself


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1}, {0, 1, 2, 3}),
        ({"temperature": 1, "top_p": 0.6}, {0, 1}),
        ({"temperature": 1, "top_p": 0.85}, {0, 1, 2}),
        ({"temperature": 1, "top_k": 2}, {0, 1}),
        ({"temperature": 0.5, "top_p": 0.6}, {0}),  # the temperature acts first: 0.5 became 0.72
        ({"temperature": 1, "top_k": 3, "top_p": 0.55}, {0}),  # top-k acts first: 0.5 became 0.56
        ({"temperature": 1, "repetition_penalty": 50.0}, {1, 2, 3}),  # token 0 stands in the prompt
    ],
)
def test_sampling_means_what_it_means_in_transformers(
    engine: Engine, options: dict[str, Any], expected: set[int]
) -> None:
    assert set(drawn(engine, 24, **options)) == expected


def test_the_temperature_divides_the_logits(engine: Engine) -> None:
    assert 24 <= drawn(engine, 40, temperature=0.5)[0] <= 36  # 29 expected; 20 without a temperature


def drawn(engine: Engine, draws: int, **options: Any) -> Counter[int]:
    """How often each token was drawn where the model gave four of them a chance."""
    import onnxruntime_genai as og

    logits = np.full((1, 49152), -50, np.float32)
    logits[0, :4] = np.log([0.5, 0.25, 0.15, 0.1])
    counts: Counter[int] = Counter()
    for seed in range(draws):
        parameters = og.GeneratorParams(engine.model)
        parameters.set_search_options(**search_options(Sampling(seed=seed, max_new_tokens=4, **options), 1, 49152))
        generator = og.Generator(engine.model, parameters)
        generator.append_tokens([0])
        generator.set_logits(logits.copy())
        generator.generate_next_token()
        counts[int(generator.get_next_tokens()[0])] += 1
    return counts


def test_the_largest_seed_is_one_like_the_others(engine: Engine, card: ModelCard) -> None:
    chat = fresh(engine, card, temperature=2.0, seed=2**32 - 1, max_new_tokens=6)
    assert chat.complete("The river").text == chat.complete("The river").text


def test_it_hesitates_no_more_than_its_rounding_explains(engine: Engine, reference: Backend, card: ModelCard) -> None:
    rounded, whole = (agreement.engine_perplexity(fresh(backend, card), PASSAGE) for backend in (engine, reference))
    assert rounded < 2 * whole


# Which models, which precisions


def test_a_precision_that_cannot_be_built_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match=r"bf16 here.*\n.*int4, int8, fp32"):
        open_chat("smollm2-135m", backend="onnx-genai", precision="bf16")


def test_a_model_that_sees_is_asked_for_as_an_onnx_folder(engine: Engine) -> None:
    with pytest.raises(BackendUnavailable, match=r"genai_config\.json"):
        open_chat("phi-3.5-vision", backend="onnx-genai")


# Folders of one's own


def test_a_folder_of_ones_own_is_counted_and_answers_as_the_built_model(engine: Engine, card: ModelCard) -> None:
    folder = engine_files.onnx(card, "int4")
    assert local.card_of_path(folder).parameters == card.parameters == 134_515_008
    with open_chat(folder, backend="onnx-genai", max_new_tokens=8) as chat:
        assert chat.say("What is the capital of Sweden?").text == "The capital of Sweden is Stockholm."


def test_a_broken_config_is_a_sentence(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text('{"model": 3}')
    with pytest.raises(DamagedFile, match="genai_config"):
        Engine(tmp_path, context=64, threads=1, precision="onnx")


@pytest.mark.fault("models and their files")
def test_a_graph_cut_short_is_a_sentence(engine: Engine, card: ModelCard, tmp_path: Path) -> None:
    good = engine_files.onnx(card, "int4")
    for name in (*TOKENIZER, "genai_config.json"):
        shutil.copy(good / name, tmp_path)
    (tmp_path / "model.onnx").write_bytes((good / "model.onnx").read_bytes()[:1000])
    with pytest.raises(DamagedFile, match="cut short"):
        local.card_of_path(tmp_path)
    with pytest.raises(DamagedFile, match="ONNX Runtime cannot load"):
        Engine(tmp_path, context=64, threads=1, precision="onnx")


# A model that sees, on a stand-in that records the calls: no such model is small enough to be here


class Recorder:
    """Stands in for onnxruntime_genai: remembers what is called, and answers with the tokens of "Yes"."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.Config, self.Model, self.GeneratorParams, self.Generator = (self._part,) * 4
        self.Images = SimpleNamespace(open_bytes=lambda *shown: ("images", shown))
        self.answer = [11, 2]

    def _part(self, *what: Any) -> Recorder:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **named: self.calls.append((name, *values, *named.items()))

    def create_multimodal_processor(self) -> Any:
        return lambda text, images: self.calls.append(("processor", text, images)) or {"input_ids": self}

    def as_numpy(self) -> Any:
        return np.array([[5, -1, -1, 6]])

    def get_next_tokens(self) -> list[int]:
        return [self.answer.pop(0)]

    def is_done(self) -> bool:
        return False


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", recorder)
    return recorder


@pytest.fixture
def seeing(card: ModelCard, tmp_path: Path, recorder: Recorder) -> Engine:
    """A folder as Phi-3.5-vision's, with the embedded model's tokenizer."""
    for name in TOKENIZER:
        shutil.copy(sources.folder(card) / name, tmp_path)
    parts = {name: {"filename": f"{name}.onnx"} for name in ("decoder", "vision", "embedding")}
    config = {"model": {"type": "phi3v", "eos_token_id": 2, "vocab_size": 49152, **parts}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    return Engine(tmp_path, context=4096, threads=3, precision="onnx")


PICTURES = tuple(images.read(np.full((8, 8, 3), shade, np.uint8)) for shade in (0, 99, 255))
TURNS = [Turn("user", "Compare.", PICTURES[:2]), Turn("assistant", "Done."), Turn("user", "And this?", PICTURES[2:])]


def test_threads_reach_every_graph(seeing: Engine, recorder: Recorder) -> None:
    overlay = json.loads(dict(recorder.calls)["overlay"])["model"]
    threads = {part: options["session_options"]["intra_op_num_threads"] for part, options in overlay.items()}
    assert threads == {"decoder": 3, "vision": 3, "embedding": 3}


def test_images_are_numbered_through_the_conversation_and_counted(seeing: Engine, recorder: Recorder) -> None:
    assert seeing.sees
    prompt = seeing.encode(TURNS)
    assert prompt.tokens == (5, -1, -1, 6)
    _, text, (_, shown) = recorder.calls[-1]
    assert "user\n<|image_1|>\n<|image_2|>\nCompare." in text
    assert "user\n<|image_3|>\nAnd this?" in text
    assert shown == tuple(images.as_png_bytes(picture) for picture in PICTURES)


def test_what_the_processor_made_is_fed_once_and_the_answer_comes(seeing: Engine, recorder: Recorder) -> None:
    chunks = list(seeing.generate(seeing.encode(TURNS), Sampling(max_new_tokens=9)))
    names = [call[0] for call in recorder.calls]
    assert names.count("processor") == names.count("set_inputs") == 1
    assert "append_tokens" not in names
    assert names.index("set_search_options") < names.index("set_inputs") < names.index("generate_next_token")
    assert (chunks[-1].finish_reason, chunks[-1].new_tokens, chunks[-1].prompt_tokens) == ("stop", 2, 4)


def test_a_model_that_sees_also_takes_text_alone(seeing: Engine, recorder: Recorder) -> None:
    list(seeing.generate(Prompt((), tuple(seeing.tokenize("The sea"))), Sampling(max_new_tokens=9)))
    assert ("processor", "The sea", None) in recorder.calls


def test_a_model_that_sees_is_not_given_typed_control_tokens(seeing: Engine) -> None:
    with pytest.raises(InvalidInput, match="control tokens"):
        seeing.encode([Turn("user", "x<|im_end|>", PICTURES[:1])])
