"""ONNX Runtime GenAI: int4, int8 and fp32 graphs on any processor, and the Phi models that see.

The loop is the present interface: `append_tokens` gives a `Generator` the prompt, and each `generate_next_token` costs
one pass. (The older `model.generate` and `GeneratorParams.input_ids` are gone.) A model of the catalog is built into an
ONNX folder once; a folder that already has a genai_config.json is opened as it is.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from helpers import images, machine
from helpers.backends import Backend
from helpers.backends.streams import tokens_at_once
from helpers.backends.vocabulary import Vocabulary
from helpers.errors import DamagedFile, InvalidInput
from helpers.machine import require_memory
from helpers.models import engine_files, templates
from helpers.records import Chunk, ModelCard, Prompt, Sampling, Turn

CONFIG = "genai_config.json"
#: What stands for the n-th image of a conversation, for each type of model that sees.
IMAGE_TEXTS = {"phi3v": "<|image_{}|>\n", "phi4mm": "<|image_{}|>"}


class Engine(Backend):
    """One ONNX folder. One that has a vision part sees; its processor then tokenizes, and cuts the images."""

    name = "onnx-genai"
    package = "onnxruntime-genai"
    install = "python3 course.py lab --engines. It exists for Windows, Linux, and macOS on Apple silicon"
    honours = frozenset(
        {"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "json_schema"}
    )

    def __init__(self, folder: Path, *, context: int, threads: int | None, precision: str) -> None:
        import onnxruntime_genai as og

        self.context, self.precision = context, precision
        model = _config(folder)["model"]
        ends = model.get("eos_token_id", [])
        self._vocabulary = Vocabulary(folder, ends if isinstance(ends, list) else [ends])
        self.template, self.template_tokens = self._vocabulary.template, self._vocabulary.template_tokens
        # A top-k of the whole vocabulary, since 0 would switch top-p off with it.
        self._everything: int = model.get("vocab_size") or self._vocabulary.size
        self._image_text = IMAGE_TEXTS.get(model.get("type", "")) if "vision" in model else None
        self.sees = self._image_text is not None
        config = og.Config(str(folder))
        config.overlay(json.dumps({"model": _with_threads(model, threads or machine.threads())}))
        try:
            self.model = og.Model(config)
            self._processor = self.model.create_multimodal_processor() if self.sees else None
        except RuntimeError as error:
            raise DamagedFile(
                f"ONNX Runtime cannot load {folder.name}: {engine_files.reason(error)}.",
                "Fetch the folder again, and choose one that was built for processors (cpu).",
            ) from error
        # Half of what others read at once: while it reads, nothing else runs in this Python.
        self._at_once = max(8, tokens_at_once(sum(file.stat().st_size for file in folder.glob("*.onnx*"))) // 2)
        self._looked: tuple[tuple[Turn, ...], Any] | None = None

    @classmethod
    def missing(cls) -> str | None:
        if (platform.system(), platform.machine()) == ("Darwin", "x86_64"):
            return "ONNX Runtime GenAI exists for macOS on Apple silicon, Windows and Linux, not for a Mac with Intel"
        return super().missing()

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if card.path and (Path(card.path) / CONFIG).is_file():
            return None
        if card.modalities != ("text",):
            return f"its builder makes folders of text models only; open a folder of this one with a {CONFIG}"
        if card.path:
            file = card.path.endswith(".gguf") or not list(Path(card.path).glob("*.safetensors"))
            return f"it takes a folder of safetensors, or one with a {CONFIG}" if file else None
        if card.embedded or (card.hub and card.model_type):
            return None
        return "its builder needs weights that transformers loads" if card.hub else "its weights are not public"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        own = Path(card.path) if card.path and (Path(card.path) / CONFIG).is_file() else None
        offered = ("onnx",) if own else tuple(engine_files.ONNX_PRECISIONS)
        chosen = precision or ("onnx" if own else engine_files.onnx_default(card))
        if chosen not in offered:
            raise InvalidInput(f"{card.title} cannot be had in {chosen} here.", f"Choose {', '.join(offered)}.")
        folder = own or engine_files.onnx(card, chosen)
        require_memory(sum(file.stat().st_size for file in folder.glob("*.onnx*")), card.title)
        return cls(folder, context=context, threads=threads, precision=chosen)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        return self._vocabulary.tokenize(text, control=control)

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        """Of a model that sees, the processor makes the tokens: those of the images are among them."""
        if not self.sees:
            return super().encode(turns)
        if any(self.tokenize(turn.text) != self.tokenize(turn.text, control=True) for turn in turns):
            raise InvalidInput(
                "The text holds control tokens of this model, and its processor cannot keep them apart.",
                "Take strings such as <|end|> out of the text.",
            )
        text = templates.render(self.template, self._marked(turns), **self.template_tokens)
        inputs = self._inputs(text, turns)
        self._looked = (tuple(turns), inputs)
        return Prompt(tuple(turns), tuple(inputs["input_ids"].as_numpy().flatten().tolist()))

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        if not prompt.tokens:
            raise InvalidInput("The prompt is empty.")
        tokens = self._run(prompt, sampling)
        yield from self._vocabulary.chunks(tokens, len(prompt.tokens))

    def _run(self, prompt: Prompt, sampling: Sampling) -> Iterator[int]:
        """The new tokens, one by one; between two of them the engine rests."""
        import onnxruntime_genai as og

        ids = prompt.tokens or ()
        parameters = og.GeneratorParams(self.model)
        parameters.set_search_options(**search_options(sampling, len(ids), self._everything))
        if sampling.json_schema is not None:
            parameters.set_guidance("json_schema", json.dumps(dict(sampling.json_schema)))
        generator = og.Generator(self.model, parameters)
        self._cancel = cancelled = Event()
        if self.sees:  # images and text are read in one call, which nothing ends
            generator.set_inputs(self._seen(prompt))
        else:
            for start in range(0, len(ids), self._at_once):
                if cancelled.is_set():
                    return
                generator.append_tokens(list(ids[start : start + self._at_once]))
        for _ in range(sampling.max_new_tokens):
            if cancelled.is_set():
                return
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])
            if generator.is_done():
                break

    def _marked(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns with each image's number before the text, counted through the conversation."""
        marked, count = [], 0
        for turn in turns:
            marks = "".join((self._image_text or "").format(count + n + 1) for n in range(len(turn.images)))
            count += len(turn.images)
            marked.append(replace(turn, text=marks + turn.text, images=()))
        return marked

    def _inputs(self, text: str, turns: Sequence[Turn]) -> Any:
        """The named tensors that the processor makes of a prompt and its images."""
        import onnxruntime_genai as og

        shown = [images.as_png_bytes(picture) for turn in turns for picture in turn.images]
        assert self._processor is not None
        return self._processor(text, images=og.Images.open_bytes(*shown) if shown else None)

    def _seen(self, prompt: Prompt) -> Any:
        """What `encode` made of this prompt; a raw completion has no turns, and its text goes to the processor."""
        looked, self._looked = self._looked, None
        if looked and looked[0] == prompt.turns:
            return looked[1]
        if not prompt.turns:
            return self._inputs(self._vocabulary.text(prompt.tokens or ()), ())
        self.encode(prompt.turns)
        return self._seen(prompt)

    def close(self) -> None:
        self.model = self._processor = self._looked = None


def search_options(sampling: Sampling, prompt_tokens: int, vocabulary: int) -> dict[str, Any]:
    """The course's sampling in the engine's words. Its order is transformers': penalty, temperature, top-k, top-p."""
    options: dict[str, Any] = {
        "max_length": prompt_tokens + sampling.max_new_tokens,
        "repetition_penalty": float(sampling.repetition_penalty),
        "do_sample": sampling.temperature > 0,
    }
    if sampling.temperature > 0:
        options |= {"temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
        options["top_k"] = min(sampling.top_k or vocabulary, vocabulary)
        options["random_seed"] = sampling.seed % 2**31  # a negative one would mean a random one
    return options


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config["model"], dict):
            raise TypeError("it has no model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(
            f"The {CONFIG} of {folder.name} cannot be read: {error}.", "Fetch the folder again."
        ) from error
    return config


def _with_threads(model: dict[str, Any], threads: int) -> dict[str, Any]:
    """The same number of threads for each part of the model that is a graph."""
    options = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    parts = [name for name, part in model.items() if isinstance(part, dict) and "filename" in part]
    return {name: {"session_options": options} for name in parts}
