"""An engine small enough to read: it answers with the words it was asked, one token a word. For tests."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from helpers.backends import Backend
from helpers.records import Chunk, ModelCard, Prompt, Sampling, Turn

#: What the echo takes for one token: a control token, or a word with the blanks before it.
_TOKEN = re.compile(r"<\|[a-z_]+\|>|\s*\S+|\s+$")


class Engine(Backend):
    """Repeats the last thing typed. It has a context, a template and control tokens like a real engine.

    Opened as a model that sees, it takes an image for one token, and repeats its size before the text.
    """

    name = "echo"
    honours = frozenset({"max_new_tokens", "seed", "stop", "temperature"})
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"

    def __init__(self, context: int, *, sees: bool = False) -> None:
        self.context, self.precision = context, "words"
        self.sees, self.image_text = sees, " <|image|> "  # blanks, since a token ends at one
        self._words: list[str] = []

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        return None

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        return cls(context, sees="image" in card.modalities)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        ids = []
        for word in _TOKEN.findall(text):
            key = word if control or not word.startswith("<|") else f"typed {word}"
            if key not in self._words:
                self._words.append(key)
            ids.append(self._words.index(key))
        return ids

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        text = _seen(prompt.turns[-1]) if prompt.turns else "".join(self._words[i] for i in prompt.tokens or ())
        words = _TOKEN.findall(text)
        if sampling.temperature > 0:
            random.Random(sampling.seed).shuffle(words)
        prompt_tokens = len(prompt.tokens or ())
        for n, word in enumerate(words[: sampling.max_new_tokens], start=1):
            yield Chunk(word, n, prompt_tokens=prompt_tokens)
        cut = len(words) > sampling.max_new_tokens
        yield Chunk("", min(len(words), sampling.max_new_tokens), "length" if cut else "stop", prompt_tokens)


def _seen(turn: Turn) -> str:
    """The words of a turn, the size of each image first."""
    return " ".join([*(f"[{image.width}×{image.height}]" for image in turn.images), turn.text])
