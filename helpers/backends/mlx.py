"""Apple MLX, through mlx-lm: on a Mac the GPU and the processor compute in the memory that they share.

MLX also exists for Linux, where it computes on the processor: a way to try it, several times slower than the other
engines there. The weights come from the folder that transformers loads, converted once.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Event
from typing import Any

from helpers.backends import Backend
from helpers.backends.streams import tokens_at_once
from helpers.backends.vocabulary import decoded, end_tokens
from helpers.errors import BackendUnavailable, InvalidInput
from helpers.machine import require_memory
from helpers.models import sources
from helpers.models.engine_files import EXPORT_BITS, converted
from helpers.records import Chunk, ModelCard, Prompt, Sampling

#: MLX takes several times as long on a processor as engines that were made for one. A GPU reads many tokens a second.
SLOWER_ON_PROCESSORS, GPU_PREFILL_TOKENS = 4, 512
MLX_SYSTEMS = "Apple MLX exists for macOS on Apple silicon and, computing on the processor, for Linux"


class _Left(Exception):
    """Nobody waits for the answer any more."""


class Engine(Backend):
    """One model in MLX. The KV cache of the last prompt is kept, so that a conversation is not read twice."""

    name = "mlx"
    package = "mlx-lm"
    install = f"python3 course.py lab --engines. {MLX_SYSTEMS}"
    honours = frozenset({"max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"})

    def __init__(self, model: Any, tokenizer: Any, *, ends: list[int], context: int, precision: str) -> None:
        self.model, self.tokenizer, self._ends = model, tokenizer, ends
        self.context, self.precision = context, precision
        self.template = tokenizer.chat_template or ""
        self.template_tokens = {name: getattr(tokenizer, name) or "" for name in ("bos_token", "eos_token")}
        self._cache: list[Any] = []
        self._cached: list[int] = []
        self._at_once = self._tokens_at_once()

    def _tokens_at_once(self) -> int:
        """How many tokens of a prompt are read before a look whether to stop."""
        import mlx.core as mx
        from mlx.utils import tree_flatten

        if mx.default_device() != mx.cpu:
            return GPU_PREFILL_TOKENS
        weights = sum(weight.nbytes for _, weight in tree_flatten(self.model.parameters()))
        return max(8, tokens_at_once(weights, "Linux") // SLOWER_ON_PROCESSORS)

    @classmethod
    def missing(cls) -> str | None:
        if not exists_for(platform.system(), platform.machine()):
            return f"{MLX_SYSTEMS}, not for {platform.system()} on {platform.machine()}"
        return super().missing()

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if card.path:
            return "it is a GGUF file" if card.path.endswith(".gguf") else None
        if card.modalities != ("text",):
            return "mlx-lm computes models of text alone"
        if card.embedded or (card.hub and card.model_type):
            return None
        return "mlx-lm has no class for it" if card.hub else "its weights are not public"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        """`threads` changes nothing: MLX divides its work itself."""
        precision = precision or "bf16"
        if precision not in EXPORT_BITS:
            raise InvalidInput(f"MLX here cannot compute in {precision}.", f"Choose {', '.join(EXPORT_BITS)}.")
        source = sources.folder(card)
        require_memory(int(card.numbers * EXPORT_BITS[precision] / 8), card.title)
        with _process_left_alone(card):
            import mlx.core as mx
            from mlx_lm.utils import load_model
        from transformers import AutoTokenizer

        if mx.default_device() == mx.cpu:
            # On a processor, mx.compile calls g++ while the model runs, and most learners have none.
            mx.disable_compile()
        model, config = load_model(converted(card, source, precision))
        tokenizer = AutoTokenizer.from_pretrained(source)
        return cls(
            model,
            tokenizer,
            ends=end_tokens(tokenizer, config.get("eos_token_id")),
            context=context,
            precision=precision,
        )

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=not control)["input_ids"]
        return ids

    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        ids = list(prompt.tokens or ())
        if not ids:
            raise InvalidInput("The prompt is empty.")
        with closing(self._run(ids, sampling, prompt.reuse)) as tokens:
            yield from decoded(tokens, self.tokenizer.backend_tokenizer, self._ends, len(ids))

    def _run(self, ids: list[int], sampling: Sampling, reuse: bool) -> Any:
        """The new tokens, one by one, by mlx-lm's own loop."""
        import mlx.core as mx
        from mlx_lm.generate import generate_step
        from mlx_lm.sample_utils import make_logits_processors

        penalty = None if sampling.repetition_penalty == 1 else sampling.repetition_penalty
        self._cancel = cancelled = Event()

        def look(*_: int) -> None:
            if cancelled.is_set():
                raise _Left

        known = self._recall(ids) if reuse else self._forget()
        steps = generate_step(
            mx.array(ids[known:]),
            self.model,
            max_tokens=sampling.max_new_tokens,
            sampler=sampler(sampling),
            # mlx-lm shows a processor the tokens that it feeds; those that the cache already holds are put before.
            logits_processors=[
                _over(ids[:known], process)
                for process in make_logits_processors(repetition_penalty=penalty, repetition_context_size=self.context)
            ],
            prompt_cache=self._cache,
            prefill_step_size=self._at_once,
            prompt_progress_callback=look,
        )
        self._cached = list(ids)
        with closing(steps), suppress(_Left):
            for token, _ in steps:
                self._cached.append(token)
                yield token
                look()

    def _recall(self, ids: list[int]) -> int:
        """Cuts the KV cache to what it has in common with a new prompt; how many tokens that is."""
        from mlx_lm.models import cache

        fed = self._cache[0].offset if self._cache else 0
        known = _common(self._cached[:fed], ids[:-1])  # the last token is always read: its logits are wanted
        if not (known and cache.can_trim_prompt_cache(self._cache)):
            return self._forget()
        cache.trim_prompt_cache(self._cache, fed - known)
        return known

    def _forget(self) -> int:
        """Empties the KV cache; the 0 tokens that it then holds."""
        from mlx_lm.models import cache

        self._cache = cache.make_prompt_cache(self.model)
        return 0

    def close(self) -> None:
        self.model, self._cache = None, []


