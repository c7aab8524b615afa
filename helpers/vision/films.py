"""Video files: the frames of one of yours, and a small one that is made where you have none.

A phone films 30 frames a second of 2 million pixels, and nobody's model looks at them all. So a film is read thinned
out, and its frames are made smaller. OpenCV decodes it; its wheel brings FFmpeg along, so that MP4, MOV, AVI and WebM
are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from helpers import images
from helpers.errors import InvalidInput
from helpers.vision import documents, video

#: A frame's longer side in pixels, unless asked otherwise, and the most frames that are read.
SIDE_PIXELS, MOST_FRAMES = 256, 480
#: Frames of each scene of the sample film, and its frames' width and height.
SHOT, SIZE = 24, (256, 192)


def read_film(
    path: str | Path, *, per_second: float = video.FRAMES_PER_SECOND, side: int = SIDE_PIXELS
) -> tuple[Any, ...]:
    """The frames of a video file as PIL images, `per_second` of them, the longer side at most `side` pixels.

    No more than `MOST_FRAMES`, which is a minute at the usual rate. Raises InvalidInput for what is no video.
    """
    import cv2
    from PIL import Image

    if not Path(path).is_file():
        raise InvalidInput(f"There is no file {Path(path).name}.", "Give the path of a video, such as holiday.mp4.")
    film = cv2.VideoCapture(str(path))
    try:
        step = max(1.0, (film.get(cv2.CAP_PROP_FPS) or per_second) / per_second)
        frames: list[Any] = []
        number = 0
        while len(frames) < MOST_FRAMES:
            there, pixels = film.read()
            if not there:
                break
            if number >= len(frames) * step:
                frame = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                frame.thumbnail((side, side))
                frames.append(frame)
            number += 1
    finally:
        film.release()
    if not frames:
        raise InvalidInput(f"{Path(path).name} is no video that can be read.", "Export it as MP4, and try again.")
    return tuple(frames)


def write_film(frames: Sequence[Any], path: str | Path, *, per_second: float = video.FRAMES_PER_SECOND) -> Path:
    """The path of an MP4 file with these frames, all of the first one's size."""
    import cv2
    import numpy as np

    film = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), per_second, frames[0].size)
    if not film.isOpened():
        raise InvalidInput(f"No video can be written to {Path(path).name}.", "Give a name that ends in .mp4.")
    try:
        for frame in frames:
            film.write(cv2.cvtColor(np.asarray(frame.convert("RGB")), cv2.COLOR_RGB2BGR))
    finally:
        film.release()
    return Path(path)


def sample_film(path: str | Path) -> Path:
    """The path of a film of three shots, written there: the camera over a photograph, over a receipt, and back."""
    photo = images.as_pil(images.read(images.sample_photo()))
    page = documents.receipt(seed=1).image
    up, down, across = (40, 0, 120, 260), (140, 330, 40, 20), (0, 0, 90, 80)
    shots = [_pan(photo, *up), _pan(page, *across), _pan(photo, *down)]
    return write_film([frame for shot in shots for frame in shot], path)


def _pan(picture: Any, left: int, top: int, to_left: int, to_top: int) -> Iterator[Any]:
    """The frames of a camera that moves straight over a picture; beyond its edge all is black."""
    width, height = SIZE
    for n in range(SHOT):
        x, y = (round(a + (b - a) * n / (SHOT - 1)) for a, b in ((left, to_left), (top, to_top)))
        yield picture.crop((x, y, x + width, y + height))
