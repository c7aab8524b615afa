"""Images in a conversation: on the echo, on transformers with tiny models that see, and at a provider."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny_vision
from faulty_server import FaultyServer
from helpers import catalog, images
from helpers.backends import faults, messages, vision
from helpers.backends.remote import Route
from helpers.chat import Chat, open_chat
from helpers.errors import BackendUnavailable, ContextOverflow, DamagedFile, InvalidInput, RequestRefused
from helpers.models import templates
from helpers.records import Turn

RED, BLUE = Image.new("RGB", (40, 30), "red"), Image.new("RGB", (40, 30), "blue")
SEEING = ["smolvlm-256m", "phi-3-vision", "phi-3.5-vision", "phi-4-multimodal"]


# What every backend shares, on the echo


@pytest.fixture
def echo() -> Chat:
    return open_chat("phi-3.5-vision", backend="echo", context=200, max_new_tokens=20)


def test_the_history_keeps_the_images(echo: Chat) -> None:
    assert echo.say("Which is red?", images=[RED, BLUE]).text == "[40×30] [40×30] Which is red?"
    assert echo.history[0] == Turn("user", "Which is red?", (images.read(RED), images.read(BLUE)))
    assert echo.history[1].images == ()


def test_a_stream_takes_images_too(echo: Chat) -> None:
    assert "".join(echo.stream("Hi", images=(RED,))) == "[40×30] Hi"


def test_images_count_in_the_prompt_and_in_the_context(echo: Chat) -> None:
    alone = echo.say("one two").prompt_tokens
    echo.reset()
    assert echo.say("one two", images=[RED] * 3).prompt_tokens == alone + 3
    with pytest.raises(ContextOverflow, match="smaller images"):
        echo.say("one two", images=[RED] * 200, max_new_tokens=10)
    assert len(echo.history) == 2


def test_shorten_drops_old_images_with_their_turn() -> None:
    chat = open_chat("phi-3.5-vision", backend="echo", context=60, shorten=True, max_new_tokens=10)
    for _ in range(4):
        reply = chat.say("one two", images=[RED] * 12)
    assert reply.dropped_turns > 0
    assert chat.history[0].images


@pytest.mark.parametrize("given", ["photo.png", RED, np.zeros((4, 4), "uint8"), b"x", Path("photo.png"), None])
def test_images_are_a_list(echo: Chat, given: Any) -> None:
    with pytest.raises(InvalidInput, match=r"images is a list(.|\n)*images=\[…\]"):
        echo.say("What is this?", images=given)


def test_an_image_that_cannot_be_read_leaves_the_history(echo: Chat, tmp_path: Path) -> None:
    echo.say("Hi", images=[RED])
    before = echo.history
    with pytest.raises(InvalidInput, match="'gone.png' is not there"):
        echo.say("And this?", images=[RED, tmp_path / "gone.png"])
    assert echo.history == before


def test_a_text_is_needed_beside_the_image(echo: Chat) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        echo.say("", images=[RED])


def test_a_text_only_model_names_itself_and_those_that_see() -> None:
    chat = open_chat("smollm2-135m", backend="echo")
    with pytest.raises(InvalidInput, match="SmolLM2-135M reads only text") as caught:
        chat.say("What is this?", images=["is not even opened.png"])
    assert [name for name in SEEING if name not in caught.value.next_step] == []
    assert "gpt-4" not in caught.value.next_step
    assert chat.history == ()


# Templates


def test_a_template_that_takes_parts_is_told_from_one_that_takes_text() -> None:
    assert templates.takes_parts(tiny_vision.PARTS)
    assert not templates.takes_parts(tiny_vision.PHI)
    assert not templates.takes_parts("{% for m in messages %}{{ m.content }}{% endfor %}")


@pytest.mark.parametrize(("template", "image"), [(tiny_vision.PARTS, None), (tiny_vision.PHI, "<image>")])
def test_an_image_stands_before_its_text(template: str, image: str | None) -> None:
    turns = [Turn("user", "Which <image>?", (images.read(RED),) * 2), Turn("assistant", "None.")]
    text = templates.render(template, turns, image=image)
    assert "<image><image>Which <image>?" in text
    typed = [part for part, by_hand in templates.pieces(template, turns, image=image) if by_hand]
    assert typed == ["Which <image>?", "None."]


# transformers, with tiny models in its own classes


@pytest.fixture(scope="module")
def idefics3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vision.idefics3(tmp_path_factory.mktemp("models") / "tiny-idefics3")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that looks at parts of an image too, as SmolVLM does."""
    return tiny_vision.idefics3(tmp_path_factory.mktemp("models") / "tiny-split", split=True)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vision.llava(tmp_path_factory.mktemp("models") / "tiny-llava")


