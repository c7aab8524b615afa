"""One file for each engine here, and for each SDK that reaches a provider: a module with a class `Engine`.

    engine_for("auto", card)                    the engine of this machine that opens a model
    reach(card, "auto", provider="nim", …)      the model at a provider, through an SDK

A backend joins by being here. Nothing heavy is imported before it opens a model, so listing them costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from helpers import catalog
from helpers.backends import providers
from helpers.errors import BackendUnavailable, InvalidInput, UnsupportedOption
from helpers.models import templates
from helpers.records import Chunk, ModelCard, Prompt, Sampling, Turn

if TYPE_CHECKING:
    from helpers.backends.hosted import Hosted


class Backend(ABC):
    """One loaded model on one engine.

    A subclass states its `name`, the `package` it needs and the sampling options it `honours`, and implements
    `serves`, `open`, `tokenize` and the one generator `generate`. Stop strings, timing, history and the context limit
    are the chat's work, the same for all.

    An engine whose opened model takes images sets `sees`, and overrides `encode` so that the prompt's tokens count
    them too. `generate` finds them in the prompt's turns, as `Picture`s that `helpers.images` has read.
    """

    name: ClassVar[str]
    package: ClassVar[str | None] = None
    #: What to type when the package is missing.
    install: ClassVar[str] = ""
    #: Higher is tried first by `backend="auto"`.
    preference: ClassVar[int] = 0
    honours: ClassVar[frozenset[str]] = frozenset({"max_new_tokens", "seed", "stop"})
    #: Whether it is an SDK: its models run elsewhere, at a provider.
    hosted: ClassVar[bool] = False

    #: Tokens that prompt and answer may take together.
    context: int
    #: The number format of the weights as they are computed with, as in "bf16" or "q4_1".
    precision: str
    #: The model's chat template, and the variables it uses, such as `bos_token`.
    template: str
    template_tokens: Mapping[str, str] = MappingProxyType({})
    #: Whether the opened model takes images.
    sees: bool = False
    #: What stands for an image in the text of a prompt; None where the chat template writes it itself.
    image_text: str | None = ""
    #: Whether the chat has closed it: its model is no longer in memory.
    closed: bool = False
    #: What `cancel` sets; `generate` makes a new one for each answer.
    _cancel: threading.Event = threading.Event()

    @classmethod
    def missing(cls) -> str | None:
        """Why this engine cannot run here, as a sentence; None when it can."""
        if cls.package is None or importlib.util.find_spec(cls.package.replace("-", "_")) is not None:
            return None
        return f"the package {cls.package} is not installed: {cls.install}"

    @classmethod
    def version(cls) -> str | None:
        """The installed version of the engine's package; None where it needs none or has none."""
        try:
            return importlib.metadata.version(cls.package) if cls.package else None
        except importlib.metadata.PackageNotFoundError:
            return None

    @classmethod
    @abstractmethod
    def serves(cls, card: ModelCard) -> str | None:
        """Why this engine cannot serve the model, as a sentence; None when it can."""

    @classmethod
    @abstractmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Backend:
        """The model loaded and warm; None takes the engine's own default."""

    @abstractmethod
    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """The token ids of a text. `control` tells whether strings such as `<|im_end|>` become control tokens."""

    @abstractmethod
    def generate(self, prompt: Prompt, sampling: Sampling) -> Iterator[Chunk]:
        """The answer, piece by piece; the last chunk has a `finish_reason`. Closing the iterator stops the engine."""

    def encode(self, turns: Sequence[Turn]) -> Prompt:
        """The turns through the chat template, ending where the assistant's answer begins.

        What a person typed never becomes a control token. A text without such strings is tokenized in one go with
        its template, exactly as the model was trained; only one that has them is tokenized piece by piece.
        """
        if not self.sees and any(turn.images for turn in turns):
            raise self.blind("The opened model")
        if all(self.tokenize(t.text) == self.tokenize(t.text, control=True) for t in turns):
            text = templates.render(self.template, turns, image=self.image_text, **self.template_tokens)
            ids = self.tokenize(text, control=True)
        else:
            parts = templates.pieces(self.template, turns, image=self.image_text, **self.template_tokens)
            ids = [i for text, typed in parts for i in self.tokenize(text, control=not typed)]
        return Prompt(tuple(turns), tuple(ids))

    def blind(self, who: str) -> InvalidInput:
        """The refusal to show images to a model that reads text only here."""
        seeing = [c.name for c in catalog.cards() if "image" in c.modalities and (c.hub or c.shipped or c.tags)]
        return InvalidInput(
            f"{who} reads only text on the backend {self.name!r}: it cannot look at an image.",
            f"Open a model that sees: {', '.join(seeing)}.",
        )

    def cancel(self) -> None:
        """Ends the answer that is being written or the prompt that is being read, from any thread; what came stays."""
        self._cancel.set()

    def close(self) -> None:
        """Frees what the engine holds; closing twice is harmless."""

    def check(self, sampling: Sampling) -> None:
        """Refuses, in a sentence, every changed option that this backend does not honour."""
        refused = sorted(sampling.changed() - self.honours)
        if refused:
            raise UnsupportedOption(
                f"The backend {self.name!r} cannot honour {', '.join(refused)}.",
                f"Leave it out, or choose a backend that can; this one takes {', '.join(sorted(self.honours))}.",
            )


