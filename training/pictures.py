"""More pictures out of few: the shape moved elsewhere, and mirrored. Neither changes what it is or its colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Placed:
    """Pictures (n × 3 × side × side) and the box of the shape in each: top, bottom, left, right."""

    pictures: torch.Tensor
    boxes: torch.Tensor


def placed(pictures: torch.Tensor) -> Placed:
    """The pictures with their boxes. The background is one colour, that of the majority of the corners."""
    corners = pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].median(dim=2).values
    differs = (pictures - corners[:, :, None, None]).abs().amax(1) > 0.1
    rows, columns = differs.any(2), differs.any(1)
    side = pictures.shape[-1]
    last = [side - 1 - axis.flip(1).float().argmax(1) for axis in (rows, columns)]
    first = [axis.float().argmax(1) for axis in (rows, columns)]
    return Placed(pictures, torch.stack([first[0], last[0], first[1], last[1]], dim=1))


def moved(source: Placed, chosen: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """The chosen pictures, each shape at a place of its own inside the frame, half of them mirrored."""
    side = source.pictures.shape[-1]
    made = []
    for n in chosen.tolist():
        picture, (top, bottom, left, right) = source.pictures[n], source.boxes[n].tolist()
        down = int(torch.randint(-top, side - bottom, (), generator=chance))
        across = int(torch.randint(-left, side - right, (), generator=chance))
        # What rolls out of the frame is background, and comes in again on the other side as background.
        picture = picture.roll((down, across), dims=(1, 2))
        made.append(picture.flip(2) if torch.rand((), generator=chance) < 0.5 else picture)
    return torch.stack(made)
