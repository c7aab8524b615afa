"""Hugging Face Transformers on PyTorch: the reference, for any model that it loads without code of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from helpers import machine
from helpers.backends import Backend, vision
from helpers.backends.streams import iterate
from helpers.backends.vocabulary import decoded, end_tokens
from helpers.errors import InvalidInput, NotEnoughMemory
from helpers.machine import require_gpu_memory, require_memory
from helpers.models import sources, templates
from helpers.records import Chunk, ModelCard, Picture, Prompt, Sampling, Turn

#: Bytes of one weight in the precisions that this backend can compute with.
PRECISION_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
#: How many tokens of a prompt are read in one pass: attention over a long one would be a minute in one operation.
PREFILL_TOKENS = 512


class Engine(Backend):
    """One model in torch, on the GPU where there is one. With `eyes` it takes images."""

    name = "transformers"
    package = "transformers"
    install = "pip install transformers torch"
    preference = 10
    honours = frozenset({"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"})

    def __init__(
        self, model: Any, tokenizer: Any, *, context: int, precision: str, eyes: vision.Eyes | None = None
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.context, self.precision, self.eyes, self.sees = context, precision, eyes, eyes is not None
        self.template = (eyes.template if eyes else tokenizer.chat_template) or ""
        if eyes:
            self.image_text = None if templates.takes_parts(self.template) else eyes.token
        self.template_tokens = {name: getattr(tokenizer, name) or "" for name in ("bos_token", "eos_token")}
        self._ends = end_tokens(tokenizer, model.generation_config.eos_token_id)

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if card.path:
            return None if any(Path(card.path).glob("*.safetensors")) else "it is no folder of safetensors"
        if card.embedded or card.shipped or (card.hub and card.model_type):
            return None
        if card.hub is None:
            return "its weights are not public"
        return "it has no class for what the repository holds, which would need code of its own"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        precision = precision or machine.precision()
        if precision not in PRECISION_BYTES:
            known = ", ".join(PRECISION_BYTES)
            raise InvalidInput(f"transformers here cannot compute in {precision}.", f"Choose {known}.")
        # Before anything is downloaded for it. A file may store more numbers than the model has parameters.
        require_memory(card.numbers * PRECISION_BYTES[precision], card.title)
        require_gpu_memory(card.numbers * PRECISION_BYTES[precision], card.title)
        folder = sources.folder(card)
        import torch
        from transformers import AutoTokenizer
        from transformers.utils import logging

        torch.set_num_threads(threads or machine.threads())
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        logging.disable_progress_bar()
        kind = vision.kind(folder)
        # use_safetensors: a pickle could run code while it is read.
        model = vision.loader(kind).from_pretrained(folder, dtype=dtype, use_safetensors=True)
        eyes = vision.eyes(folder, kind, model)
        tokenizer = eyes.tokenizer if eyes else AutoTokenizer.from_pretrained(folder)
        return cls(machine.placed(model, card.title), tokenizer, context=context, precision=precision, eyes=eyes)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
        return ids

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        prompt = super().encode(turns)
        if self.eyes is None:
            return prompt
        return Prompt(prompt.turns, tuple(self.eyes.expand(prompt.tokens or (), _shown(turns))))

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        ids, shown = list(prompt.tokens or ()), _shown(prompt.turns)
        self._cancel = Event()
        tokens: Generator[int, None, None] = iterate(
            lambda put, cancelled: self._run(ids, shown, sampling, put, cancelled), cancelled=self._cancel
        )
        with closing(tokens):
            yield from decoded(tokens, self.tokenizer.backend_tokenizer, self._ends, len(ids))

    def _run(self, ids: list[int], shown: tuple[Picture, ...], sampling: Sampling, put: Any, cancelled: Event) -> None:
        """transformers' own generation loop, each new token handed to `put`."""
        import torch
        from transformers import StoppingCriteriaList

        prompt = torch.tensor([ids], device=self.model.device)
        features = self.eyes.look(shown).features if self.eyes and shown else {}
        vision.use_adapter(self.model, bool(shown))
        with torch.random.fork_rng(), torch.inference_mode(), _leaving(self.model, cancelled) as arrived:
            torch.manual_seed(sampling.seed)
            try:
                self.model.generate(
                    inputs=prompt,
                    attention_mask=torch.ones_like(prompt),
                    **{name: self._placed(value) for name, value in features.items()},
                    generation_config=self._config(sampling, None if features else PREFILL_TOKENS),
                    streamer=_Streamer(put, arrived),
                    stopping_criteria=StoppingCriteriaList([lambda *_, **__: cancelled.is_set()]),
                )
            except torch.OutOfMemoryError as error:
                raise NotEnoughMemory(
                    f"The GPU's memory became full while a prompt of {len(ids):,} tokens was answered.",
                    "Send less text, shut down other notebooks' kernels, or open the model in fewer bits.",
                ) from error

    def _placed(self, values: Any) -> Any:
        """A tensor on the model's device; real numbers in the model's precision."""
        return values.to(self.model.device, self.model.dtype if values.is_floating_point() else None)

    def _config(self, sampling: Sampling, prefill_tokens: int | None) -> Any:
        from transformers import GenerationConfig

        options: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            options = {"do_sample": True, "temperature": float(sampling.temperature), "top_p": float(sampling.top_p)}
            options["top_k"] = sampling.top_k
        return GenerationConfig(
            max_new_tokens=sampling.max_new_tokens,
            repetition_penalty=float(sampling.repetition_penalty),
            eos_token_id=self._ends,
            pad_token_id=self._ends[0],
            prefill_chunk_size=prefill_tokens,
            **options,
        )

    def close(self) -> None:
        self.model = self.eyes = None


def _shown(turns: Sequence[Turn]) -> tuple[Picture, ...]:
    """The images of a conversation, in order."""
    return tuple(picture for turn in turns for picture in turn.images)


class _Left(Exception):
    """Nobody waits for the pass through the model any more."""


@contextmanager
def _leaving(model: Any, cancelled: Event) -> Iterator[Callable[[], None]]:
    """Ends a pass through the model at its next layer once `cancelled` is set; call what it gives to look no longer.

    Between two tokens a stopping criterion is asked, and a look at each of hundreds of layers would cost every token
    some time. But the first token comes after the whole prompt.
    """

    def look(*_: Any) -> None:
        if cancelled.is_set():
            raise _Left

    hooks = [module.register_forward_pre_hook(look) for module in model.modules()]

    def remove() -> None:
        while hooks:
            hooks.pop().remove()

    try:
        yield remove
    except _Left:
        pass
    finally:
        remove()


class _Streamer:
    """What `generate` calls with the prompt first and then with each new token."""

    def __init__(self, put: Any, arrived: Callable[[], None]) -> None:
        self._put, self._arrived, self._past_prompt = put, arrived, False

    def put(self, value: Any) -> None:
        if self._past_prompt:
            self._arrived()
            for token in value.flatten().tolist():
                self._put(token)
        self._past_prompt = True

    def end(self) -> None:
        """Nothing is held back."""