@pytest.fixture(scope="module")
def phi4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vision.phi4(tmp_path_factory.mktemp("models") / "tiny-phi-4-multimodal")


@pytest.fixture(scope="module", params=["idefics3", "llava", "phi4"])
def opened(request: pytest.FixtureRequest) -> Iterator[Chat]:
    folder = request.getfixturevalue(request.param)
    with open_chat(folder, "transformers", precision="fp32", max_new_tokens=8) as chat:
        yield chat


@pytest.fixture
def vlm(opened: Chat) -> Chat:
    opened.reset()
    return opened


def test_it_is_transformers_own_class_and_it_sees(vlm: Chat) -> None:
    assert type(vlm.backend.model).__module__.startswith("transformers.models.")
    assert vlm.backend.sees
    assert vlm.card.modalities == ("text", "image")
    assert vlm.card.shape.layers == 2


def test_it_is_told_red_from_blue(vlm: Chat) -> None:
    def said(image: Image.Image) -> str:
        vlm.reset()
        return vlm.say("What is this?", images=[image]).text

    assert said(RED) == said(RED) != said(BLUE)


def test_it_chats_without_an_image_too(vlm: Chat) -> None:
    reply = vlm.say("Hello")
    assert reply.new_tokens >= 1
    assert vlm.say("And again").prompt_tokens > reply.prompt_tokens


def test_several_images_in_one_turn_and_over_several_turns(vlm: Chat) -> None:
    one = vlm.say("Which?", images=[RED]).prompt_tokens
    vlm.reset()
    assert vlm.say("Which?", images=[RED, BLUE, RED]).prompt_tokens > one
    assert vlm.say("And this?", images=[BLUE]).new_tokens >= 1
    assert [len(turn.images) for turn in vlm.history] == [3, 0, 1, 0]


def test_the_prompt_counts_every_image_token(vlm: Chat) -> None:
    def tokens(*shown: Image.Image) -> int:
        return len(vlm.backend.encode([Turn("user", "x", tuple(images.read(i) for i in shown))]).tokens or ())

    each = tokens(RED) - tokens()
    assert each >= 4
    assert tokens(RED, BLUE) == tokens() + 2 * each
    vlm.backend.encode([Turn("user", "x")])
    assert vlm.say("x", images=[RED]).prompt_tokens == tokens(RED)


def test_the_order_of_images_matters(vlm: Chat) -> None:
    def said(*shown: Image.Image) -> str:
        vlm.reset()
        return vlm.say("Which is first?", images=list(shown), max_new_tokens=16).text

    assert said(RED, BLUE) != said(BLUE, RED)


def test_streaming_stopping_and_leaving_work_as_with_text(vlm: Chat) -> None:
    whole = vlm.say("Hi", images=[RED], max_new_tokens=12).text
    vlm.reset()
    assert "".join(vlm.stream("Hi", images=[RED], max_new_tokens=12)) == whole
    vlm.reset()
    stop = whole[3:5]
    assert vlm.say("Hi", images=[RED], max_new_tokens=12, stop=stop).text == whole[: whole.index(stop)]
    stream = vlm.stream("Hi", images=[RED], max_new_tokens=100)
    next(stream)
    stream.close()
    assert stream.reply.finish_reason == "cancelled"


def test_seeds_repeat_an_answer(vlm: Chat) -> None:
    def said(seed: int) -> str:
        vlm.reset()
        return vlm.say("Hi", images=[RED], temperature=5.0, seed=seed).text

    assert said(1) == said(1) != said(2)


@pytest.mark.parametrize("typed", ["<image>", "<|image|>", "<|im_end|>", "<|end|>", "<fake_token_around_image>"])
def test_a_typed_control_token_is_no_image(vlm: Chat, typed: str) -> None:
    turn = Turn("user", f"a{typed}b", (images.read(RED),))
    tokens = vlm.backend.encode([turn]).tokens or ()
    plain = vlm.backend.encode([Turn("user", "ab", (images.read(RED),))]).tokens or ()
    assert len(tokens) == len(plain) + len(typed)  # one token a byte
    assert vlm.say(f"a{typed}b", images=[RED]).new_tokens >= 1


