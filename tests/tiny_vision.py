"""Vision-language models small enough to make in a test: random weights in transformers' own classes, saved to folders.

Each sees two kinds of image apart and answers with whatever its random weights prefer, which is enough to test what
runs them: loading, image tokens, generation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: ChatML, with an image's token where the turn has one, as the templates of Idefics3's family write it.
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Phi-4's, which takes text alone.
PHI = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
IDEFICS = ["<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
PHI_CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|image|>", "<|audio|>"]
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def tokenizer(control: list[str], template: str, end: str) -> Any:
    """Bytes as tokens, and the control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end, pad_token=end, chat_template=template)


def idefics3(folder: Path, *, split: bool = False) -> Path:
    """Idefics3: 32 × 32 pixels in patches of 8, joined 2 × 2 to four image tokens. `split` also shows four quarters."""
    import torch
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessorPil,
        Idefics3Processor,
        LlamaConfig,
    )

    words = tokenizer(IDEFICS, PARTS, "<|im_end|>")
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 64 if split else 32}, max_image_size={"longest_edge": 32}, do_image_splitting=split
    )
    Idefics3Processor(images, words, image_seq_len=4, chat_template=PARTS).save_pretrained(folder)
    ends = {"bos_token_id": None, "eos_token_id": words.eos_token_id, "pad_token_id": words.eos_token_id}
    text = LlamaConfig(vocab_size=len(words), max_position_embeddings=512, **TEXT, **ends)
    config = Idefics3Config(
        text_config=text,
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.eos_token_id,
    )
    torch.manual_seed(1)
    widened(Idefics3ForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    """LLaVA: a CLIP encoder of 32 × 32 pixels, sixteen image tokens."""
    import torch
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    words = tokenizer(IDEFICS, PARTS, "<|im_end|>")
    square = {"height": 32, "width": 32}
    images = CLIPImageProcessorPil(size=square, crop_size=square)
    options = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    LlavaProcessor(images, words, image_token="<image>", chat_template=PARTS, **options).save_pretrained(folder)
    text = {"model_type": "llama", "vocab_size": len(words), "max_position_embeddings": 512, **TEXT}
    vision = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 16, **VISION}
    image_id = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=image_id)
    torch.manual_seed(1)
    widened(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    return folder


def phi4(folder: Path, *, adapter: bool = True) -> Path:
    """Phi-4-multimodal: crops of 32 × 32 pixels, the low-rank weights for images in a folder of their own."""
    import torch
    from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

    words = tokenizer(PHI_CONTROL, PHI, "<|end|>")
    words.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"dynamic_hd": 6}))
    end, image, audio = words.convert_tokens_to_ids(["<|end|>", "<|image|>", "<|audio|>"])
    sounds = {"num_blocks": 1, "num_attention_heads": 2, "ext_pw_out_channel": 16, "nemo_conv_channels": 16}
    sounds |= {"depthwise_separable_out_channel": 16, "hidden_size": 16, "intermediate_size": 16}
    config = Phi4MultimodalConfig(
        vocab_size=len(words),
        max_position_embeddings=512,
        original_max_position_embeddings=512,
        num_key_value_heads=2,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        vision_config={**VISION, "image_size": 32, "crop_size": 32, "patch_size": 8, "image_token_id": image},
        audio_config={**sounds, "audio_token_id": audio},
        **TEXT,
    )
    torch.manual_seed(1)
    model = widened(Phi4MultimodalForCausalLM(config))
    model.save_pretrained(folder)
    if adapter:
        from peft import LoraConfig

        model.add_adapter(LoraConfig(r=2, target_modules=["qkv_proj", "o_proj"], init_lora_weights=False))
        model.save_pretrained(folder / "vision-lora")
    return folder


def widened(model: Any) -> Any:
    """The model with larger random weights, so that what it is shown decides what it says."""
    import torch

    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.normal_(0, 0.3)
    return model
