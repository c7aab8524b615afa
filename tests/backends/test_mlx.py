"""MLX on a Phi of 0.1M parameters that has learned two answers by heart, and on what the contract tests do not ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import catalog
from helpers.backends import engines
from helpers.chat import Chat, open_chat
from helpers.engines import agreement
from helpers.errors import InvalidInput
from helpers.models import engine_files, files
from helpers.records import Prompt, Sampling
from tiny_phi import ANSWERS

QUESTION, ANSWER = next(iter(ANSWERS.items()))
reason = engines()["mlx"].missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=str(reason))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLM_HOME", str(tmp_path_factory.mktemp("home")))
        yield files.home()


@pytest.fixture(scope="module")
def opened(phi_folder: Path, cache: Path) -> Iterator[Chat]:
    with open_chat(phi_folder, "mlx", max_new_tokens=12) as chat:
        yield chat


@pytest.fixture
def phi(opened: Chat) -> Chat:
    opened.reset()
    return opened


def converted(phi: Chat, folder: Path) -> Path:
    return engine_files.converted(phi.card, folder, "bf16")


@pytest.mark.parametrize("question", ANSWERS)
def test_phi_says_what_it_learned_and_stops(phi: Chat, question: str) -> None:
    reply = phi.say(question)
    assert reply.text.strip() == ANSWERS[question]
    assert (reply.finish_reason, reply.backend) == ("stop", "mlx")


def test_the_cache_of_the_last_prompt_changes_no_answer(phi: Chat) -> None:
    answers = []
    for reuse in (False, True, True):
        chat = phi.another(reuse_prompt=reuse)
        answers.append((chat.say("Who?", max_new_tokens=6).text, chat.say(QUESTION).text))
    assert len(set(answers)) == 1


def test_only_what_is_new_of_a_prompt_is_read(phi: Chat) -> None:
    phi.say(QUESTION)
    read = phi.backend.encode(phi.history).tokens
    assert phi.backend._recall(list(read)) >= 12  # the whole question
    assert phi.backend._recall([1, 2, 3]) == 0


def test_leaving_early_keeps_the_cache_true(phi: Chat) -> None:
    stream = phi.stream(QUESTION)
    next(stream)
    stream.close()
    phi.reset()
    assert phi.say(QUESTION).text.strip() == ANSWER


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}])
def test_filters_that_leave_one_token_are_greedy(phi: Chat, options: dict[str, float]) -> None:
    assert phi.say(QUESTION, temperature=5.0, seed=3, **options).text.strip() == ANSWER


def test_the_temperature_acts_before_top_p(phi: Chat) -> None:
    # At 50 even the likeliest of 320 tokens has less than a hundredth, so top-p of a tenth leaves many.
    texts = {phi.complete("What", temperature=50.0, top_p=0.1, seed=seed).text for seed in range(3)}
    assert len(texts) > 1


def test_the_repetition_penalty_counts_the_prompt_and_what_is_cached(phi: Chat) -> None:
    plain = phi.say(QUESTION).text
    phi.reset()
    first = phi.say(QUESTION, repetition_penalty=1000.0).text
    phi.reset()
    assert phi.say(QUESTION, repetition_penalty=1000.0).text == first != plain


def test_it_finds_a_text_as_likely_as_transformers_does(phi: Chat, phi_folder: Path) -> None:
    with open_chat(phi_folder, "transformers", precision="fp32") as whole:
        expected = agreement.engine_perplexity(whole, ANSWER)
    assert agreement.engine_perplexity(phi, ANSWER) == pytest.approx(expected, rel=0.05)


def test_damage_is_noticed_and_mended(phi: Chat, phi_folder: Path) -> None:
    weights = converted(phi, phi_folder) / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    converted(phi, phi_folder)
    assert weights.read_bytes() == whole


def test_it_is_converted_once_and_anew_after_a_later_training(phi: Chat, phi_folder: Path) -> None:
    manifest = converted(phi, phi_folder) / "manifest.json"
    before, written = manifest.read_text(), manifest.stat().st_mtime_ns
    converted(phi, phi_folder)
    assert manifest.stat().st_mtime_ns == written
    os.utime(phi_folder / "model.safetensors", ns=(1, 1))
    converted(phi, phi_folder)
    assert manifest.read_text() != before


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_fewer_bits_take_less_disk(precision: str, phi_folder: Path, cache: Path) -> None:
    with open_chat(phi_folder, "mlx", precision=precision, max_new_tokens=2) as chat:
        assert chat.backend.precision == precision
        assert chat.say(QUESTION).new_tokens == 2
    made = {name: next(cache.glob(f"engines/*-mlx-{name}/model.safetensors")) for name in (precision, "bf16")}
    assert made[precision].stat().st_size < made["bf16"].stat().st_size


def test_the_process_keeps_its_limit_of_open_files(phi: Chat) -> None:
    import resource

    assert resource.getrlimit(resource.RLIMIT_NOFILE) != (2048, 4096)  # what mlx-lm would set


def test_no_compiler_is_called_on_a_processor(phi: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert phi.say("A question that nobody asked before.", temperature=1.0, top_k=7, max_new_tokens=2).new_tokens == 2


def test_what_it_cannot_do_is_a_sentence(phi: Chat, phi_folder: Path) -> None:
    with pytest.raises(InvalidInput, match="bf16, int8, int4"):
        open_chat(phi_folder, "mlx", precision="q4_1")
    with pytest.raises(InvalidInput, match="empty"):
        list(phi.backend.generate(Prompt((), ()), Sampling()))
    assert "text alone" in (phi.backend.serves(catalog.card("phi-4-multimodal")) or "")
