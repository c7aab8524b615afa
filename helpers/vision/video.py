"""Video for a model that sees images: cut it into scenes, look at one frame of each, tell what happened.

    frames ── histogram differences ──→ cuts ──→ a key frame a scene ──→ captions ──→ a summary by a language model

A cut changes many pixels at once, movement few, so the difference of two frames' colour histograms tells them apart
(Zhang, Kankanhalli and Smoliar 1993, "Automatic partitioning of full-motion video", Multimedia Systems 1:10-28). It is
blind to what a histogram does not hold: where the pixels are. The clip is drawn by code, so what it shows is known and
every step can be counted.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from helpers.chat import Chat
from helpers.errors import InvalidInput
from helpers.intervals import Rate
from helpers.records import Reply
from helpers.vision.easyvqa import SHAPES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Differences = npt.NDArray[np.float64]

#: The colours by the names that the model learned them under.
RGB = {
    **{"black": (0, 0, 0), "blue": (0, 0, 255), "brown": (165, 42, 42), "gray": (128, 128, 128)},
    **{"green": (0, 255, 0), "red": (255, 0, 0), "teal": (0, 128, 128), "yellow": (255, 255, 0)},
}
#: Pixels a side, as the miniature was trained on.
SIDE = 64
FRAMES_PER_SECOND = 8
#: Frames are drawn this many times as large and made smaller, which smooths the edges of the shapes.
FINER = 4


@dataclass(frozen=True, slots=True)
class Scene:
    """A shape that moves from `start` to `end` (its middle, in pixels) and grows from one width to the other."""

    shape: str
    colour: str
    background: tuple[int, int, int]
    frames: int
    start: tuple[float, float]
    end: tuple[float, float]
    widths: tuple[float, float]

    @property
    def caption(self) -> str:
        """What a right caption says."""
        return caption(self.colour, self.shape)


@dataclass(frozen=True, slots=True)
class Clip:
    """A video: its frames in order, and the scenes that it was made of."""

    frames: tuple[Image, ...]
    scenes: tuple[Scene, ...]

    @property
    def cuts(self) -> list[int]:
        """The number of the first frame of each scene but the first."""
        starts = [sum(scene.frames for scene in self.scenes[:n]) for n in range(len(self.scenes))]
        return starts[1:]

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.frames) / FRAMES_PER_SECOND


def clip(scenes: int = 6, *, frames: int = 16, seed: int = 0) -> Clip:
    """A clip of so many scenes, each of about `frames` frames, drawn at random; neighbours always differ."""
    if scenes < 1 or frames < 2:
        raise InvalidInput("A clip has at least one scene of two frames.")
    draw = random.Random(f"clip {seed}")
    made: list[Scene] = []
    while len(made) < scenes:
        scene = _scene(draw, frames)
        if not made or scene.caption != made[-1].caption:
            made.append(scene)
    return film(made)


def film(scenes: Sequence[Scene]) -> Clip:
    """The frames of scenes that you chose yourself."""
    drawn = [_draw(scene, at / max(1, scene.frames - 1)) for scene in scenes for at in range(scene.frames)]
    return Clip(tuple(drawn), tuple(scenes))


def histogram(frame: Image) -> Differences:
    """The share of the pixels in each of 64 colours, told apart by the two highest bits of red, green and blue."""
    import numpy as np

    red, green, blue = np.moveaxis(np.asarray(frame.convert("RGB")) >> 6, 2, 0).astype(int)
    counts = np.bincount((red * 16 + green * 4 + blue).ravel(), minlength=64)
    shares: Differences = counts / counts.sum()
    return shares


def differences(frames: Sequence[Image]) -> Differences:
    """For each frame but the first, the least share of pixels that must have changed colour since the one before.

    0 to 1. More may have changed: where one pixel turns red and another stops being red, a histogram sees nothing.
    """
    import numpy as np

    shares = np.array([histogram(frame) for frame in frames])
    changed: Differences = np.abs(np.diff(shares, axis=0)).sum(axis=1) / 2
    return changed


def threshold(changes: Differences, factor: float = 6.0, least: float = 0.01) -> float:
    """The difference from which on two frames belong to two scenes: so many spreads above the usual one.

    Zhang et al. take the mean and 5 to 6 standard deviations of a film of thousands of frames. In a short clip the
    cuts themselves would widen the deviation, so here it is the median, and the median absolute deviation × 1.4826,
    which is the standard deviation of normal noise. `least` keeps a clip where nothing moves from being cut to pieces.
    """
    import numpy as np

    usual = float(np.median(changes))
    spread = 1.4826 * float(np.median(np.abs(changes - usual)))
    return max(least, usual + factor * spread)


def find_cuts(frames: Sequence[Image]) -> list[int]:
    """The numbers of the frames that begin a new scene, by the histogram difference alone."""
    if len(frames) < 2:
        return []
    changes = differences(frames)
    return [at + 1 for at, change in enumerate(changes) if change > threshold(changes)]


def key_frames(frames: Sequence[Image]) -> list[int]:
    """The number of the middle frame of each scene that `find_cuts` finds."""
    edges = [0, *find_cuts(frames), len(frames)]
    return [(first + last) // 2 for first, last in pairwise(edges)]


def caption(colour: str, shape: str) -> str:
    """The sentence for a frame.

    >>> caption("red", "circle")
    'A red circle.'
    """
    return f"A {colour} {shape}."


def ask_caption(chat: Chat, frame: Image) -> str:
    """What the model sees in a frame: it is asked for colour and shape, and the sentence is made of its two words."""
    words = []
    for question, known in (("what color is the shape?", RGB), ("what shape is in the image?", SHAPES)):
        answer = chat.another().say(question, images=[frame], max_new_tokens=16).text.lower()
        # A large model answers in a sentence, which holds the word.
        words.append(next((word for word in re.findall(r"\w+", answer) if word in known), answer.strip()))
    return caption(*words)


def summarise(chat: Chat, captions: Sequence[str]) -> Reply:
    """A summary of a video by a language model, which gets the captions and has seen no frame."""
    told = "\n".join(f"Scene {number}: {text}" for number, text in enumerate(captions, start=1))
    request = f"These are the scenes of a short video, in order:\n{told}\nDescribe the video in a few sentences."
    return chat.another().say(request, max_new_tokens=160)


def score_cuts(found: Sequence[int], true: Sequence[int]) -> dict[str, int]:
    """How many cuts were found, missed, and seen where none is."""
    hits = set(found) & set(true)
    return {"found": len(hits), "missed": len(set(true) - hits), "false": len(set(found) - hits)}


def score_captions(captions: Sequence[str], at: Sequence[int], video: Clip) -> Rate:
    """How many captions say what is known of the frames `at` which they were made."""
    scene_of = [scene for scene in video.scenes for _ in range(scene.frames)]
    return Rate.of(text == scene_of[frame].caption for text, frame in zip(captions, at, strict=True))


def things(text: str) -> list[str]:
    """The coloured shapes that a text names, in order.

    >>> things("First a red circle moves. The Red circle meets two blue triangles.")
    ['red circle', 'red circle', 'blue triangle']
    """
    named = re.findall(rf"\b({'|'.join(RGB)}) ({'|'.join(SHAPES)})s?\b", text.lower())
    return [f"{colour} {shape}" for colour, shape in named]


def score_summary(summary: str, captions: Sequence[str]) -> dict[str, int]:
    """How many of the captions' coloured shapes a summary keeps and how many it invents; how many scenes in order."""
    told, said = things(" ".join(captions)), things(summary)
    in_order = sum(block.size for block in SequenceMatcher(None, told, said, autojunk=False).get_matching_blocks())
    kept, invented = set(told) & set(said), set(said) - set(told)
    counts = {"told": len(set(told)), "kept": len(kept), "invented": len(invented)}
    return counts | {"scenes": len(told), "in order": in_order}


