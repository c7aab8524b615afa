"""A vision-language model small enough to train on a laptop, in the parts that Phi-3.5-vision has too.

    image 64 × 64 ─ patches of 8 × 8 ─→ vision transformer ─→ 64 vectors of 128 numbers
                                        2 × 2 joined, projected ─→ 16 image tokens of 576 numbers
    question ─→ SmolLM2-135M's own token embeddings ─────────────┴─→ SmolLM2-135M with LoRA ─→ answer

The classes are transformers' own (`Idefics3ForConditionalGeneration`, Laurençon et al. 2024, arXiv 2408.12637).
What was trained here ships as one small file; the language model's weights come from the embedded one, and the adapter
is added into them when the folder is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers.data import FOLDER
from helpers.errors import DamagedFile

#: The trained weights, and the card that says what they are.
SHIPPED = FOLDER / "mini_vision" / "model.safetensors"
IMAGE_SIDE, PATCH_SIDE, JOINED = 64, 8, 2
IMAGE_TOKENS = (IMAGE_SIDE // PATCH_SIDE // JOINED) ** 2
WIDTH, LAYERS, HEADS = 128, 4, 4
#: Beside these three matrices of each layer of the language model lies an adapter of this rank; α = 2r.
TARGETS, RANK = ("q_proj", "v_proj", "o_proj"), 16
#: The tokens that the language model did not have: around an image, before its tokens, and the image's own.
FAKE, GLOBAL, IMAGE, END = "<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"
NEW_TOKENS = (FAKE, GLOBAL, IMAGE, END)
#: ChatML, the language model's own form, where a turn may hold images. They stand before the text.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'image' %}<image>{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def miniature_processor(language_folder: Path) -> Any:
    """What turns images and text into a model's input: an `Idefics3Processor` around SmolLM2's tokenizer."""
    from transformers import AutoTokenizer, Idefics3ImageProcessorPil, Idefics3Processor

    tokenizer = AutoTokenizer.from_pretrained(language_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(NEW_TOKENS)})
    side = {"longest_edge": IMAGE_SIDE}
    images = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE)


def untrained(language_folder: Path, tokenizer: Any) -> Any:
    """The whole model in fp32: SmolLM2's weights in the decoder, random ones in the parts that see."""
    import torch
    from transformers import AutoModelForCausalLM, Idefics3ForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    language = AutoModelForCausalLM.from_pretrained(language_folder, dtype=torch.float32, use_safetensors=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logging.set_verbosity_error()
        language.resize_token_embeddings(len(tokenizer))  # new rows drawn around the old ones, which it remarks on
        logging.set_verbosity_warning()
        model = Idefics3ForConditionalGeneration(miniature_config(language.config, tokenizer))
    model.model.text_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    model.generation_config = language.generation_config
    return model


def miniature_config(language: Any, tokenizer: Any) -> Any:
    """The configuration around a language model's own."""
    from transformers import Idefics3Config, Idefics3VisionConfig

    vision = Idefics3VisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE,
    )
    return Idefics3Config(
        vision_config=vision.to_dict(),
        text_config=language.to_dict(),
        scale_factor=JOINED,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        pad_token_id=language.pad_token_id,
        tie_word_embeddings=True,
    )


def with_decoder_adapter(model: Any) -> Any:
    """The model with a LoRA adapter in its decoder; the adapter, the vision parts and nothing else are trainable."""
    import torch
    from peft import LoraConfig, get_peft_model

    targets = rf".*text_model.*\.({'|'.join(TARGETS)})"
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still asks for what transformers renames
        torch.manual_seed(0)
        adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets))
    for part in (adapted.base_model.model.model.vision_model, adapted.base_model.model.model.connector):
        part.requires_grad_(True)
    return adapted


def trained(adapted: Any) -> dict[str, Any]:
    """What was trained, and the rows of the new tokens, by short names: all that has to be shipped."""
    model = adapted.base_model.model.model
    kept = {f"vision.{name}": p for name, p in model.vision_model.state_dict().items()}
    kept |= {f"connector.{name}": p for name, p in model.connector.state_dict().items()}
    kept["new_tokens"] = model.text_model.embed_tokens.weight[-len(NEW_TOKENS) :]
    for number, layer in enumerate(model.text_model.layers):
        for target in TARGETS:
            matrix = getattr(layer.self_attn, target)
            kept[f"lora.{number}.{target}.A"] = matrix.lora_A.default.weight
            kept[f"lora.{number}.{target}.B"] = matrix.lora_B.default.weight
    return {name: p.detach().cpu() for name, p in kept.items()}


def put_in(model: Any, state: Mapping[str, Any]) -> None:
    """Loads what was trained into an untrained model and adds the adapter to the decoder: W + (α / r) · B A."""
    import torch

    inner = model.model
    try:
        for part, module in (("vision", inner.vision_model), ("connector", inner.connector)):
            own = {name.removeprefix(f"{part}."): p.float() for name, p in state.items() if name.startswith(f"{part}.")}
            module.load_state_dict(own)
        with torch.no_grad():
            inner.text_model.embed_tokens.weight[-len(NEW_TOKENS) :] = state["new_tokens"].float()
            for number, layer in enumerate(inner.text_model.layers):
                for target in TARGETS:
                    down, up = (state[f"lora.{number}.{target}.{side}"].float() for side in "AB")
                    getattr(layer.self_attn, target).weight += 2.0 * up @ down
    except (KeyError, RuntimeError) as error:
        raise DamagedFile(
            "The miniature's weights do not fit its parts.", "Restore data/mini_vision with git."
        ) from error


def make_folder(language_folder: Path, shipped: Path, folder: Path) -> None:
    """Writes the model as a folder that `AutoProcessor` and `AutoModelForImageTextToText` load, in bf16."""
    import torch
    from safetensors.torch import load_file

    whole = miniature_processor(language_folder)
    model = untrained(language_folder, whole.tokenizer)
    put_in(model, load_file(shipped))
    model.to(torch.bfloat16).save_pretrained(folder)
    whole.save_pretrained(folder)
