"""Stop strings, the same on every backend: the answer ends before the first of them, even when tokens split it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace

from helpers.records import Chunk


def until_stop(chunks: Iterator[Chunk], stop: tuple[str, ...]) -> Generator[Chunk, None, None]:
    """The chunks up to the first stop string, which is not part of them; the engine is stopped there.

    Text that may be the beginning of a stop string is held back until the next chunk decides.

    >>> pieces = iter([Chunk("one E", 1), Chunk("ND two", 2), Chunk("", 2, "length")])
    >>> [c.text for c in until_stop(pieces, ("END",))]
    ['one ', '']
    """
    held = ""
    # Closing this generator early closes the engine's, which is how an engine hears that nobody listens any more.
    with closing(chunks) if isinstance(chunks, Generator) else nullcontext():
        if not stop:
            yield from chunks
            return
        for chunk in chunks:
            held += chunk.text
            found = [held.index(s) for s in stop if s in held]
            if found:
                yield replace(chunk, text=held[: min(found)], finish_reason="stop")
                return
            keep = 0 if chunk.finish_reason else _possible_start(held, stop)
            ready, held = held[: len(held) - keep], held[len(held) - keep :]
            yield replace(chunk, text=ready)


def _possible_start(text: str, stop: tuple[str, ...]) -> int:
    """How many characters at the end of `text` may begin a stop string."""
    longest = max((len(s) - 1 for s in stop), default=0)
    return next((n for n in range(min(longest, len(text)), 0, -1) if any(s.startswith(text[-n:]) for s in stop)), 0)
