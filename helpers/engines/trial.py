"""One engine in one precision, measured in this process: load, first token, rates, memory, disk, answers.

Each trial is a process of its own, so that its memory is its own and a crash ends nothing else. `benchmark` starts it:

    python -m helpers.engines.trial '{"engine": "llamacpp", "precision": "q4_1"}'

The last line printed is JSON. Seconds bound the measuring of rates: a slow engine writes fewer tokens, not longer.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from helpers import catalog
from helpers.backends import engines
from helpers.chat import Chat, open_chat
from helpers.engines import agreement
from helpers.errors import CourseError
from helpers.intervals import Spread
from helpers.machine import GIB
from helpers.making import quantization
from helpers.measure import peak_memory
from helpers.models import sources
from helpers.models.files import home, remove, sha256
from helpers.records import ModelCard, Reply, Sampling

TRIAL_PROMPT = (
    "The river rises in the mountains and flows south until it reaches the sea. On its banks people have built mills, "
    "bridges and small towns. Tell me a long story about one of these towns."
)
#: The distributions that an engine is installed from, for its size on disk.
PACKAGES = {
    "transformers": ("torch", "transformers"),
    "llamacpp": ("xllamacpp",),
    "onnx-genai": ("onnxruntime-genai", "onnxruntime"),
    "openvino": ("openvino", "openvino-genai", "openvino-tokenizers"),
    "mlx": ("mlx", "mlx-cpu", "mlx-metal", "mlx-lm"),
    "ollama": ("ollama",),
}
#: Formats of llama.cpp's files that are made here, once, from the model's own file.
MADE_HERE = ("f16", "q8_0", "q4_0")
LONGEST, SHORTEST, BRIEF = 64, 8, 12


@dataclass(frozen=True, slots=True)
class Setting:
    """What one trial measures.

    `precision` None takes the engine's own default, and `seconds` bounds the measuring of rates. A `brief` trial asks
    few questions and reads a short text for perplexity, so compare it with brief ones only. A trial whose opening
    converted the model measured no load, so it ends early and says what that took; `again` measures in any case.
    """

    engine: str
    precision: str | None = None
    model: str = "smollm2-135m"
    threads: int | None = None
    seconds: float = 20.0
    repeats: int = 5
    brief: bool = False
    again: bool = False


def run_setting(setting: Setting) -> dict[str, Any]:
    """Everything about one setting, as one row that JSON can hold."""
    import numpy as np  # noqa: F401 - what most trials import is imported before memory is read

    card = catalog.card(setting.model)
    there = _cache()
    path = _path(setting, card)
    before = psutil.Process().memory_info().rss
    with peak_memory() as peak:
        started = time.perf_counter()
        with _open(setting, card, path) as chat:
            loaded = time.perf_counter() - started
            if _cache() != there and not setting.again:
                return {
                    "making_seconds": loaded,
                    "making_memory_gib": max(peak.gib, _childrens_peak_gib()) - before / GIB,
                }
            replies = _answers(chat, setting)
            row: dict[str, Any] = {"answers": {prompt: reply.text for prompt, reply in replies.items()}}
            row |= _speed(chat, setting, next(iter(replies.values()))) | {"perplexity": _perplexity(chat, setting)}
            row |= {"precision": setting.precision or chat.backend.precision, "load_seconds": loaded}
    sizes = _sizes(path or _files(setting, card))
    return row | {
        "peak_memory_gib": peak.gib - before / GIB,
        "version": engines()[setting.engine].version(),
        "model_bytes": sum(sizes) or None,
        "weight_bytes": max(sizes, default=None),
        "engine_bytes": sum(map(_installed, PACKAGES.get(setting.engine, ()))) or None,
    }


def _childrens_peak_gib() -> float:
    """The most memory that one process took that this one started and saw end; 0 on Windows, which does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / GIB


def _cache() -> set[tuple[str, int]]:
    """What the cache folder holds, with times: it changes when opening an engine converts the model."""
    return {(path.name, path.stat().st_mtime_ns) for path in _kept()}


def _kept() -> list[Path]:
    """The models and conversions in the cache folder."""
    folders = [folder for folder in (home(), home() / "engines") if folder.is_dir()]
    return [path for folder in folders for path in folder.iterdir() if path.suffix not in (".lock", ".part")]


def _path(setting: Setting, card: ModelCard) -> Path | None:
    """The GGUF file of a format that is made here; None for the model as the catalog has it."""
    if setting.precision not in MADE_HERE:
        return None
    target = home() / "engines" / f"{card.name}-{setting.precision}.gguf"
    mark = target.with_suffix(".sha256")
    if not (mark.is_file() and target.is_file() and mark.read_text(encoding="utf-8") == sha256(target)):
        remove(target)  # damaged, or made by something else
        quantization.requantize(sources.gguf(card), target, setting.precision)
        mark.write_text(sha256(target), encoding="utf-8")
    return target


