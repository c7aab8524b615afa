"""Stop while a prompt is read: each engine reads a long one in parts, and the rest stays unread.

No clock decides: an engine is asked to stop at its first sign of work, and what it does after that is counted.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engines_here import opened
from helpers.backends import Backend, echo, llamacpp, transformers
from helpers.backends.streams import iterate
from helpers.chat import Chat, Stream, open_chat
from helpers.errors import NotEnoughMemory
from helpers.instruct.chatbox import ChatBox
from helpers.records import ModelCard, Prompt, Sampling
from talk import fresh

#: How many tokens llama.cpp reads at once here, so that a prompt of some 600 tokens has many parts.
AT_ONCE = 16
LONG = "The river rises in the mountains and flows south until it reaches the sea. " * 40


class Watched:
    """llama.cpp's server, which tells what it read of a prompt, and calls `act` at the first part."""

    def __init__(self, server: Any, act: Callable[[], object]) -> None:
        self._server, self._act = server, act
        self.read: list[int] = []

    def handle_completions(self, request: dict[str, Any], receive: Callable[[Any], bool]) -> None:
        def look(event: dict[str, Any]) -> bool:
            if "prompt_progress" in event:
                self.read.append(event["prompt_progress"]["processed"])
                if len(self.read) == 2:  # the first event comes before anything is read
                    self._act()
            return receive(event)

        self._server.handle_completions(request, look)


def watched(monkeypatch: pytest.MonkeyPatch, llama: Backend, act: Callable[[], object]) -> Watched:
    seen = Watched(llama._server, act)
    monkeypatch.setattr(llama, "_server", seen)
    return seen