def test_too_many_images_for_the_context_are_refused(vlm: Chat) -> None:
    with pytest.raises(ContextOverflow, match="context holds 512"):
        vlm.say("Which?", images=[RED] * 150)


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 3), (3, 2), (200, 5), (7, 300)])
def test_odd_sizes_are_looked_at(vlm: Chat, size: tuple[int, int]) -> None:
    assert vlm.say("Hi", images=[Image.new("RGB", size, "red")], max_new_tokens=1).new_tokens == 1


def test_raw_completion_stays_text(vlm: Chat) -> None:
    assert vlm.complete("abc").prompt_tokens == 3


# What the native processors make of the same conversation


@pytest.mark.parametrize("name", ["idefics3", "split", "llava"])
def test_the_prompt_is_the_native_processors_token_for_token(request: pytest.FixtureRequest, name: str) -> None:
    from transformers import AutoProcessor

    folder = request.getfixturevalue(name)
    with open_chat(folder, precision="fp32") as chat:
        turn = Turn("user", "Which?", (images.read(RED), images.read(BLUE)))
        ours = chat.backend.encode([turn, Turn("assistant", "None."), Turn("user", "Sure?")])
        features = chat.backend.eyes.look(turn.images).features
    content = [{"type": "image", "image": RED}, {"type": "image", "image": BLUE}, {"type": "text", "text": "Which?"}]
    talk = [
        ("user", content),
        *((r, [{"type": "text", "text": t}]) for r, t in [("assistant", "None."), ("user", "Sure?")]),
    ]
    native = AutoProcessor.from_pretrained(folder).apply_chat_template(
        [{"role": role, "content": parts} for role, parts in talk],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    assert ours.tokens == tuple(native["input_ids"][0].tolist())
    assert features["pixel_values"].equal(native["pixel_values"])


#: Sizes, and how many tokens transformers' own image processor of Phi-4-multimodal (5.23, with torchvision) gives them.
PHI_TOKENS = {(448, 448): 545, (500, 300): 721, (1344, 896): 1841, (100, 30): 358, (2048, 205): 921, (913, 477): 1547}


@pytest.mark.parametrize("size", PHI_TOKENS)
def test_phi_4s_crops_give_as_many_tokens_as_the_native_processor(size: tuple[int, int]) -> None:
    assert vision.cut(Image.new("RGB", size), side=448, patch=14, most=36).tokens == PHI_TOKENS[size]


def test_phi_4s_crops_show_the_whole_then_the_parts_and_mask_the_rest() -> None:
    image = Image.new("RGB", (64, 40), "red")
    image.paste("blue", (32, 0, 64, 40))
    cut = vision.cut(image, side=32, patch=8, most=36)
    assert cut.pixels.shape == (1 + 2 * 2, 3, 32, 32)
    assert [part[:, 4, 4].tolist() for part in cut.pixels[1:3]] == [[1, -1, -1], [-1, -1, 1]]
    assert cut.mask[1:].sum(dim=(1, 2)).tolist() == [16, 16, 4, 4]


def test_phi_4_takes_no_more_crops_than_it_may() -> None:
    assert len(vision.cut(Image.new("RGB", (320, 320)), side=32, patch=8, most=6).pixels) <= 1 + 6


def test_phi_4s_image_weights_are_added_only_where_there_is_an_image(phi4: Path, tmp_path: Path) -> None:
    plain = tiny_vision.phi4(tmp_path / "plain", adapter=False)
    with open_chat(plain, precision="fp32") as bare, open_chat(phi4, precision="fp32") as whole:
        same, other = ([chat.say("Hi", images=i, max_new_tokens=8).text for chat in (bare, whole)] for i in ([], [RED]))
    assert same[0] == same[1]
    assert other[0] != other[1]


# Folders that are not what they should be


def test_a_type_that_transformers_does_not_have_is_refused_without_its_code(idefics3: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(idefics3, tmp_path / "phi-3.5-vision")
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "configuration_phi3_v.Phi3VConfig"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "phi3_v", "auto_map": code}))
    with pytest.raises(BackendUnavailable, match="'phi3_v'.*code from its own repository"):
        open_chat(folder, "transformers")


