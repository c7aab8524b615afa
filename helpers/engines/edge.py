"""What fits a phone, a board, a laptop or a GPU, and how fast it could be there: arithmetic, held against readings.

A model fits where its weights and the KV cache of the conversation take no more than the share of memory that a program
gets. It then writes at most bandwidth ÷ bytes read for a token (see anatomy.py). Nothing here is measured: `checked`
tells how much of that bound others have reached.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers import anatomy, catalog
from helpers.anatomy import DEVICES, Device
from helpers.errors import InvalidInput
from helpers.machine import GIB
from helpers.records import ModelCard

#: The share of a device's memory that one program gets, our assumption: a phone's system keeps more for itself.
USABLE, USABLE_ON_A_PHONE = 0.75, 0.5
#: The four that the course speaks of, from small to large.
USUAL = ("phone", "raspberry-pi-5", "laptop", "h100")


def phis() -> list[ModelCard]:
    """Every Phi of the catalog, in its order."""
    return [card for card in catalog.cards() if card.family.startswith("Phi")]


def needed_bytes(model: str | ModelCard, precision: str = "Q4_K", context: int = 4096) -> int:
    """The memory that a conversation of `context` tokens takes: the weights, and keys and values in 16 bits."""
    card = catalog.card(model) if isinstance(model, str) else model
    return anatomy.memory_bytes(card.parameters, precision) + anatomy.kv_cache_bytes(card, context)


def fits(model: str | ModelCard, device: str | Device, precision: str = "Q4_K", context: int = 4096) -> bool:
    """Whether the device has room for it."""
    found = _device(device)
    usable = USABLE_ON_A_PHONE if found.kind == "phone" else USABLE
    return needed_bytes(model, precision, context) <= usable * found.memory_gib * GIB


def device_table(
    models: Iterable[ModelCard] | None = None,
    devices: Iterable[str] = USUAL,
    *,
    precision: str = "Q4_K",
    context: int = 4096,
) -> list[dict[str, Any]]:
    """One row for each model and device: what it needs, whether that fits, and the bound of its decode rate.

    `predicted_tokens_per_second` is the bound at the start of a conversation and `full_tokens_per_second` at its
    end, when the cache of `context` tokens is read for each token too; None where the model does not fit. The bytes of
    a model that also sees or hears include its encoders, so its bound is a little low for text.
    """
    rows = []
    for card in phis() if models is None else models:
        for device in map(_device, devices):
            room = fits(card, device, precision, context)
            rates = [bound(card, device, precision, tokens) if room else None for tokens in (0, context)]
            rows.append(
                {
                    "model": card.name,
                    "title": card.title,
                    "family": card.family,
                    "device": device.title,
                    "needed_gib": needed_bytes(card, precision, context) / GIB,
                    "fits": room,
                    "predicted_tokens_per_second": rates[0],
                    "full_tokens_per_second": rates[1],
                }
            )
    return rows


def bound(model: str | ModelCard, device: str | Device, precision: str = "Q4_K", context: int = 0) -> float:
    """The most tokens a second that the device's memory allows one user."""
    read = anatomy.bytes_per_token(model, precision, context)
    return anatomy.predicted_decode(read, _device(device).bandwidth)


def checked() -> list[dict[str, Any]]:
    """One row for each published rate: the bound, the rate, and the share of the bound that it reaches.

    The columns `measured_tokens_per_second`, `low` and `high` are the published rate, as a plot of predicted against
    measured rates wants them.
    """
    entries = tomllib.loads(Path(__file__).with_name("edge.toml").read_text(encoding="utf-8"))["published"]
    return [_checked(entry) for entry in entries]


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    device = DEVICES.get(entry.get("device", ""))
    read = entry.get("bytes") or anatomy.bytes_per_token(entry["model"], entry["precision"])
    predicted = anatomy.predicted_decode(read, device.bandwidth if device else entry["bandwidth"])
    rate = float(entry["tokens_per_second"])
    return {
        "model": entry["model"],
        "device": device.title if device else entry["title"],
        "backend": entry["engine"],
        "predicted_tokens_per_second": predicted,
        "measured_tokens_per_second": rate,
        "low": rate,
        "high": rate,
        "share": rate / predicted,
        "source": entry["source"],
        "note": entry["note"],
    }


def _device(device: str | Device) -> Device:
    if isinstance(device, Device):
        return device
    if device not in DEVICES:
        raise InvalidInput(f"There is no device {device!r} here.", f"Choose one of {', '.join(DEVICES)}.")
    return DEVICES[device]
