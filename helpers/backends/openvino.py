"""Intel OpenVINO GenAI: reads a GGUF file itself and compiles its graph for this processor, once.

It is given token ids from the course's tokenizer, since its own reading of a GGUF lacks what that mends.
It reads the format Q4_1 with a loss: a block's minimum, a real number in the file, becomes a whole number of steps. For
the embedded model that costs as much again as rounding its weights to 4 bits did: each about 9 % of a weight, root mean
square.

It asks whether to stop after each token of an answer and never while it reads a prompt, so that reading a long one
cannot be interrupted.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from helpers import machine
from helpers.backends import Backend
from helpers.backends.streams import iterate
from helpers.backends.vocabulary import Vocabulary
from helpers.errors import DamagedFile, InvalidInput
from helpers.machine import require_memory
from helpers.models import engine_files
from helpers.records import Chunk, ModelCard, Prompt, Sampling

GRAPH = "openvino_model.xml"
#: The kinds of models whose GGUF files it reads.
READABLE_KINDS = ("llama", "qwen2", "qwen3")
OPENVINO_SYSTEMS = "It exists for Windows and Linux, and for macOS on Apple silicon"
_ELSEWHERE = {("Darwin", "x86_64"): "a Mac with Intel", ("Windows", "ARM64"): "Windows on Arm"}


class Engine(Backend):
    """One graph of OpenVINO on the processor."""

    name = "openvino"
    package = "openvino-genai"
    install = f"python3 course.py lab --engines. {OPENVINO_SYSTEMS}"
    honours = frozenset(
        {"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "json_schema"}
    )

    def __init__(
        self, folder: Path, *, context: int, threads: int | None, precision: str, cache: Path | None = None
    ) -> None:
        import openvino_genai

        self.context, self.precision, self.folder = context, precision, folder
        self._vocabulary = Vocabulary(folder)
        self.template, self.template_tokens = self._vocabulary.template, self._vocabulary.template_tokens
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads or machine.threads()}
        options |= engine_files.OPENVINO_OPTIONS
        if cache is not None:
            options["CACHE_DIR"] = str(cache)
        try:
            self._pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", **options)
        except RuntimeError as error:
            raise DamagedFile(
                f"OpenVINO cannot load {folder.name}: {engine_files.reason(error)}.", "Fetch the folder again."
            ) from error
        self._warm_up()

    @classmethod
    def missing(cls) -> str | None:
        elsewhere = _ELSEWHERE.get((platform.system(), platform.machine()))
        return f"OpenVINO does not exist for {elsewhere}. {OPENVINO_SYSTEMS}" if elsewhere else super().missing()

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if card.modalities != ("text",):
            return "the course's OpenVINO backend computes models of text alone"
        if card.path:
            graph = (Path(card.path) / GRAPH).is_file()
            return None if graph or card.path.endswith(".gguf") else f"it takes a GGUF file, or a folder with {GRAPH}"
        if card.gguf and card.model_type in READABLE_KINDS:
            return None
        if card.gguf:
            return "it reads GGUF files of llama, qwen2 and qwen3, and this is another kind"
        return f"it needs a GGUF file, or a folder with {GRAPH}; the catalog knows none of this model"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        own = Path(card.path) if card.path and (Path(card.path) / GRAPH).is_file() else None
        stored = "openvino" if own else card.gguf.precision if card.gguf else "gguf"
        if precision not in (None, stored):
            raise InvalidInput(
                f"OpenVINO computes with the numbers its file holds, here {stored}, not {precision}.",
                "Leave precision out, or open a file in that precision.",
            )
        # The sizes are asked before anything is converted: unpacking takes the memory of running.
        size = (own / GRAPH).with_suffix(".bin").stat().st_size if own else engine_files.gguf_bytes(card)
        require_memory(3 * size, card.title)
        folder = own or engine_files.openvino(card)
        return cls(folder, context=context, threads=threads, precision=stored, cache=None if own else folder)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        return self._vocabulary.tokenize(text, control=control)

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        ids = list(prompt.tokens or ())
        if not ids:
            raise InvalidInput("The prompt is empty.")
        self._cancel = Event()
        tokens: Iterator[int] = iterate(
            lambda put, cancelled: self._run(ids, sampling, put, cancelled), cancelled=self._cancel
        )
        yield from self._vocabulary.chunks(tokens, len(ids))

    def _run(self, ids: list[int], sampling: Sampling, put: Any, cancelled: Event) -> None:
        """OpenVINO's own generation loop, each new token handed to `put`."""
        import numpy as np
        import openvino
        import openvino_genai

        class Streamer(openvino_genai.StreamerBase):
            def write(self, token: Any) -> Any:
                for one in [token] if isinstance(token, int) else token:
                    put(one)
                status = openvino_genai.StreamingStatus
                return status.CANCEL if cancelled.is_set() else status.RUNNING

            def end(self) -> None:
                """Nothing is held back."""

        prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
        self._pipeline.generate(prompt, self._config(sampling), Streamer())

    def _warm_up(self) -> None:
        """Reads one short prompt: kernels are made at first use, which would be the first answer's second."""
        for _ in self.generate(Prompt((), tuple(range(32))), Sampling(max_new_tokens=2)):
            pass

    def _config(self, sampling: Sampling) -> Any:
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = sampling.max_new_tokens
        config.stop_token_ids = set(self._vocabulary.ends)
        config.repetition_penalty = float(sampling.repetition_penalty)
        if sampling.temperature > 0:
            config.do_sample, config.rng_seed = True, sampling.seed
            config.temperature, config.top_p = float(sampling.temperature), float(sampling.top_p)
            if sampling.top_k:
                config.top_k = sampling.top_k
        if sampling.json_schema is not None:
            schema = json.dumps(dict(sampling.json_schema))
            config.structured_output_config = openvino_genai.StructuredOutputConfig(json_schema=schema)
        return config

    def close(self) -> None:
        self._pipeline = None
