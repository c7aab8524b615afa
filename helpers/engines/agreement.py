"""Does another engine give the same answers? Agreement of greedy answers with the reference's, and perplexity.

The reference is transformers in bf16. Its greedy answer is a chain of choices, and where two tokens are nearly as
likely, rounding alone decides; from there on two answers have nothing in common. So the fixed questions come in two
kinds. At each token of a *clear* answer the reference prefers its choice to the next by `CLEAR` nats or more: an engine
that answers otherwise is wrong, or its weights are another model's. *Open* answers have near-ties, and show how far an
engine keeps pace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp
from typing import Any

from helpers import machine
from helpers.backends import Backend
from helpers.chat import Chat
from helpers.data import stored
from helpers.errors import InvalidInput

#: The least margin, in nats, of a clear answer.
CLEAR = 0.5
#: OpenVINO's own default would round to bf16 where the processor has it.
OPENVINO_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def fixed_questions(kind: str | None = None) -> list[dict[str, Any]]:
    """The fixed questions of one kind, "clear" or "open", or all: `prompt`, `kind`, `max_new_tokens`, `margin`."""
    return [dict(row) for row in stored("engine_prompts")["prompts"] if kind in (None, row["kind"])]


def text() -> str:
    """The fixed text whose perplexity is compared."""
    return str(stored("engine_prompts")["text"])


def token_agreement(reference: Sequence[int], answer: Sequence[int]) -> float:
    """The share of an answer up to the first token that differs; of the longer of the two, so 1 means equal.

    After that token the two continue different texts, so what agrees there is chance.

    >>> token_agreement([5, 6, 7, 8], [5, 6, 9, 8])
    0.5
    """
    longer = max(len(reference), len(answer))
    shared = next((n for n, (a, b) in enumerate(zip(reference, answer, strict=False)) if a != b), None)
    if shared is None:
        shared = min(len(reference), len(answer))
    return shared / longer if longer else 1.0


def engine_perplexity(chat: Chat, passage: str | None = None) -> float | None:
    """The perplexity of the fixed text, or of another, on this engine; None where it gives no log-probabilities.

    exp(−mean log p(token | tokens before it)) over all tokens but the first, as in `scoring.perplexity`.
    """
    reader = _READERS.get(chat.backend.name)
    if reader is None:
        return None
    ids = chat.backend.tokenize(text() if passage is None else passage)
    if len(ids) < 2:
        raise InvalidInput("Perplexity needs a text of two tokens or more.", "Give a longer text.")
    found = reader(chat.backend, ids)
    return exp(-sum(found) / len(found))


def _by_transformers(backend: Any, ids: list[int]) -> list[float]:
    import torch

    with torch.inference_mode():
        logits = backend.model(torch.tensor([ids], device=backend.model.device)).logits[0].float().log_softmax(-1)
    return [float(logits[place, token]) for place, token in enumerate(ids[1:])]


def _by_llamacpp(backend: Any, ids: list[int]) -> list[float]:
    """llama.cpp tells the probability of the token that it draws, so each token is drawn, one at a time, by a bias.

    The bias does not show in the probabilities. Of half a character, or of an end, none is told: then the token is
    looked for among the likeliest, and if it must be among all, while a whole character is drawn.
    """
    whole = backend.tokenize("a")[-1]
    return [_likelihood(backend, ids[:place], ids[place], whole) for place in range(1, len(ids))]


def _likelihood(backend: Any, before: list[int], token: int, whole: int) -> float:
    if found := _drawn(backend, before, token, listed=1):
        return float(found["logprob"])
    for listed in (100, 1_000_000):  # a list of all takes half a second, and half a character is likely after the first
        for entry in _drawn(backend, before, whole, listed=listed).get("top_logprobs", []):
            if entry["id"] == token:
                return float(entry["logprob"])
    raise InvalidInput(f"llama.cpp gives no probability of the token {token}.", "Is it of this model's vocabulary?")


def _drawn(backend: Any, before: list[int], token: int, *, listed: int) -> dict[str, Any]:
    """What is told of this token as the next one, with so many of the likeliest; empty where nothing is told of it."""
    body = {"prompt": before, "n_predict": 1, "n_probs": listed, "cache_prompt": True, "logit_bias": [[token, 1000.0]]}
    body |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    told: list[dict[str, Any]] = backend.request("/completion", body).get("completion_probabilities", [])
    return told[0] if told and told[0]["id"] == token else {}


def _by_mlx(backend: Any, ids: list[int]) -> list[float]:
    import mlx.core as mx

    return _chosen(backend.model(mx.array([ids]))[0].astype(mx.float32), ids)


def _by_onnx_genai(backend: Any, ids: list[int]) -> list[float]:
    import onnxruntime_genai

    parameters = onnxruntime_genai.GeneratorParams(backend.model)
    parameters.set_search_options(max_length=len(ids) + 1)
    generator = onnxruntime_genai.Generator(backend.model, parameters)
    generator.append_tokens(ids)
    return _chosen(generator.get_output("logits")[0], ids)


def _by_openvino(backend: Any, ids: list[int]) -> list[float]:
    """Its pipeline keeps the logits to itself, so the graph is asked without it, in one pass over the text."""
    import numpy as np
    import openvino

    options = OPENVINO_PRECISION | {"INFERENCE_NUM_THREADS": machine.threads()}
    graph = openvino.Core().compile_model(str(backend.folder / "openvino_model.xml"), "CPU", options)
    given = {name for port in graph.inputs for name in port.names}
    inputs = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
    inputs |= {"position_ids": np.arange(len(ids))[None], "beam_idx": np.zeros(1, np.int32)}
    found = graph.create_infer_request().infer({name: value for name, value in inputs.items() if name in given})
    return _chosen(found["logits"][0], ids)


def _chosen(logits: Any, ids: list[int]) -> list[float]:
    """The log-probability of each token but the first; without torch, which takes longer to import than this."""
    import numpy as np
    from scipy.special import log_softmax

    likely = log_softmax(np.asarray(logits, dtype=np.float32), axis=-1)
    return [float(likely[place, token]) for place, token in enumerate(ids[1:])]


#: Engines that give log-probabilities, and how they are read.
_READERS: dict[str, Callable[[Backend, list[int]], list[float]]] = {
    "transformers": _by_transformers,
    "llamacpp": _by_llamacpp,
    "mlx": _by_mlx,
    "onnx-genai": _by_onnx_genai,
    "openvino": _by_openvino,
}
