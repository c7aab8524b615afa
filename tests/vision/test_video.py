"""Video: the clip is what it says, cuts are found and missed where they should be, and every score counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from helpers.errors import InvalidInput
from helpers.records import Turn
from helpers.vision import video
from helpers.vision.video import Scene
from talk import scripted

STILL = Scene("circle", "red", (240, 245, 250), 8, (32, 32), (32, 32), (24, 24))
MOVING = replace(STILL, start=(20, 20), end=(44, 44), widths=(20, 28))


def test_a_clip_has_the_frames_of_its_scenes() -> None:
    clip = video.clip(5, seed=3)
    assert len(clip.frames) == sum(scene.frames for scene in clip.scenes) == clip.seconds * video.FRAMES_PER_SECOND
    assert {frame.size for frame in clip.frames} == {(64, 64)}


def test_a_seed_repeats_a_clip_and_another_changes_it() -> None:
    assert video.clip(3, seed=1).scenes == video.clip(3, seed=1).scenes != video.clip(3, seed=2).scenes


def test_neighbouring_scenes_differ() -> None:
    captions = [scene.caption for scene in video.clip(40, frames=2).scenes]
    assert all(one != two for one, two in pairwise(captions))


@pytest.mark.parametrize("colour", video.RGB)
@pytest.mark.parametrize("shape", video.SHAPES)
def test_a_frame_shows_its_shape_in_its_colour(shape: str, colour: str) -> None:
    frame = video.film([replace(STILL, shape=shape, colour=colour)]).frames[0]
    assert frame.getpixel((32, 33)) == video.RGB[colour]
    assert frame.getpixel((0, 0)) == STILL.background


def test_the_shapes_fill_their_box_as_they_should() -> None:
    area = {s: drawn(replace(STILL, shape=s)) / 24**2 for s in video.SHAPES}
    assert area == pytest.approx({"circle": np.pi / 4, "rectangle": 0.7, "triangle": 0.87 / 2}, abs=0.08)


def drawn(scene: Scene) -> int:
    """The pixels of a scene's first frame that are more shape than background."""
    return int((np.asarray(video.film([scene]).frames[0])[:, :, 1] < 128).sum())


def test_a_histogram_holds_all_pixels_and_not_their_places() -> None:
    here, there = video.film([STILL]).frames[0], video.film([replace(STILL, start=(16, 16))]).frames[0]
    assert video.histogram(here).sum() == pytest.approx(1)
    assert video.histogram(here) == pytest.approx(video.histogram(there), abs=0.005)


def test_every_colour_has_a_bin_of_its_own() -> None:
    bins = {video.histogram(video.film([replace(STILL, colour=c)]).frames[0])[:63].argmax() for c in video.RGB}
    assert len(bins) == len(video.RGB)


def test_the_difference_is_the_share_of_pixels_that_changed() -> None:
    red, blue = (video.film([replace(STILL, shape="rectangle", colour=c)]).frames[0] for c in ("red", "blue"))
    share = drawn(replace(STILL, shape="rectangle")) / 64**2
    assert video.differences([red, blue]) == pytest.approx([share], abs=0.01)


def test_a_cut_to_another_colour_is_found() -> None:
    clip = video.film([MOVING, replace(MOVING, colour="blue"), replace(MOVING, colour="teal")])
    assert video.find_cuts(clip.frames) == clip.cuts == [8, 16]


def test_movement_is_no_cut() -> None:
    assert video.find_cuts(video.film([MOVING]).frames) == []


def test_a_cut_between_equal_histograms_is_missed() -> None:
    clip = video.film([STILL, replace(STILL, start=(16, 16), end=(16, 16))])
    assert video.find_cuts(clip.frames) == []


def test_one_frame_is_one_scene() -> None:
    assert video.key_frames(video.film([STILL]).frames[:1]) == [0]


def test_the_key_frames_are_the_middles() -> None:
    clip = video.film([MOVING, replace(MOVING, colour="black")])
    assert video.key_frames(clip.frames) == [4, 12]


def test_the_threshold_rises_with_the_noise() -> None:
    calm, noisy = np.array([0.01, 0.02, 0.01, 0.02]), np.array([0.01, 0.09, 0.02, 0.08])
    assert video.threshold(noisy) > video.threshold(calm) > 0.02


def test_most_cuts_of_random_clips_are_found() -> None:
    clips = [video.clip(6, frames=8, seed=seed) for seed in range(5)]
    scores = [video.score_cuts(video.find_cuts(clip.frames), clip.cuts) for clip in clips]
    assert sum(score["found"] for score in scores) >= 0.8 * 25


def test_a_caption_is_made_of_two_answers() -> None:
    seer, frame = scripted("It is red.", "circle"), video.film([STILL]).frames[0]
    assert video.ask_caption(seer, frame) == "A red circle."
    assert [len(turns[-1].images) for turns, _ in seer.backend.asked] == [1, 1]


def test_an_answer_without_a_known_word_is_kept_as_it_is() -> None:
    seer = scripted("purple", "a blob ")
    assert video.ask_caption(seer, video.film([STILL]).frames[0]) == "A purple a blob."


def test_the_summary_is_asked_with_every_caption_in_order() -> None:
    writer = scripted("A film.")
    video.summarise(writer, ["A red circle.", "A teal triangle."])
    assert "Scene 1: A red circle.\nScene 2: A teal triangle." in writer.backend.asked[0][0][-1].text


def test_the_chats_that_were_lent_keep_their_history() -> None:
    chat = scripted("red", history=[Turn("user", "Hi"), Turn("assistant", "Hello")])
    video.ask_caption(chat, video.film([STILL]).frames[0])
    video.summarise(chat, ["A red circle."])
    assert [turn.text for turn in chat.history] == ["Hi", "Hello"]
    assert all(len(turns) == 1 for turns, _ in chat.backend.asked)


def test_cuts_are_counted_three_ways() -> None:
    assert video.score_cuts([8, 20], [8, 16, 24]) == {"found": 1, "missed": 2, "false": 1}


def test_captions_are_scored_against_the_scene_of_their_frame() -> None:
    clip = video.film([STILL, replace(STILL, colour="teal")])
    rate = video.score_captions(["A red circle.", "A red circle."], [4, 12], clip)
    assert (rate.successes, rate.trials) == (1, 2)


def test_a_summary_is_scored_by_what_it_keeps_and_invents() -> None:
    told = ["A red circle.", "A teal triangle.", "A gray rectangle."]
    score = video.score_summary("Red circles and a teal triangle meet a blue circle.", told)
    assert score == {"told": 3, "kept": 2, "invented": 1, "scenes": 3, "in order": 2}


def test_a_summary_in_the_wrong_order_is_noticed() -> None:
    told = ["A red circle.", "A teal triangle.", "A red circle."]
    assert video.score_summary("A teal triangle, then a red circle, a red circle.", told)["in order"] == 2


def test_frames_stand_side_by_side_enlarged() -> None:
    assert video.strip(video.film([STILL]).frames[:3], zoom=3).size == (3 * (3 * 64 + 2 * 2), 3 * 64)


@pytest.mark.parametrize("options", [{"scenes": 0}, {"frames": 1}])
def test_a_clip_of_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="at least"):
        video.clip(**options)
