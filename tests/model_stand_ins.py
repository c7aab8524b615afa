"""Small files and wheels in the place of gigabytes: what the tests of fetching fetch."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from helpers import catalog
from helpers.models.files import sha256
from helpers.records import HubFiles, ModelCard, ModelFile, PinnedFiles, Wheel

CONTENT = b"GGUF" + bytes(range(256)) * 40
PIECES = (CONTENT[:4000], CONTENT[4000:8000], CONTENT[8000:])


def make_wheel(shop: Path, name: str, members: Mapping[str, bytes]) -> Path:
    """A wheel of version 1.0 that pip finds, with these members."""
    shop.mkdir(parents=True, exist_ok=True)
    wheel = shop / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def wheel_record(file: Path, member: str, piece: bytes | None = None) -> Wheel:
    """What the catalog would say of a wheel."""
    requirement = f"{file.name.split('-')[0].replace('_', '-')}==1.0"
    return Wheel(requirement, file.stat().st_size, sha256(file), member, None if piece is None else len(piece))


def model_file(name: str, content: bytes, role: str = "gguf") -> ModelFile:
    """What the catalog would say of a file."""
    return ModelFile(role, name, len(content), hashlib.sha256(content).hexdigest(), "q4_1")


def in_parts(shop: Path, pieces: Sequence[bytes] = PIECES) -> ModelCard:
    """A model of one file whose pieces lie in a wheel each, which are made in the folder `shop`."""
    for number, piece in enumerate(pieces, start=1):
        make_wheel(shop, f"part_{number}", {"data/piece.bin": piece})
    return card_of(shop, pieces)


def card_of(shop: Path, pieces: Sequence[bytes]) -> ModelCard:
    """The card of that model, once the wheels are there."""
    made = [shop / f"part_{number}-1.0-py3-none-any.whl" for number in range(1, len(pieces) + 1)]
    wheels = [wheel_record(file, "data/piece.bin", piece) for file, piece in zip(made, pieces, strict=True)]
    files = (model_file("model.gguf", b"".join(pieces)),)
    return replace(_base(), name="in-parts", title="A model in parts", pinned=PinnedFiles(files, tuple(wheels)))


def of_files(shop: Path, contents: Mapping[str, bytes]) -> ModelCard:
    """A model of several files that all lie whole in one wheel."""
    file = make_wheel(shop, "of_files", {f"data/{name}": content for name, content in contents.items()})
    files = tuple(model_file(name, content, "config") for name, content in contents.items())
    pinned = PinnedFiles(files, (wheel_record(file, "data/"),))
    return replace(_base(), name="of-files", title="A model of files", pinned=pinned, task="embedding")


def on_hub(card: ModelCard) -> ModelCard:
    """The same model, also on a hub."""
    return replace(card, pinned=replace(card.pinned, hub=HubFiles("maker/model", "0" * 40)))


def _base() -> ModelCard:
    return replace(catalog.card("smollm2-135m"), embedded=False, hub=None)
