"""One answer while it is written, and the clock that runs beside it: the same on every backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from helpers.backends import Backend
from helpers.errors import RemoteError
from helpers.records import Chunk, FinishReason, Prompt, Reply, Sampling
from helpers.stopping import until_stop


class Stream(Iterator[str]):
    """An answer as it is written: iterate for its pieces of text; afterwards `reply` is the whole of it.

    Leaving early (`close`) stops the engine; what came until then is the reply, with finish reason "cancelled".
    The time to the first token runs from the call to the first token's arrival; the decode rate counts the tokens
    after it.
    """

    def __init__(
        self,
        backend: Backend,
        model: str,
        prompt: Prompt,
        sampling: Sampling,
        dropped_turns: int = 0,
        remember: Callable[[Reply], None] | None = None,
    ) -> None:
        self.reply: Reply | None = None
        self._backend, self._model, self._dropped, self._remember = backend, model, dropped_turns, remember
        self._started = time.perf_counter()
        self._chunks = until_stop(backend.generate(prompt, sampling), sampling.stop)
        self._text: list[str] = []
        self._last = Chunk("", 0, prompt_tokens=None if prompt.tokens is None else len(prompt.tokens))
        self._first_at = self._last_at = self._started

    def __next__(self) -> str:
        while self.reply is None:
            try:
                chunk = next(self._chunks, None)
            except RemoteError as error:
                # What arrived is kept and marked, and stays out of the history: it is nobody's whole answer.
                self._remember = None
                self._finish("interrupted")
                error.reply = self.reply
                raise
            if chunk is None:
                self._finish(self._last.finish_reason or "stop")
                break
            self._read_clock(chunk)
            if chunk.text:
                self._text.append(chunk.text)
                return chunk.text
        raise StopIteration

    def close(self, *, keep: bool = True) -> None:
        """Stops the engine if it is still writing; `keep` makes what came until then the reply."""
        if self.reply is None:
            self._chunks.close()
            if keep:
                self._finish("cancelled")

    def _read_clock(self, chunk: Chunk) -> None:
        # A chunk without a new token (the end, a held-back piece) is no time spent on decoding.
        if chunk.new_tokens > self._last.new_tokens:
            self._last_at = time.perf_counter()
            if not self._last.new_tokens:
                self._first_at = self._last_at
        self._last = chunk

    def _finish(self, reason: FinishReason) -> None:
        tokens, seconds = self._last.new_tokens, self._last_at - self._first_at
        self.reply = Reply(
            text="".join(self._text),
            model=self._model,
            backend=self._backend.name,
            prompt_tokens=self._last.prompt_tokens,
            new_tokens=tokens,
            ttft_seconds=self._first_at - self._started,
            decode_tokens_per_second=(tokens - 1) / seconds if tokens > 1 and seconds > 0 else None,
            finish_reason=reason,
            dropped_turns=self._dropped,
        )
        if self._remember is not None:
            self._remember(self.reply)
