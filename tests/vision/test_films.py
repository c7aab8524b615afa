"""Video files: what is written is read again, thinned out as asked, and what is no video is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.errors import InvalidInput
from helpers.vision import films, video


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.sample_film(tmp_path_factory.mktemp("films") / "sample.mp4")


def test_all_frames_come_back_at_the_rate_of_the_film(film: Path) -> None:
    frames = films.read_film(film)
    assert len(frames) == 3 * films.SHOT
    assert {frame.size for frame in frames} == {films.SIZE}


def test_a_lower_rate_takes_fewer_frames_and_a_side_makes_them_smaller(film: Path) -> None:
    frames = films.read_film(film, per_second=2, side=64)
    assert len(frames) == 3 * films.SHOT // 4
    assert max(frames[0].size) == 64


def test_the_cuts_of_the_sample_film_are_found(film: Path) -> None:
    assert video.find_cuts(films.read_film(film)) == [films.SHOT, 2 * films.SHOT]


def test_colours_survive_the_file(tmp_path: Path) -> None:
    drawn = video.clip(2, frames=4).frames
    again = films.read_film(films.write_film(drawn, tmp_path / "clip.mp4"))
    assert max(abs(a - b) for a, b in zip(drawn[0].getpixel((0, 0)), again[0].getpixel((0, 0)), strict=True)) < 12


@pytest.mark.fault("what people feed in")
def test_what_is_no_video_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no film")
    for name, sentence in (("notes.mp4", "no video"), ("gone.mp4", "no file")):
        with pytest.raises(InvalidInput, match=sentence):
            films.read_film(tmp_path / name)


def test_a_name_that_is_no_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.mp4"):
        films.write_film(video.clip(1, frames=2).frames, tmp_path / "clip.unknown")
