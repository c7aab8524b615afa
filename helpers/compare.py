"""Two models side by side, or two settings of one: the same prompts, one table, one picture.

    table = compare({"four bits": open_chat("smollm2-135m"), "Phi": open_chat("phi-4-mini")}, ["用中文说你好。"])

To compare settings, open the model once and take a `variant` of the chat for each of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from helpers.chat import Chat, sampling_of
from helpers.errors import InvalidInput
from helpers.records import Turn

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def variant(chat: Chat, *, system: str | None = None, history: Sequence[Turn] = (), **sampling: Any) -> Chat:
    """A new conversation with the model that `chat` has open, under other settings, after the turns of `history`.

    Both share the engine: nothing is loaded again, and closing either closes it for both.
    """
    options = sampling_of(chat.sampling, sampling)
    new = Chat(chat.backend, chat.card, system=system, sampling=options, shorten=chat.shorten)
    new._turns = list(history)
    return new


@contextmanager
def prompt_cache(chat: Chat, reuse: bool) -> Iterator[None]:
    """While the block runs, tokens that a prompt shares with the one before are taken from the KV cache, or not."""
    before = chat.backend.reuse_prompt
    chat.backend.reuse_prompt = reuse
    try:
        yield
    finally:
        chat.backend.reuse_prompt = before


def compare(chats: Mapping[str, Chat] | Sequence[Chat], prompts: Sequence[str], **sampling: Any) -> pd.DataFrame:
    """One row for each prompt and chat: the answer, its tokens, its seconds and its decode rate.

    Each prompt is asked without history, in any language. Chats without names are called after model, engine and
    precision. `seconds` run from the question to the last token. Each chat is warmed up on the first prompt before.
    """
    import pandas as pd

    named = dict(chats) if isinstance(chats, Mapping) else _names(chats)
    if isinstance(prompts, str) or not prompts or not named:
        raise InvalidInput("A comparison takes at least one chat and a list of at least one prompt.")
    for chat in named.values():
        _ask(chat, prompts[0], sampling | {"max_new_tokens": 1})
    rows = []
    for number, prompt in enumerate(prompts, start=1):
        for name, chat in named.items():
            rows.append({"prompt_number": number, "prompt": prompt, "chat": name} | _ask(chat, prompt, sampling))
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> tuple[Axes, Axes]:
    """Two Axes: seconds for each prompt, by its number, and the decode rate of each chat over all prompts."""
    import matplotlib.pyplot as plt

    from helpers import plots

    plots.use_theme()
    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained", width_ratios=(3, 2))
    chats = list(dict.fromkeys(table["chat"]))
    rate = table.dropna(subset=["decode_tokens_per_second"]).groupby("chat", sort=False)["decode_tokens_per_second"]
    for number, name in enumerate(chats):
        part, shade = table[table["chat"] == name], plots.OTHERS[number % len(plots.OTHERS)]
        width = 0.8 / len(chats)
        places = part["prompt_number"] + (number - (len(chats) - 1) / 2) * width
        left.bar(places, part["seconds"], width * 0.92, color=shade, label=name)
        if name in rate.groups:
            rates = rate.get_group(name)
            middle = rates.median()
            arms = [[middle - rates.min()], [rates.max() - middle]]
            right.errorbar(middle, -number, xerr=arms, fmt="o", **(plots.SPREAD | {"color": shade}))
    left.set(xlabel="prompt", ylabel="whole answer (s)", xticks=sorted(set(table["prompt_number"])))
    left.grid(axis="x", visible=False)
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(chats))
    right.set(yticks=[-n for n in range(len(chats))], xlabel="decode (tokens/s), median and range")
    right.set_yticklabels(chats)
    right.set_ylim(-len(chats) + 0.4, 0.6)
    right.set_xlim(left=0)
    return left, right


def _names(chats: Sequence[Chat]) -> dict[str, Chat]:
    names = [f"{chat.card.name}, {chat.backend.name} {chat.backend.precision}" for chat in chats]
    twice = {name for name, count in Counter(names).items() if count > 1}
    if twice:
        raise InvalidInput(
            f"Two chats would both be called {min(twice)!r}.",
            'Name them: compare({"cold": one, "warm": two}, prompts).',
        )
    return dict(zip(names, chats, strict=True))


def _ask(chat: Chat, prompt: str, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The answer and its cost, in a conversation of its own, so that the chat's history stays as it is."""
    system = next((turn.text for turn in chat.history if turn.role == "system"), None)
    with prompt_cache(chat, reuse=False):  # or the second of two alike prompts would seem fast
        started = time.perf_counter()
        reply = variant(chat, system=system).say(prompt, **sampling)
        seconds = time.perf_counter() - started
    return {
        "answer": reply.text,
        "prompt_tokens": reply.prompt_tokens,
        "new_tokens": reply.new_tokens,
        "seconds": seconds,
        "decode_tokens_per_second": reply.decode_tokens_per_second,
    }