@pytest.fixture(scope="module")
def llama(card: ModelCard) -> Iterator[Backend]:
    """llama.cpp, which reads in small parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llamacpp, "tokens_at_once", lambda _: AT_ONCE)
        chat = open_chat(card.name, "llamacpp")
    with chat:
        yield chat.backend


def test_llamacpp_stops_reading_when_another_thread_says_so(
    monkeypatch: pytest.MonkeyPatch, llama: Backend, card: ModelCard
) -> None:
    chat = fresh(llama, card, max_new_tokens=4)
    seen = watched(monkeypatch, llama, lambda: threading.Thread(target=stream.close).start())
    stream = Chat(llama, card, sampling=chat.sampling, reuse_prompt=False).stream(LONG)
    assert list(stream) == []
    assert stream.reply.finish_reason == "cancelled"
    assert seen.read[-1] <= 3 * AT_ONCE < stream.reply.prompt_tokens // 2


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as Python has it, whatever a shell, a worker or another test has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_the_reading_and_leaves_the_chat_as_it_was(
    monkeypatch: pytest.MonkeyPatch, llama: Backend, card: ModelCard
) -> None:
    chat = Chat(llama, card, sampling=Sampling(max_new_tokens=4), reuse_prompt=False)
    with monkeypatch.context() as patch:
        seen = watched(patch, llama, _thread.interrupt_main)  # what Ctrl-C does
        with pytest.raises(KeyboardInterrupt):
            chat.say(LONG)
    assert seen.read[-1] < len(llama.tokenize(LONG)) // 2
    assert chat.history == ()
    assert chat.say("What is the capital of Sweden?").new_tokens == 4


def test_the_chat_boxs_button_is_heard_while_a_question_is_read(
    monkeypatch: pytest.MonkeyPatch, llama: Backend, card: ModelCard
) -> None:
    box = ChatBox(Chat(llama, card, sampling=Sampling(max_new_tokens=4), reuse_prompt=False))
    seen = watched(monkeypatch, llama, box.stop)
    box.ask(LONG)
    box.wait()
    assert seen.read[-1] <= 3 * AT_ONCE
    assert "ended by: cancelled" in box.page


def test_a_prompt_read_in_parts_is_the_same_prompt(
    monkeypatch: pytest.MonkeyPatch, llama: Backend, reference: Backend, card: ModelCard
) -> None:
    monkeypatch.setattr(transformers, "PREFILL_TOKENS", 64)
    # Several parts for either engine; the answer's lead over the next likeliest is 1.6 nats and more.
    question = f"{LONG[: len(LONG) // 4]}\nWhat is the capital of Sweden?"
    answers = {fresh(engine, card, max_new_tokens=7).say(question).text for engine in (llama, reference)}
    assert len(answers) == 1


def test_transformers_leaves_a_pass_at_its_next_layer(reference: Any, card: ModelCard) -> None:
    later: list[int] = []
    layers = reference.model.model.layers
    hooks = [
        layers[2].register_forward_hook(lambda *_: reference.cancel()),
        layers[5].register_forward_hook(lambda *_: later.append(1)),
    ]
    try:
        stream = fresh(reference, card, max_new_tokens=4).stream(LONG)
        assert list(stream) == []
    finally:
        for hook in hooks:
            hook.remove()
    assert later == []
    assert fresh(reference, card, max_new_tokens=2).say("Hello").new_tokens == 2  # no hook of ours is left behind
    assert not any(module._forward_pre_hooks for module in reference.model.modules())


def test_a_gpu_that_becomes_full_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, reference: Any, card: ModelCard
) -> None:
    import torch

    def full(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(reference.model, "generate", full)
    with pytest.raises(NotEnoughMemory, match="GPU's memory became full"):
        fresh(reference, card).say("Hello")


def test_onnx_reads_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened("onnx-genai").backend
    import onnxruntime_genai as og

    parts: list[int] = []

    class Counting(og.Generator):
        def append_tokens(self, ids: list[int]) -> None:
            parts.append(len(ids))
            super().append_tokens(ids)
            engine.cancel()

    monkeypatch.setattr(og, "Generator", Counting)
    chunks = list(engine.generate(Prompt((), tuple(engine.tokenize(LONG))), Sampling(max_new_tokens=4)))
    assert [chunk.new_tokens for chunk in chunks] == [0]
    assert len(parts) == 1


def test_mlx_reads_part_by_part(monkeypatch: pytest.MonkeyPatch, phi_folder: Any) -> None:
    engine: Any = opened("mlx", phi_folder).backend

    class Counting:
        """The model, which counts its passes."""

        passes = 0

        def __init__(self, model: Any) -> None:
            self._model = model

        def __call__(self, *inputs: Any, **named: Any) -> Any:
            Counting.passes += 1
            engine.cancel()
            return self._model(*inputs, **named)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._model, name)

    monkeypatch.setattr(engine, "_at_once", 4)
    monkeypatch.setattr(engine, "model", Counting(engine.model))
    ids = engine.tokenize("What is the capital of Sweden? " * 4)
    assert list(engine._run(ids, Sampling(max_new_tokens=4), False)) == []
    assert Counting.passes == 1


class Waiting(echo.Engine):
    """Reads until it is cancelled; a minute at most."""

    name = "waiting"

    def generate(self, prompt: Prompt, sampling: Sampling) -> Any:
        self._cancel = threading.Event()

        def work(put: Any, cancelled: threading.Event) -> None:
            self.started.set()
            assert cancelled.wait(60)

        yield from iterate(work, cancelled=self._cancel)


@pytest.fixture
def waiting(card: ModelCard) -> tuple[Stream, threading.Thread]:
    """An answer that a thread of its own waits for."""
    engine = Waiting(4096)
    engine.started = threading.Event()
    stream = Chat(engine, card, sampling=Sampling()).stream("Hello")
    reader = threading.Thread(target=lambda: list(stream), daemon=True)
    reader.start()
    assert engine.started.wait(60)
    return stream, reader


def test_closing_from_another_thread_ends_the_wait_for_the_first_word(
    waiting: tuple[Stream, threading.Thread],
) -> None:
    stream, reader = waiting
    stream.close()
    reader.join(60)
    assert not reader.is_alive()
    assert (stream.reply.text, stream.reply.finish_reason) == ("", "cancelled")


def test_cancelling_waits_for_nothing_and_the_reader_finds_the_end(waiting: tuple[Stream, threading.Thread]) -> None:
    stream, reader = waiting
    stream.cancel()
    reader.join(60)
    assert not reader.is_alive()
    assert stream.reply.finish_reason == "cancelled"


def test_a_stream_that_was_cancelled_before_it_began_never_begins(card: ModelCard) -> None:
    stream = Chat(Waiting(4096), card, sampling=Sampling()).stream("Hello")
    stream.cancel()
    assert list(stream) == []