def _open(setting: Setting, card: ModelCard, path: Path | None) -> Chat:
    context = min(1024, card.shape.context) if card.shape else 1024
    if path is None:
        options: dict[str, Any] = {"precision": setting.precision, "threads": setting.threads}
        return open_chat(card.name, setting.engine, context=context, **options)
    # Not by open_chat(path): reading the file's header for a card takes longer than the engine takes to load it.
    own = replace(card, embedded=False, path=str(path))
    opened = engines()[setting.engine].open(own, context=context, threads=setting.threads, precision=None)
    return Chat(opened, own, sampling=Sampling())


def _answers(chat: Chat, setting: Setting) -> dict[str, Reply]:
    """The greedy answer to each of the fixed questions; they also warm the engine up."""
    clear, unclear = agreement.fixed_questions("clear"), agreement.fixed_questions("open")
    asked, longest = ([*clear[:2], unclear[0]], BRIEF) if setting.brief else ([*clear, *unclear], LONGEST)
    return {row["prompt"]: _answer(chat, row["prompt"], min(longest, row["max_new_tokens"])) for row in asked}


def _speed(chat: Chat, setting: Setting, first: Reply) -> dict[str, Any]:
    """Time to the first token and rates, each with its spread; the `first` answer told how long is long."""
    chat = chat.another(reuse_prompt=False)
    reading = 2 * first.ttft_seconds  # the prompt is about twice as long
    repeats = setting.repeats if reading < setting.seconds else 1  # reading alone takes too long
    rate = first.decode_tokens_per_second or SHORTEST
    tokens = round(min(LONGEST, max(SHORTEST, (setting.seconds / repeats - reading) * rate)))
    replies = [_answer(chat, TRIAL_PROMPT, tokens) for _ in range(repeats)]
    prompt_tokens = replies[0].prompt_tokens
    measured = {
        "ttft_seconds": [reply.ttft_seconds for reply in replies],
        "prefill_tokens_per_second": [prompt_tokens / r.ttft_seconds for r in replies] if prompt_tokens else [],
        "decode_tokens_per_second": [r.decode_tokens_per_second for r in replies if r.decode_tokens_per_second],
    }
    row: dict[str, Any] = {"repeats": repeats, "prompt_tokens": prompt_tokens, "new_tokens": tokens}
    for name, values in measured.items():
        spread = Spread.of(values) if values else None
        row[name] = spread.median if spread else None
        row[f"{name}_low"], row[f"{name}_high"] = (spread.low, spread.high) if spread else (None, None)
    return row


def _perplexity(chat: Chat, setting: Setting) -> float | None:
    passage = ". ".join(agreement.text().split(". ")[:2]) if setting.brief else None
    return agreement.engine_perplexity(chat, passage)


def _answer(chat: Chat, prompt: str, tokens: int) -> Reply:
    return chat.another().say(prompt, max_new_tokens=tokens)


def _files(setting: Setting, card: ModelCard) -> Path | None:
    """Where the engine's copy of the catalog's model is; None where the engine keeps it elsewhere."""
    if setting.engine == "llamacpp":
        return sources.gguf(card)
    if setting.engine == "transformers":
        return sources.folder(card)
    word = setting.engine.partition("-")[0]
    made = [path for path in _kept() if path.name.startswith(card.name) and word in path.name]
    named = [path for path in made if setting.precision and setting.precision in path.name]
    return max(named or made, key=lambda path: path.stat().st_mtime_ns, default=None)


def _sizes(path: Path | None) -> list[int]:
    """The sizes of the model's files; the largest holds the weights that are read for a token."""
    if path is None:
        return []
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return [file.stat().st_size for file in files]


def _installed(name: str) -> int:
    """The bytes of an installed distribution; 0 where it is not installed."""
    try:
        installed = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return 0
    folder, total = Path(str(installed.locate_file(""))), 0
    for file, _, size in csv.reader((installed.read_text("RECORD") or "").splitlines()):
        with suppress(OSError):  # thousands of files: asked are only those that the list has without a size
            total += int(size) if size else (folder / file).stat().st_size
    return total


def main(arguments: list[str] | None = None) -> int:
    """The command line: one argument, the setting as JSON."""
    given = sys.argv[1:] if arguments is None else arguments
    setting = Setting(**json.loads(given[0]))
    try:
        row = asdict(setting) | run_setting(setting)
    except CourseError as error:
        row = {"reason": str(error)}
    print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