@cache
def _backends() -> list[type[Backend]]:
    """Every backend of this folder, preferred ones first."""
    found: list[type[Backend]] = []
    for module in pkgutil.iter_modules(__path__):
        engine = getattr(importlib.import_module(f"{__name__}.{module.name}"), "Engine", None)
        if engine is not None:
            found.append(engine)
    return sorted(found, key=lambda engine: (-engine.preference, engine.name))


def engines() -> dict[str, type[Backend]]:
    """The engines that compute on this machine, by name, preferred ones first."""
    return {engine.name: engine for engine in _backends() if not engine.hosted}


def usual_engines() -> list[type[Backend]]:
    """The engines that "auto" chooses from, the fastest first; the others are for what they are asked for by name."""
    return [engine for engine in engines().values() if engine.preference > 0]


def sdks() -> dict[str, type[Hosted]]:
    """The SDKs that reach providers, by name."""
    return {sdk.name: sdk for sdk in _backends() if sdk.hosted}  # type: ignore[misc]


def reach(card: ModelCard, backend: str, *, provider: str | None, sdk: str | None, context: int) -> Backend:
    """The model at a provider. An SDK's name may be cut short, as in "azure"; None takes the provider's first."""
    known = ", ".join(sdks())
    if provider is None:
        raise InvalidInput(f"sdk={sdk!r} says how a provider is reached, and none is named.", "Add provider='local'.")
    row = providers.provider(provider)
    if backend != "auto":
        raise InvalidInput(
            f"backend={backend!r} names an engine of this machine, and here the model runs at {row.title}.",
            f"Leave it out. Which SDK reaches the provider is said by sdk=, one of {known}.",
        )
    asked = set((sdk or row.sdks[0]).lower().split("-"))
    fitting = [one for one in sdks().values() if asked <= set(one.name.split("-"))]
    if len(fitting) != 1:
        raise InvalidInput(f"There is no SDK {sdk!r}.", f"Choose one of {known}.")
    reason = fitting[0].missing()
    if reason:
        raise BackendUnavailable(f"The SDK {fitting[0].name!r} cannot be used: {reason}.")
    if fitting[0].name not in row.sdks:
        raise BackendUnavailable(f"{row.title} is reached with {' or '.join(row.sdks)}, not with {fitting[0].name!r}.")
    return fitting[0](card, row, context=context)


def engine_for(name: str, card: ModelCard) -> type[Backend]:
    """The engine called `name`, or for "auto" the first that is installed and serves the model."""
    known = engines()
    if card.task != "chat":
        raise InvalidInput(f"{card.title} writes no answers: {card.note}", "Call helpers.models.embed(texts) for it.")
    if name != "auto":
        if name in sdks():
            step = f"Say where the model runs: open_chat({card.name!r}, provider='local', sdk={name!r})."
            raise InvalidInput(f"{name!r} is no engine, but an SDK that reaches providers.", step)
        if name not in known:
            raise InvalidInput(f"There is no backend {name!r}.", f"Choose one of: auto, {', '.join(known)}.")
        reason = known[name].missing() or known[name].serves(card)
        if reason:
            message = f"The backend {name!r} cannot open {card.name!r}: {reason}.{_needs(card)}"
            raise BackendUnavailable(message, _elsewhere(card).strip())
        return known[name]
    reasons = {}
    for engine in usual_engines():
        reason = engine.missing() or engine.serves(card)
        if reason is None:
            return engine
        reasons[engine.name] = reason
    raise BackendUnavailable(
        f"No backend here can open {card.name!r}: "
        + "; ".join(f"{engine}: {reason}" for engine, reason in reasons.items())
        + f".{_needs(card)}",
        f"Install one of them, or open a model that runs here, such as 'smollm2-135m'.{_elsewhere(card)}",
    )


def _needs(card: ModelCard) -> str:
    """What a model takes of a machine, as further sentences."""
    size = card.hub.download_bytes if card.hub else None
    if not size:
        return ""
    memory = f"{1.2 * size / 2**30:.1f} GiB of memory"
    return f" {card.title} is a download of {size / 1e9:.1f} GB and takes about {memory}. {card.note}".rstrip()


def _elsewhere(card: ModelCard) -> str:
    """Other ways to a model, as further sentences: a folder that an engine opens, and where it runs for others."""
    ways = ""
    if "onnx-genai" in card.tags:
        ways = f" Download {card.tags['onnx-genai']} from a hub, and open its cpu folder with backend='onnx-genai'."
    rows = [row.name for row in providers.providers() if row.tag in card.tags and not row.retired_for(card)]
    if rows:
        ways += f" Elsewhere it runs at {', '.join(rows)}: open_chat({card.name!r}, provider={rows[0]!r})."
    return ways
