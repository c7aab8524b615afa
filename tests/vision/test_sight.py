"""Looking inside: the parts, the tokens, and the two maps, on a tiny random model of the miniature's own classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from helpers.errors import InvalidInput
from helpers.models import miniature, sources
from helpers.records import ModelCard
from helpers.vision import sight

QUESTION = "what shape is in the image?"


@pytest.fixture(scope="module")
def processor(card: ModelCard) -> Any:
    return miniature.miniature_processor(sources.folder(card))


@pytest.fixture(scope="module")
def model(processor: Any) -> Any:
    """Random weights: one layer of each kind, 32 numbers wide."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    words = processor.tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    text = {"model_type": "llama", "vocab_size": len(words), "num_hidden_layers": 3, "num_key_value_heads": 1}
    vision = {"num_hidden_layers": 1, "image_size": 64, "patch_size": 8}
    ids = {"image_token_id": words.convert_tokens_to_ids("<image>"), "pad_token_id": words.pad_token_id}
    config = Idefics3Config(text_config=sizes | text, vision_config=sizes | vision, scale_factor=2, **ids)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Idefics3ForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A red square that fills four patches exactly, the second and third of the second and third row."""
    image = Image.new("RGB", (64, 64), (240, 250, 245))
    ImageDraw.Draw(image).rectangle((8, 8, 23, 23), fill=(255, 0, 0))
    return image


def test_the_parts_are_all_of_the_model(model: Any) -> None:
    rows = sight.parts(model)
    assert sum(row["parameters"] for row in rows) == model.num_parameters()
    assert sum(row["percent"] for row in rows) == pytest.approx(100)
    assert rows[1]["parameters"] == 4 * 32 * 32  # the connector joins four patches into one token


def test_the_published_parts_of_phi_add_up_to_what_the_hub_counts() -> None:
    assert sum(row["parameters"] for row in sight.phi_vision_parts()) == 4_146_621_440


def test_an_image_is_sixteen_tokens_between_two_markers(model: Any, processor: Any, picture: Image.Image) -> None:
    rows = sight.sequence(model, processor, [picture], QUESTION)
    image = next(number for number, row in enumerate(rows) if row["kind"] == "image")
    assert rows[image]["tokens"] == 16
    assert rows[image - 1]["text"].endswith("<global-img>")
    assert rows[image + 1]["text"].startswith("<fake_token_around_image>")


def test_the_runs_of_tokens_follow_each_other(model: Any, processor: Any, picture: Image.Image) -> None:
    rows = sight.sequence(model, processor, [picture] * 3, QUESTION)
    assert [row["from"] for row in rows[1:]] == [row["to"] + 1 for row in rows[:-1]]
    assert sum(row["kind"] == "image" for row in rows) == 3


def test_attention_is_a_share_for_each_layer_and_image_token(model: Any, processor: Any, picture: Image.Image) -> None:
    before = model.model.text_model.config._attn_implementation
    looked = sight.attention(model, processor, picture, QUESTION)
    assert looked.shape == (3, 4, 4)
    assert (looked > 0).all()
    assert (looked.sum(axis=(1, 2)) < 1).all()
    assert model.model.text_model.config._attn_implementation == before != "eager"


def test_images_looked_at_together_are_looked_at_as_if_alone(model: Any, processor: Any, picture: Image.Image) -> None:
    other = Image.new("RGB", (64, 64), (10, 200, 30))
    together = sight.attentions(model, processor, [other, picture], QUESTION)
    assert together[1] == pytest.approx(sight.attention(model, processor, picture, QUESTION), abs=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-5)


def test_only_patches_that_hold_something_can_matter(model: Any, processor: Any, picture: Image.Image) -> None:
    fall = sight.occlusion(model, processor, picture, QUESTION, "rectangle")
    assert fall.shape == (8, 8)
    assert {tuple(cell) for cell in np.argwhere(fall)} == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_the_fall_is_what_covering_by_hand_gives(model: Any, processor: Any, picture: Image.Image) -> None:
    covered = picture.copy()
    ImageDraw.Draw(covered).rectangle((8, 16, 15, 23), fill=(240, 250, 245))
    by_hand = likelihood(model, processor, picture, "no") - likelihood(model, processor, covered, "no")
    assert sight.occlusion(model, processor, picture, QUESTION, "no")[2, 1] == pytest.approx(by_hand, abs=1e-4)


def likelihood(model: Any, processor: Any, image: Image.Image, answer: str) -> float:
    """log P of a one-token answer, by the plainest way."""
    import torch

    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    prompt = processor.apply_chat_template([turn], add_generation_prompt=True)
    inputs = processor(images=[image], text=prompt, return_tensors="pt")
    with torch.inference_mode():
        last = model(**inputs).logits[0, -1].log_softmax(-1)
    return float(last[processor.tokenizer(answer)["input_ids"]].item())


def test_questions_asked_together_do_not_disturb_each_other(model: Any, processor: Any, picture: Image.Image) -> None:
    answers = {QUESTION: "a red rectangle", "what color is the shape?": "red"}
    together = sight.occlusions(model, processor, picture, answers)
    for question, answer in answers.items():
        alone = sight.occlusion(model, processor, picture, question, answer)
        np.testing.assert_allclose(together[question], alone, atol=1e-4)


def test_an_answer_of_several_tokens_is_explained_as_a_whole(model: Any, processor: Any, picture: Image.Image) -> None:
    assert np.isfinite(sight.occlusion(model, processor, picture, QUESTION, "a red rectangle")).all()
    with pytest.raises(InvalidInput, match="empty"):
        sight.occlusion(model, processor, picture, QUESTION, "")


def test_the_cells_of_the_object_are_found(picture: Image.Image) -> None:
    assert {tuple(cell) for cell in np.argwhere(sight.object_cells(picture, 8))} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert sight.object_cells(picture, 4).sum() == 4


def test_a_map_points_at_the_object_with_its_highest_cell(picture: Image.Image) -> None:
    for cell, hit in (((2, 2), True), ((5, 5), False)):
        values = np.zeros((8, 8))
        values[cell] = 1
        assert sight.points_at_object(values, picture) is hit


def test_a_map_is_drawn_over_the_whole_image_with_its_unit(picture: Image.Image) -> None:
    ax = sight.show_map(picture, np.eye(4), "fall (nats)")
    assert ax.images[1].get_extent() == [-0.5, 63.5, 63.5, -0.5]
    assert ax.figure.axes[1].get_ylabel() == "fall (nats)"


def test_patches_are_drawn_on_their_borders(picture: Image.Image) -> None:
    ax = sight.show_patches(picture, 8)
    assert list(ax.xaxis.get_minorticklocs()) == [x - 0.5 for x in range(0, 65, 8)]


def test_the_drawing_shows_a_box_for_each_token(model: Any, processor: Any, picture: Image.Image) -> None:
    rows = sight.sequence(model, processor, [picture], QUESTION)
    figure = sight.draw_tokens(picture, rows)
    read = figure.axes[-1]
    assert len(read.patches) == sum(row["tokens"] for row in rows)
    assert len(read.images) == 16


@pytest.mark.parametrize(("size", "crops"), [((1344, 1344), (4, 4)), ((64, 64), (4, 4)), ((100, 1700), (16, 1))])
def test_phi_fills_its_crops_whatever_the_size(size: tuple[int, int], crops: tuple[int, int]) -> None:
    assert sight.phi_crops(*size) == crops


def test_an_image_without_pixels_has_no_crops() -> None:
    with pytest.raises(InvalidInput):
        sight.phi_crops(0, 600)
