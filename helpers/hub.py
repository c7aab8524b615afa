"""Models from a hub: asked for by name and revision, safetensors or GGUF only, never with code of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.errors import CourseError, ModelUnavailable, NetworkNeeded
from helpers.files import home, plain_disk_errors
from helpers.machine import require_disk
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
