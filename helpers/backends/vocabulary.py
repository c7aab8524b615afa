"""A model's tokenizer and chat template, read from its folder without transformers, whose import takes seconds."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile
from helpers.records import Chunk

#: Control tokens that end an answer in some model of the catalog, as llama.cpp also takes them.
ENDS = ("<|im_end|>", "<|endoftext|>", "<|end|>", "<|eot_id|>", "</s>", "<end_of_utterance>")


class Vocabulary:
    """Text to token ids and back. `ends` are the ids that end an answer, `size` counts the tokens."""

    def __init__(self, folder: Path, ends: Iterable[int] = ()) -> None:
        from tokenizers import Tokenizer

        if not (folder / "tokenizer.json").is_file():
            raise DamagedFile(
                f"{folder.name} has no tokenizer.json, so its text cannot be tokenized.", "Fetch it anew."
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = _json(folder / "tokenizer_config.json")
        except Exception as error:  # the library raises plain Exceptions
            raise DamagedFile(f"The tokenizer of {folder.name} cannot be read: {error}", "Fetch it anew.") from error
        named = {name: _text(config.get(name)) for name in ("bos_token", "eos_token")}
        self.template = _template(folder, config)
        self.template_tokens = named
        self.size: int = self._tokenizer.get_vocab_size()
        found = (self._tokenizer.token_to_id(end) for end in {*ENDS, named["eos_token"]} if end)
        self.ends = frozenset(i for i in (*found, *ends) if i is not None)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """The token ids of a text; without `control`, strings such as `<|im_end|>` are tokenized as text."""
        self._tokenizer.encode_special_tokens = not control
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def text(self, ids: Iterable[int]) -> str:
        """The text of token ids, control tokens with it."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    def chunks(self, tokens: Iterable[int], prompt_tokens: int) -> Iterator[Chunk]:
        """New tokens as the chunks of an answer: it ends at the first end token, or when no more come."""
        return decoded(tokens, self._tokenizer, self.ends, prompt_tokens)


def end_tokens(tokenizer: Any, own: int | list[int] | None) -> list[int]:
    """The ids that end an answer, in order: the model's own, and the control tokens of the catalog's templates."""
    added = tokenizer.get_added_vocab()
    ends = {added[end] for end in ENDS if end in added} | {tokenizer.eos_token_id}
    ends |= set(own if isinstance(own, list) else [own])
    return sorted(ends - {None})


def decoded(tokens: Iterable[int], tokenizer: Any, ends: Container[int], prompt_tokens: int) -> Iterator[Chunk]:
    """New tokens as the chunks of an answer: it ends at the first end token, or when no more come."""
    from tokenizers.decoders import DecodeStream

    stream, new_tokens, ended = DecodeStream(skip_special_tokens=True), 0, False
    for token in tokens:
        new_tokens += 1
        ended = token in ends
        text = None if ended else stream.step(tokenizer, token)
        yield Chunk(text or "", new_tokens, prompt_tokens=prompt_tokens)
        if ended:
            break
    yield Chunk("", new_tokens, "stop" if ended else "length", prompt_tokens)


def _json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _text(token: Any) -> str:
    """A token as tokenizer_config.json writes it: its text, or that text with its properties."""
    return str((token.get("content") if isinstance(token, dict) else token) or "")


def _template(folder: Path, config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    found = config.get("chat_template") or ""
    if isinstance(found, list):  # several, each with a name
        found = next((one["template"] for one in found if one.get("name") == "default"), found[0]["template"])
    return str(found)
