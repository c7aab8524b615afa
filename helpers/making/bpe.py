"""A byte-level BPE tokenizer of one's own, and how dear each language is in it.

Byte pair encoding starts from the 256 bytes and again and again joins the pair of neighbours that is most frequent in
the training text (Sennrich et al. 2016). So a language gets short token sequences only if the text was full of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helpers.data import stored
from helpers.errors import InvalidInput

END_OF_TEXT = "<|endoftext|>"
#: A base model has no turns: what is typed is continued as it stands.
CONTINUE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def train_tokenizer(texts: Iterable[str], vocabulary: int, *, context: int = 512) -> Any:
    """A transformers tokenizer with exactly so many tokens, learnt from the texts.

    Every digit is a token of its own, as in SmolLM2, so that 365 and 366 look alike to the model.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    smallest = 256 + 1
    if vocabulary < smallest:
        raise InvalidInput(f"A vocabulary of {vocabulary} cannot hold the 256 bytes and the end of a text.")
    bpe = Tokenizer(models.BPE())
    digits, pieces = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() < vocabulary:
        raise InvalidInput(
            f"The text allows a vocabulary of {bpe.get_vocab_size():,} tokens, not {vocabulary:,}: "
            "after that no pair is left to join.",
            "Ask for a smaller vocabulary, or give more text.",
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CONTINUE
    return tokenizer


def languages() -> dict[str, list[str]]:
    """Three sentences that say the same in each of the 23 languages that Phi-3.5's model card lists."""
    sentences: dict[str, list[str]] = stored("languages")["sentences"]
    return sentences


def fertility(tokenizers: dict[str, Any], texts: dict[str, list[str]]) -> list[dict[str, Any]]:
    """One row a text's name and tokenizer: tokens, tokens per character, and tokens per UTF-8 byte."""
    rows = []
    for name, parts in texts.items():
        characters = sum(len(part) for part in parts)
        if not characters:
            raise InvalidInput(f"There is no text named {name!r} to count tokens in.", "Give at least one character.")
        size = sum(len(part.encode()) for part in parts)
        for title, tokenizer in tokenizers.items():
            count = sum(map(len, tokenizer.backend_tokenizer.encode_batch_fast(parts, add_special_tokens=False)))
            row = {"text": name, "tokenizer": title, "tokens": count}
            rows.append(row | {"tokens_per_character": count / characters, "tokens_per_byte": count / size})
    return rows