def exists_for(system: str, processor: str) -> bool:
    """Whether MLX is published for such a machine.

    >>> exists_for("Darwin", "arm64"), exists_for("Darwin", "x86_64"), exists_for("Windows", "AMD64")
    (True, False, False)
    """
    return (system, processor) in {("Darwin", "arm64"), ("Linux", "x86_64"), ("Linux", "aarch64")}


def sampler(sampling: Sampling) -> Callable[[Any], Any]:
    """From log-probabilities to a token, in the order that the course promises: temperature, top-k, top-p."""
    import mlx.core as mx
    from mlx_lm.sample_utils import apply_top_k, apply_top_p

    key = mx.random.key(sampling.seed)

    def choose(logprobs: Any) -> Any:
        nonlocal key
        if sampling.temperature == 0:
            return mx.argmax(logprobs, axis=-1)
        key, now = mx.random.split(key)
        logits = logprobs.astype(mx.float32) / sampling.temperature
        if 0 < sampling.top_k < logits.shape[-1]:
            logits = apply_top_k(logits, sampling.top_k)
        if sampling.top_p < 1:
            logits = apply_top_p(logits - mx.logsumexp(logits, axis=-1, keepdims=True), sampling.top_p)
        return mx.random.categorical(logits, key=now)

    return choose


def _over(before: list[int], process: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    import mlx.core as mx

    return lambda tokens, logits: process(mx.concatenate([mx.array(before, dtype=tokens.dtype), tokens]), logits)


def _common(known: list[int], wanted: list[int]) -> int:
    pairs = zip(known, wanted, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(known), len(wanted)))


@contextmanager
def _process_left_alone(card: ModelCard) -> Iterator[None]:
    """Imports MLX without its change to the process: mlx-lm lowers the number of files that may be open."""
    import resource

    own = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    except ImportError as error:
        raise BackendUnavailable(
            f"MLX cannot open {card.name!r}: it is not installed whole ({error}).", Engine.install
        ) from error
    finally:
        resource.setrlimit = own
