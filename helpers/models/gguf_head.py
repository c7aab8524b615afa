"""The head of a GGUF file: what it says of its model, without its vocabulary and without its weights.

A GGUF file begins with pairs of a key and a value, then come the name and shape of each tensor, then the weights. The
longest values are lists: a vocabulary has 150,000 tokens. Turning each into an object takes a reader ten times as long
as llama.cpp takes to open the model, so lists of that kind are only stepped over and counted. A file comes from a
download: every length in it is checked against the file before it is believed.
(Format: docs/gguf.md of the ggml repository, versions 2 and 3.)
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.errors import DamagedFile

#: How `struct` writes the number types, by the format's number for each. 8 is a text, 9 a list.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
#: A list with more numbers than this is only counted: it has one for each token, not one for each layer.
KEPT = 4096
#: More of them than any model has; a damaged count would have the reader step through gigabytes of weights.
MOST_PAIRS, MOST_TENSORS, MOST_ITEMS, MOST_DIMENSIONS = 1 << 16, 1 << 20, 1 << 24, 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its shape, the fastest dimension first, as llama.cpp counts; its number format; where it begins."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True)
class Head:
    """Numbers, texts and short lists of numbers by key in `values`; the length of every list by key in `counts`.

    `pairs` are where in the file each key with its value begins and ends, for who copies them as they are. `tensors`
    are in the order of the file, by name; their `start` is a place in the file.
    """

    values: Mapping[str, Any]
    counts: Mapping[str, int]
    pairs: Mapping[str, tuple[int, int]]
    tensors: Mapping[str, Tensor]


def read_head(path: Path) -> Head:
    """The head of the file; one that is cut short, or no GGUF file, is refused in a sentence."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).head()
    except (ValueError, struct.error, OverflowError) as error:
        # struct's own words are about buffers: it was asked to read beyond the end.
        said = str(error) if isinstance(error, ValueError) else "it is cut short"
        raise DamagedFile(
            f"{path.name} cannot be read as a GGUF file: {said}.",
            "Fetch it again, and compare its size with the publisher's.",
        ) from error


class _Reader:
    """A place in the file, and what is read from there on."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 0

    def head(self) -> Head:
        if (magic := self._data[:4]) != b"GGUF":
            raise ValueError(f"it begins with {magic!r} and not with GGUF")
        self._at = 4
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"its version is {version:,}, which is none that runs today, or was written big-endian")
        tensors = self._count("tensors", MOST_TENSORS)
        values: dict[str, Any] = {}
        counts: dict[str, int] = {}
        pairs: dict[str, tuple[int, int]] = {}
        for _ in range(self._count("keys", MOST_PAIRS)):
            begin = self._at
            key, kind = self._text(), self._number("I")
            if kind == _LIST:
                counts[key], values[key] = self._list()
            else:
                values[key] = self._value(kind)
            pairs[key] = begin, self._at
        found = [self._tensor() for _ in range(tensors)]
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its alignment is {alignment!r}")
        start = self._at + -self._at % alignment
        if start + max((tensor.start for _, tensor in found), default=0) >= len(self._data):
            raise ValueError("it is cut short")
        places = {name: replace(tensor, start=start + tensor.start) for name, tensor in found}
        return Head(values, counts, pairs, places)

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += struct.calcsize(f"<{code}")
        return value

    def _count(self, what: str, most: int) -> int:
        count: int = self._number("Q")
        if count > most:
            raise ValueError(f"it claims to hold {count:,} {what}")
        return count

    def _text(self) -> str:
        length: int = self._number("Q")
        end = self._at + length
        if end > len(self._data):
            raise ValueError("it is cut short")
        text, self._at = self._data[self._at : end], end
        return text.decode("utf-8", errors="replace")

    def _value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind not in _NUMBERS:
            raise ValueError(f"a value has the type {kind:,}, which the format does not have")
        return self._number(_NUMBERS[kind])

    def _list(self) -> tuple[int, list[Any] | None]:
        """How long a list is, and its numbers where they are few; texts and longer lists are stepped over."""
        kind, count = self._number("I"), self._count("items in one list", MOST_ITEMS)
        if kind == _TEXT:
            # The one loop that costs time: a local name for each thing that it touches halves it.
            length, data, at = struct.Struct("<Q").unpack_from, self._data, self._at
            for _ in range(count):
                at += 8 + length(data, at)[0]
            self._at = at
            return count, None
        if kind not in _NUMBERS:  # lists of lists, which no model has and llama.cpp does not take either
            raise ValueError(f"a list has items of the type {kind:,}, which no model has")
        if count <= KEPT:
            return count, [self._number(_NUMBERS[kind]) for _ in range(count)]
        self._at += count * struct.calcsize(f"<{_NUMBERS[kind]}")
        return count, None

    def _tensor(self) -> tuple[str, Tensor]:
        """A tensor's name, and the tensor with its start as it is written, counted from the first one's."""
        name, dimensions = self._text(), self._number("I")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"a tensor claims to have {dimensions:,} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        return name, Tensor(shape, kind=self._number("I"), start=self._number("Q"))
