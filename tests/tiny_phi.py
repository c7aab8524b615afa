"""A Phi of 0.1M parameters that has learned two answers by heart, in `Phi3ForCausalLM` and with Phi's control tokens.

The published weights are gigabytes; what runs them is tested with this one, saved to a folder as a learner's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: The form that Phi-3's model card gives: <|system|>\n…<|end|>\n<|user|>\n…<|end|>\n<|assistant|>\n
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CONTROL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
ANSWERS = {"What is the capital of Sweden?": "Stockholm is.", "What is the capital of Japan?": "Tokyo is."}


def tokenizer() -> Any:
    """Byte-level pieces of a short text, and Phi's control tokens, which swallow the line break after them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator([*ANSWERS, *ANSWERS.values()], trainer)
    raw.add_special_tokens([AddedToken(token, special=True, normalized=False, rstrip=True) for token in CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )


def trained(words: Any) -> Any:
    """A Phi that has learned the answers by heart, in about two seconds."""
    import torch
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 0}
    model = Phi3ForCausalLM(Phi3Config(vocab_size=len(words), max_position_embeddings=256, **sizes, **ids))
    talks = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ANSWERS.items()]
    whole = [words.apply_chat_template(talk, return_dict=False) for talk in talks]
    batch = torch.tensor([ids + [0] * (40 - len(ids)) for ids in whole])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = model(input_ids=batch, labels=batch.masked_fill(batch == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def saved(folder: Path) -> Path:
    """The folder, with the model and its tokenizer in it."""
    words = tokenizer()
    words.save_pretrained(folder)
    trained(words).save_pretrained(folder)
    return folder
