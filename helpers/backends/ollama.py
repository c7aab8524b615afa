"""Ollama, a program of its own on this machine: which models it has, how to get one, and one of them as an engine.

It has llama.cpp and its kin inside and answers at `OLLAMA_HOST`, by default on port 11434 of loopback. Its OpenAI
routes are reached like any provider's: `open_chat("phi-4-mini", provider="ollama")`. Its native ones
(https://docs.ollama.com/api), spoken here through the official client, add what those lack: the size of the context,
top-k, the number of threads.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from helpers import catalog, errors, machine
from helpers.backends import providers
from helpers.backends.faults import broken_line, refusal, unreadable
from helpers.backends.hosted import Hosted, Patience, Piece
from helpers.backends.remote import Key, Route, client, fetch
from helpers.errors import CourseError, InvalidInput, ModelUnavailable, UnknownModel, UnsupportedOption
from helpers.records import Chunk, ModelCard, Prompt, Sampling, Turn

HOW_TO_INSTALL = "python3 course.py lab --engines"
#: Since this version an answer can be held to a JSON schema.
OLDEST_OLLAMA = (0, 5)
#: Four bits a weight and a scale for each small block of them, as Ollama's library keeps most models.
LIBRARY_BYTES = 0.6
#: A model that is asked for the first time is read from the disk, which can take minutes.
READ_SECONDS = 300.0
#: The words with which a pull fails or a model does not load, and what they mean.
SAID_BY_OLLAMA: tuple[tuple[str, type[CourseError], str, str], ...] = (
    (r"newer version", errors.RequestRefused, "This Ollama is too old for {model}.", "Update it: {start}."),
    (r"file does not exist", errors.ModelGone, "Ollama's library has no model {model!r}.", "See ollama.com/search."),
    (r"no space left", errors.NotEnoughDisk, "The disk became full while Ollama stored {model}.", "Free some space."),
    (r"more system memory", errors.NotEnoughMemory, "{model} does not fit into memory.", "Open a smaller model."),
)
#: What Ollama would otherwise set by itself: it means the same here as on every backend.
NEUTRAL = {"repeat_penalty": 1.0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
INSTRUCTIONS = {
    "Darwin": "get the app from https://ollama.com/download and open it, or `brew install ollama` and `ollama serve`",
    "Windows": "`winget install Ollama.Ollama`, or the installer from https://ollama.com/download; "
    "it then runs beside the clock, and the Start menu starts it again",
    "Linux": "`curl -fsSL https://ollama.com/install.sh | sh`, then `ollama serve` where it does not run yet",
}


def native_route() -> Route:
    """The way to the native routes."""
    way = providers.route("ollama")
    return Route(way.title, way.address.removesuffix("/v1"))


def how_to_start() -> str:
    """What to type on this system to have an Ollama that answers."""
    return INSTRUCTIONS.get(platform.system(), "see https://ollama.com/download")


def version(*, seconds: float = 2.0) -> str:
    """The version of the Ollama that answers."""
    way = native_route()
    try:
        return str(fetch(way, "/api/version", seconds=seconds)["version"])
    except errors.Unreachable:
        raise _not_running(way) from None
    except KeyError:
        raise unreadable(way, "it does not tell its version, so it is no Ollama") from None


def too_old(number: str) -> str | None:
    """Why an Ollama of this version does not serve the course, as a sentence; None when it does.

    >>> too_old("0.3.14")
    'Ollama 0.3.14 is too old: the course needs 0.5 or newer'
    """
    parts = tuple(int(part) for part in re.findall(r"\d+", number)[:2])
    if not parts or parts >= OLDEST_OLLAMA or parts == (0, 0):  # what somebody compiled calls itself 0.0.0
        return None
    return f"Ollama {number} is too old: the course needs {'.'.join(map(str, OLDEST_OLLAMA))} or newer"


def official_client(*, read_seconds: float = READ_SECONDS) -> Any:
    """The official client, pointed at the Ollama that runs here."""
    ollama, _ = _packages()
    way = native_route()
    client(way).close()  # refuses what spoils every request
    if os.environ.get("OLLAMA_API_KEY"):  # the client sends it along by itself
        Key(os.environ["OLLAMA_API_KEY"], "OLLAMA_API_KEY")
    options = {"timeout": (5, read_seconds, read_seconds, 5), "trust_env": not way.is_loopback}
    secure = way.address.startswith("https:")  # else authorities' certificates need not be read, a tenth of a second
    return ollama.Client(way.address, **options, verify=secure, follow_redirects=False)


@contextmanager
def plain_errors(model: str = "") -> Iterator[None]:
    """Turns what goes wrong between the client and Ollama into the course's sentences."""
    ollama, httpx = _packages()
    way = native_route()
    try:
        yield
    except CourseError:
        raise
    except ollama.ResponseError as error:
        raise _refused(way, str(error.error), error.status_code, model) from None
    except (httpx.HTTPError, OSError) as error:
        broken = broken_line(way, error)
        raise (_not_running(way) if type(broken) is errors.Unreachable else broken) from None
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise unreadable(way, "its JSON is damaged or of another form") from None