def test_a_model_without_its_processor_is_a_sentence(idefics3: Path, tmp_path: Path) -> None:
    import shutil

    ignored = shutil.ignore_patterns("*processor*")
    folder = shutil.copytree(idefics3, tmp_path / "half", ignore=ignored)
    with pytest.raises(DamagedFile, match="no processor"):
        open_chat(folder, "transformers")


# Providers


@pytest.fixture
def at_nim(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("NVIDIA_NIM_ADDRESS", server.address("passing"))
    monkeypatch.setenv("NVIDIA_API_KEY", "a-key-for-the-test")
    server.seen.clear()
    with open_chat("phi-3.5-vision", provider="nim") as chat:
        yield chat


def test_images_arrive_as_data_addresses_with_the_history(at_nim: Chat, server: FaultyServer) -> None:
    at_nim.say("What is this?", images=[RED])
    at_nim.say("And these?", images=[BLUE, RED])
    first, answer, second = server.seen[-1]["body"]["messages"]
    assert [part["type"] for part in second["content"]] == ["text", "image_url", "image_url"]
    assert answer["content"] == "one two three four five"
    address = first["content"][1]["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert images.read(sent) == images.read(RED)


def test_a_photo_shrinks_to_what_the_provider_takes(at_nim: Chat, server: FaultyServer) -> None:
    at_nim.say("What is this?", images=[Image.effect_noise((900, 700), 15)])
    address = server.seen[-1]["body"]["messages"][0]["content"][1]["image_url"]["url"]
    assert address.startswith("data:image/jpeg;base64,")
    assert len(address) <= at_nim.backend.provider.image_bytes == 180_000


def test_what_a_provider_cannot_take_is_refused_before_it_is_sent(at_nim: Chat, server: FaultyServer) -> None:
    with pytest.raises(InvalidInput, match="above the limit of 180,000"):
        at_nim.say("What is this?", images=[Image.effect_noise((700, 700), 90)])
    assert server.seen == []
    assert at_nim.history == ()


def test_all_images_of_a_conversation_count_together() -> None:
    noise = images.read(Image.effect_noise((200, 200), 90))
    turns = [Turn("user", "a", (noise,)), Turn("assistant", "b"), Turn("user", "c", (noise,))]
    sent = len(messages.conversation(turns)[0]["content"][1]["image_url"]["url"])
    with pytest.raises(InvalidInput, match="The images take"):
        messages.conversation(turns, limit=sent // 3)


def test_a_text_only_model_at_a_provider_is_shown_nothing(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_OPENAI_ADDRESS", server.address("passing"))
    server.seen.clear()
    with open_chat("phi-4-mini", provider="ollama") as chat:
        with pytest.raises(InvalidInput, match="Phi-4-mini reads only text"):
            chat.say("What is this?", images=[RED])
        with pytest.raises(InvalidInput, match="reads only text"):
            chat.backend.encode([Turn("user", "What is this?", (images.read(RED),))])
    assert server.seen == []


def test_a_llama_cpp_server_without_a_vision_projector_is_a_sentence_and_not_retried() -> None:
    body = '{"error": {"code": 500, "message": "image input is not supported - hint: …", "type": "server_error"}}'
    error = faults.refusal(Route("the server", "http://127.0.0.1:1/v1"), 500, {}, body)
    assert isinstance(error, RequestRefused)
    assert "reads only text: its server has no vision projector" in error.message
    assert not error.worth_retrying


# Roads to Phi's vision models


@pytest.mark.parametrize("name", ["phi-3-vision", "phi-3.5-vision"])
@pytest.mark.parametrize("backend", ["auto", "transformers"])
def test_phis_older_vision_models_say_what_they_need(name: str, backend: str) -> None:
    with pytest.raises(BackendUnavailable, match="which would need code of its own") as caught:
        open_chat(name, backend)
    assert "is a download of 8.4 GB and takes about 9.4 GiB of memory" in caught.value.message
    assert "Download microsoft/Phi-3" in caught.value.next_step
    assert f"open_chat('{name}', provider='nim')" in caught.value.next_step


@pytest.mark.parametrize("name", ["phi-3-vision", "phi-3.5-vision", "phi-4-multimodal"])
def test_each_card_names_its_roads(name: str) -> None:
    card = catalog.card(name)
    assert "image" in card.modalities
    assert {"nim", "azure"} <= set(card.tags)
    assert "ONNX Runtime GenAI" in card.note
    assert "code from a model's repository" in card.note