def strip(frames: Sequence[Image], space: int = 2, zoom: int = 2) -> Any:
    """Frames side by side as one image to look at, each pixel enlarged to `zoom` × `zoom`."""
    from PIL import Image as Pictures

    if not frames:
        raise InvalidInput("There is no frame to show.")
    width, height = frames[0].size
    row = Pictures.new("RGB", (len(frames) * (width + space) - space, height), (60, 60, 60))
    for number, frame in enumerate(frames):
        row.paste(frame, (number * (width + space), 0))
    return row.resize((zoom * row.width, zoom * height), Pictures.Resampling.NEAREST)


def _scene(draw: random.Random, frames: int) -> Scene:
    """A scene at random, with sizes and light backgrounds as in the model's training images."""
    widths = (draw.uniform(14, 30), draw.uniform(14, 30))
    room = (max(widths) / 2 + 1, SIDE - max(widths) / 2 - 1)
    start, end = ((draw.uniform(*room), draw.uniform(*room)) for _ in range(2))
    red, green, blue = (draw.randint(230, 255) for _ in range(3))
    length = max(2, round(frames * draw.uniform(0.75, 1.25)))
    return Scene(draw.choice(SHAPES), draw.choice(list(RGB)), (red, green, blue), length, start, end, widths)


def _draw(scene: Scene, at: float) -> Image:
    """The frame of a scene at a time from 0 to 1."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    x, y = (FINER * (a + at * (b - a)) for a, b in zip(scene.start, scene.end, strict=True))
    half = FINER * (scene.widths[0] + at * (scene.widths[1] - scene.widths[0])) / 2
    large = Pictures.new("RGB", (FINER * SIDE, FINER * SIDE), scene.background)
    pen, fill = ImageDraw.Draw(large), RGB[scene.colour]
    if scene.shape == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=fill)
    elif scene.shape == "rectangle":
        pen.rectangle((x - half, y - 0.7 * half, x + half, y + 0.7 * half), fill=fill)
    else:
        tall = 0.87 * half  # all three sides alike
        pen.polygon([(x, y - tall), (x - half, y + tall), (x + half, y + tall)], fill=fill)
    return large.resize((SIDE, SIDE), Pictures.Resampling.BOX)