def _packages() -> tuple[Any, Any]:
    """The official client, and what it speaks through."""
    try:
        import httpx
        import ollama
    except ImportError:
        raise errors.BackendUnavailable(
            "Ollama's client is not installed: the package ollama.", HOW_TO_INSTALL
        ) from None
    return ollama, httpx


def _refused(way: Route, said: str, status: int, model: str) -> CourseError:
    """The error that Ollama's own words stand for; in the midst of a stream they come without a status."""
    for pattern, kind, message, step in SAID_BY_OLLAMA:
        if re.search(pattern, said):
            return kind(message.format(model=model), step.format(start=how_to_start()))
    if status == 404:
        return _not_pulled(model, model)
    return refusal(way, max(0, status), {}, json.dumps({"error": said}), model)


def _not_running(way: Route) -> errors.Unreachable:
    return errors.Unreachable(f"No Ollama answers at {way.address}.", f"To have one here: {how_to_start()}.")


def _not_pulled(title: str, model: str) -> errors.ModelGone:
    step = f"Type `ollama pull {model}`, or call helpers.backends.ollama.pull({model!r})."
    return errors.ModelGone(f"This Ollama does not have {title}, which it calls {model!r}.", step, status=404)


def installed() -> list[dict[str, Any]]:
    """The models that this Ollama has, a tidy row each; `model` is the catalog's name where it knows the model."""
    with plain_errors(), official_client(read_seconds=10) as asked:
        models = asked.list().models
    ours = {full_name(card.tags["ollama"]): card.name for card in catalog.cards() if "ollama" in card.tags}
    ours |= {full_name(card.name): card.name for card in catalog.cards()}
    return [
        {
            "name": found.model,
            "model": ours.get(full_name(found.model)),
            "gib": round((found.size or 0) / machine.GIB, 2),
            "family": found.details.family if found.details else None,
            "parameters": found.details.parameter_size if found.details else None,
            "quantization": found.details.quantization_level if found.details else None,
        }
        for found in models
        if found.model
    ]


def phi() -> list[dict[str, Any]]:
    """The Phi models among the installed; a dolphin is none."""
    return [row for row in installed() if re.search(r"(?<![a-z])phi", row["name"].lower())]


def show(name: str) -> dict[str, Any]:
    """What Ollama tells of one model: its template, its parameters, its sizes and what it can do."""
    model = name_of(name)
    with plain_errors(model), official_client(read_seconds=10) as asked:
        told = asked.show(model)
    facts: Mapping[str, Any] = told.modelinfo or {}
    return {
        "name": model,
        "architecture": facts.get("general.architecture"),
        "parameters": facts.get("general.parameter_count"),
        "context": next((value for key, value in facts.items() if key.endswith(".context_length")), None),
        "quantization": told.details.quantization_level if told.details else None,
        "capabilities": tuple(told.capabilities or ()),
        "settings": told.parameters or "",
        "template": told.template or "",
    }


