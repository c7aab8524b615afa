"""The miniature on a tiny language model of the same class, and the shipped one on real questions."""

import json
import random
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import catalog
from helpers.errors import DamagedFile, InvalidInput
from helpers.models import miniature, sources
from helpers.vision import easyvqa, seeing
from training import pictures, vision_04

ASKED = [q for q in easyvqa.questions("test") if q.images[0] < 3]
GROUPS = easyvqa.group_questions("test", 4, sizes=(2, 3))


@pytest.fixture(scope="session")
def language(tmp_path_factory, card):
    """A folder with a random two-layer Llama and the embedded model's tokenizer."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder, real = tmp_path_factory.mktemp("language"), sources.folder(card)
    config = LlamaConfig.from_pretrained(real)
    for name, value in {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}.items():
        setattr(config, name, value)
    config.num_attention_heads, config.num_key_value_heads = 3, 1
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(real).save_pretrained(folder)
    shutil.copy(real / "generation_config.json", folder)
    return folder


@pytest.fixture(scope="session")
def tokenizer(language):
    return miniature.miniature_processor(language).tokenizer


@pytest.fixture
def model(language, tokenizer):
    return miniature.untrained(language, tokenizer).eval()


@pytest.fixture(scope="session")
def real():
    return seeing.load_miniature(sources.folder(catalog.card("mini-vision")))


def logits(model, tokenizer):
    ids = torch.tensor([seeing.prompt_ids(tokenizer, 1) + seeing.question_ids(tokenizer, "what is it?")])
    with torch.inference_mode():
        return model(input_ids=ids, pixel_values=seeing.pixels("test", [0])[None]).logits


def test_images_reach_the_model_as_the_processor_hands_them_over(language):
    processor = miniature.miniature_processor(language)
    handed = processor(images=[easyvqa.image("test", 7)], text="<image>", return_tensors="pt")
    assert torch.equal(handed["pixel_values"][0], seeing.pixels("test", [7]))
    assert handed["input_ids"].eq(processor.image_token_id).sum() == miniature.IMAGE_TOKENS


def test_the_pieces_of_a_prompt_are_the_chat_template_s_own(language):
    processor, question = miniature.miniature_processor(language), "what color is the shape?"
    for images in (0, 1, 3):
        parts = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], add_generation_prompt=True)
        shown = [easyvqa.image("test", n) for n in range(images)] or None
        whole = processor(images=shown, text=[text], add_special_tokens=False)["input_ids"][0]
        words = processor.tokenizer
        assert list(whole) == seeing.prompt_ids(words, images) + seeing.question_ids(words, question)


def test_what_was_trained_goes_out_and_in_again(language, tokenizer, model):
    adapted = miniature.with_decoder_adapter(model)
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    adapted.eval()
    kept = miniature.trained(adapted)
    again = miniature.untrained(language, tokenizer).eval()
    before = logits(again, tokenizer)
    miniature.put_in(again, kept)
    assert torch.allclose(logits(again, tokenizer), logits(adapted, tokenizer), atol=1e-4)
    assert not torch.allclose(logits(again, tokenizer), before, atol=1e-2)


def test_only_eyes_projector_and_adapter_are_trainable(model):
    adapted = miniature.with_decoder_adapter(model)
    names = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert all("vision_model" in n or "connector" in n or "lora" in n for n in names)
    assert sum("lora_A" in n for n in names) == 2 * len(miniature.TARGETS)


def test_a_made_folder_is_loaded_by_the_auto_classes(language, tokenizer, model, tmp_path):
    shipped = tmp_path / "trained.safetensors"
    state = miniature.trained(miniature.with_decoder_adapter(model))
    save_file({name: p.contiguous() for name, p in state.items()}, shipped)
    miniature.make_folder(language, shipped, tmp_path / "folder")
    loaded, _ = seeing.load_miniature(tmp_path / "folder")
    assert type(loaded).__name__ == "Idefics3ForConditionalGeneration"
    assert len(list(seeing.image_answers(loaded, tokenizer, "test", ASKED[:3]))) == 3


def generated(model, tokenizer, question):
    """The answer the long way: one question, transformers' own generation."""
    ids = seeing.prompt_ids(tokenizer, len(question.images)) + seeing.question_ids(tokenizer, question.text)
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        pixel_values=seeing.pixels("test", question.images)[None],
        max_new_tokens=seeing.MOST_TOKENS,
        do_sample=False,
    )
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True).strip()


def test_answers_in_a_crowd_are_those_of_questions_asked_alone(real):
    for question, text in seeing.image_answers(*real, "test", [*ASKED[:3], GROUPS[0]]):
        assert text == generated(*real, question)


def test_a_packed_question_does_not_see_the_others(model, tokenizer):
    first, second = ASKED[:2]
    hidden = {}
    for name, questions in {"packed": [first, second], "alone": [second]}.items():
        ids, _, position, mask = vision_04.packed(tokenizer, [questions])
        seen = seeing.image_tokens(model, seeing.pixels("test", second.images))
        inputs = {"inputs_embeds": seeing.embeddings(model, ids, seen), "attention_mask": mask}
        hidden[name] = model.model.text_model(**inputs, position_ids=position).last_hidden_state[0]
    length = len(hidden["alone"]) - len(seeing.prompt_ids(tokenizer, 1))
    assert torch.allclose(hidden["packed"][-length:], hidden["alone"][-length:], atol=1e-5)


def test_the_targets_of_a_packed_row_are_the_answers_and_their_ends(tokenizer):
    _, target, _, _ = vision_04.packed(tokenizer, [ASKED[:3]])
    wanted = "".join(f"{q.answer}<|im_end|>" for q in ASKED[:3])
    assert tokenizer.decode(target[target >= 0]) == wanted