def pull(name: str, *, attempts: int = 3) -> str:
    """Ollama's name of the model, once Ollama has it: a catalog's name or one of Ollama's own.

    What was downloaded stays with Ollama when the line breaks, and the next attempt continues there.
    """
    from tqdm import tqdm

    model, card = name_of(name), _card(name)
    _say_size(model, card)
    for attempt in range(1, attempts + 1):
        try:
            bar = tqdm(unit="B", unit_scale=True, desc=model, leave=False)
            with bar, plain_errors(model), official_client(read_seconds=60) as asked:
                for status, done, total in progress(asked.pull(model, stream=True)):
                    bar.total, bar.n = total or None, done
                    bar.set_description(status)
            print(f"Ollama has {model}.")
            return model
        except (errors.ConnectionLost, errors.TimedOut) as error:
            if attempt == attempts:
                step = "Run again: what was downloaded is kept, and the pull continues there."
                raise type(error)(error.message, step) from None
    raise InvalidInput(f"attempts={attempts} is out of range.", "Give it at least one.")


def progress(lines: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
    """Status, bytes done and bytes in all, from the lines of `/api/pull`; every layer's bytes are told apart."""
    layers: dict[str, tuple[int, int]] = {}
    status = ""
    for line in lines:
        status = line.status or status
        if line.digest:
            layers[line.digest] = (line.completed or 0, line.total or 0)
        yield (status, sum(done for done, _ in layers.values()), sum(total for _, total in layers.values()))
    if status != "success":
        raise errors.ConnectionLost(f"The pull ended before the model was whole, at {status!r}.")


def name_of(name: str) -> str:
    """What Ollama calls a model: the tag in its card; a name that the catalog does not have is taken for Ollama's."""
    card = _card(name)
    return providers.provider("ollama").model(card) if card else name


def full_name(name: str) -> str:
    """A name with its tag, which is `latest` where none is said.

    >>> full_name("phi3.5")
    'phi3.5:latest'
    """
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _card(name: str) -> ModelCard | None:
    try:
        return catalog.card(name)
    except UnknownModel:
        return None


def _say_size(model: str, card: ModelCard | None) -> None:
    """Says what the pull takes and what is free, and refuses what does not fit."""
    size = int(card.parameters * LIBRARY_BYTES) if card else 0
    about = f"about {size / machine.GIB:.1f} GiB" if card else "a size that Ollama tells when it begins"
    if not native_route().is_loopback:
        print(f"{model}: {about}, stored where that Ollama runs.")
        return
    folder = Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models")
    print(f"{model}: {about}; {machine.free_disk_gib(folder):.1f} GiB of disk are free.")
    machine.require_disk(size, folder, model)


class Engine(Hosted):
    """One model of the Ollama that runs on this machine.

    It keeps its tokenizer to itself, so a prompt is counted only after it was read. A conversation that is longer than
    the context is not refused: Ollama drops its oldest turns. `top_p` and the repetition penalty are not offered,
    since their order and reach differ between the engines inside Ollama.
    """

    name = "ollama"
    package = "ollama"
    install = HOW_TO_INSTALL
    hosted = False  # a program on this machine, with the models that it keeps here
    honours = frozenset({"max_new_tokens", "temperature", "top_k", "seed", "stop", "json_schema"})

    def __init__(self, card: ModelCard, model: str, *, context: int, threads: int | None = None) -> None:
        tagged = replace(card, tags={**card.tags, "ollama": model})
        patience = Patience(budget_seconds=READ_SECONDS, read_seconds=READ_SECONDS)
        super().__init__(tagged, providers.provider("ollama"), context=context, patience=patience)
        self.threads = threads or machine.threads()

    @classmethod
    def missing(cls) -> str | None:
        reason = super().missing()
        if reason:
            return reason
        try:
            return too_old(version(seconds=0.5))
        except CourseError as error:
            return f"{error.message.rstrip('.')}: {error.next_step.rstrip('.')}"

    @classmethod
    def serves(cls, card: ModelCard) -> str | None:
        if "ollama" in card.tags or card.path or card.gguf:
            return None
        return "Ollama's library does not have it, as far as the course knows"

    @classmethod
    def open(cls, card: ModelCard, *, context: int, threads: int | None, precision: str | None) -> Engine:
        if precision is not None:
            raise UnsupportedOption(
                f"Ollama computes with the numbers that its file holds, so it takes no precision={precision!r}.",
                "Leave it out; another tag of Ollama's, such as phi3.5:3.8b-mini-instruct-q8_0, is another file.",
            )
        stale = too_old(version())
        if stale:
            raise errors.RequestRefused(f"{stale}.", f"Update it: {how_to_start()}.")
        row = _installed(card)
        engine = cls(card, row["name"], context=context, threads=threads)
        engine.precision = str(row["quantization"] or "as served").lower()
        # The first answer waits until the model is loaded; here, and not in the midst of a measurement.
        for _ in engine.generate(Prompt((Turn("user", "Hi"),)), Sampling(max_new_tokens=1)):
            pass
        return engine

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        raise UnsupportedOption(
            "Ollama keeps its tokenizer to itself: it has no route that counts tokens or continues a plain text.",
            "Open the model on another backend, such as llamacpp, to see its tokens.",
        )

    def answer(
        self, messages: Sequence[Mapping[str, Any]], sampling: Sampling, *, reuse: bool = True
    ) -> Iterator[Chunk]:
        return self._run(lambda: self._native_pieces([_native(message) for message in messages], sampling))

    def _connect(self) -> Any:
        return official_client()

    def _post(self, body: dict[str, Any]) -> AbstractContextManager[Any]:
        raise UnsupportedOption("Ollama takes texts, not tokens.")

    def _native_pieces(self, messages: list[dict[str, Any]], sampling: Sampling) -> Generator[Piece, None, None]:
        schema = None if sampling.json_schema is None else dict(sampling.json_schema)
        options = NEUTRAL | {
            "num_ctx": self.context,
            "num_thread": self.threads,
            "num_predict": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
        }
        with plain_errors(self.model):
            parts = self.client.chat(self.model, messages, stream=True, format=schema, options=options)
            with closing(parts):
                for part in parts:
                    if part.message and part.message.content:
                        yield Piece(part.message.content)
                    if part.done:
                        yield Piece("", part.done_reason or "stop", part.prompt_eval_count, part.eval_count)


def _installed(card: ModelCard) -> dict[str, Any]:
    """The row of a card's model: the one made from the course's own file if it is there, else the library's."""
    rows = {full_name(row["name"]): row for row in installed()}
    for name in (card.name, card.tags.get("ollama", card.name)):
        if full_name(name) in rows:
            return rows[full_name(name)]
    if "ollama" not in card.tags:
        raise ModelUnavailable(
            f"Ollama does not have {card.name!r}, and its library neither.",
            f"Write `FROM <its GGUF file>` into a file Modelfile, and type `ollama create {card.name} -f Modelfile`.",
        )
    raise _not_pulled(card.title, card.tags["ollama"])


def _native(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's form as one in Ollama's, where images stand apart, in base64 alone."""
    if isinstance(message["content"], str):
        return dict(message)
    words = [part["text"] for part in message["content"] if part["type"] == "text"]
    images = [part["image_url"]["url"].partition(",")[2] for part in message["content"] if part["type"] == "image_url"]
    return {"role": message["role"], "content": "\n".join(words), "images": images}