def test_moving_a_shape_keeps_every_pixel():
    source = pictures.placed(seeing.pixels("train", range(20)))
    chance = torch.Generator().manual_seed(0)
    made = pictures.moved(source, torch.arange(20), chance)
    assert not torch.equal(made, source.pictures)
    assert torch.equal(made.flatten(2).sort().values, source.pictures.flatten(2).sort().values)


def test_the_pace_rises_to_one_and_ends_near_nothing():
    pace = [vision_04.pace(*vision_04.stage_at(step)) for step in range(vision_04.STEPS)]
    assert (max(pace), pace.index(max(pace))) == (1.0, 59)
    assert pace[-1] < 0.01
    with pytest.raises(IndexError):
        vision_04.stage_at(vision_04.STEPS)


def test_a_balanced_row_asks_as_much_for_what_is_there_as_for_what_is_not(monkeypatch, tokenizer):
    monkeypatch.setattr(vision_04, "HELD_OUT", 3700)
    data, draw = vision_04.Batches(tokenizer), random.Random(0)
    asked = [q for _ in range(100) for q in data._single(draw, vision_04.STAGES[1]) if q.kind == "yes/no"]
    there = sum(map(easyvqa.is_there, asked))
    assert 0.4 < there / len(asked) <= 0.5


def trained_losses(monkeypatch, tmp_path, language, tokenizer, *, stopped_at=None):
    """The losses of four steps; with `stopped_at` the run breaks off there and is started again."""
    monkeypatch.setattr(vision_04, "SAVED_EVERY", 1)
    monkeypatch.setattr(vision_04, "HELD_OUT", 3960)
    monkeypatch.setattr(vision_04, "held_out", lambda *_: {})
    monkeypatch.setattr(vision_04, "CURVE", tmp_path / "curve.json")
    monkeypatch.setattr(miniature, "SHIPPED", tmp_path / "shipped.safetensors")
    short = replace(vision_04.STAGES[0], steps=2, images=2, groups=1)
    monkeypatch.setattr(vision_04, "STAGES", (short, replace(short, balanced=True)))
    monkeypatch.setattr(vision_04, "STEPS", 4)
    update, calls = vision_04.update, []

    def breaking(*arguments):
        if len(calls) == stopped_at:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(0)
        return update(*arguments)

    monkeypatch.setattr(vision_04, "update", breaking)
    for _ in range(1 if stopped_at is None else 2):
        model = miniature.untrained(language, tokenizer)
        try:
            rows = vision_04.whole(model, tokenizer, tmp_path / "whole.pt", "cpu")
        except KeyboardInterrupt:
            continue
    return [row["loss"] for row in rows]


@pytest.mark.nightly
def test_a_stopped_training_goes_on_as_if_it_had_not_been(monkeypatch, tmp_path, language, tokenizer):
    through = trained_losses(monkeypatch, tmp_path / "a", language, tokenizer)
    monkeypatch.undo()
    stopped = trained_losses(monkeypatch, tmp_path / "b", language, tokenizer, stopped_at=2)
    assert stopped == pytest.approx(through, rel=1e-3)
    assert load_file(tmp_path / "b" / "shipped.safetensors").keys() == load_file(miniature.SHIPPED).keys()


def test_the_shipped_weights_are_small_and_of_numbers():
    state = load_file(miniature.SHIPPED)
    assert miniature.SHIPPED.stat().st_size < 16e6
    assert all(torch.isfinite(p).all() for p in state.values())


def test_the_miniature_sees(real):
    share = {
        shown: seeing.scores_by_kind(seeing.image_answers(*real, "test", ASKED, shown=shown)) for shown in seeing.SHOWN
    }
    right = {shown: table.set_index("kind").share for shown, table in share.items()}
    assert right["right"]["all"] > 0.9
    assert right["right"]["colour"] > right["shuffled"]["colour"] + 0.4
    assert right["right"]["all"] > right["none"]["all"] + 0.15


def test_without_an_image_the_same_words_get_the_same_answer_and_are_read_once(model, tokenizer, monkeypatch):
    read, batch = [], seeing._batch
    monkeypatch.setattr(seeing, "_batch", lambda *given: read.extend(given[3][0]) or batch(*given))
    twice = [*ASKED[:2], replace(ASKED[0], images=(7,))]
    given = list(seeing.image_answers(model, tokenizer, "test", twice, shown="none"))
    assert len(read) == len({q.text for q in twice}) < len(given) == 3
    assert len({text for question, text in given if question.text == ASKED[0].text}) == 1


def test_habit_is_what_the_words_alone_tell():
    asked = easyvqa.questions("test")
    blind = seeing.scores_by_kind(seeing.habit(asked)).set_index("kind")
    assert list(blind.index) == ["colour", "shape", "yes/no", "all"]
    assert blind.questions["all"] == len(asked)
    assert blind.share["colour"] < 0.3


def test_the_stored_curve_is_that_of_a_whole_run():
    curve = json.loads(vision_04.CURVE.read_text(encoding="utf-8"))
    losses = [row["loss"] for row in curve["steps"]]
    assert sum(losses[-25:]) < 0.1 * sum(losses[:25])
    assert curve["steps"][-1]["one"] > 0.95


def test_what_cannot_be_shown_or_is_not_there_is_a_sentence(model, tokenizer, monkeypatch, tmp_path):
    with pytest.raises(InvalidInput, match="right, shuffled, none"):
        list(seeing.image_answers(model, tokenizer, "test", ASKED[:1], shown="twice"))
    with pytest.raises(DamagedFile, match="do not fit"):
        miniature.put_in(model, {"vision.nonsense": torch.zeros(1)})
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    with pytest.raises(DamagedFile, match="git"):
        sources.folder(catalog.card("mini-vision"))
