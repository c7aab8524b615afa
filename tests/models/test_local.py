"""A learner's own files: what is read of a GGUF file's head and of a folder's config, and what damage is called."""

from __future__ import annotations

import json
import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from safetensors.numpy import save_file

from helpers import anatomy
from helpers.errors import CourseError, DamagedFile, InvalidInput
from helpers.models import gguf_head, local, sources
from helpers.records import ModelCard

PLAIN = {"block_count": 3, "embedding_length": 64, "context_length": 512, "feed_forward_length": 128}
HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}


def write(path: Path, values: dict[str, Any], tensors: tuple[str, ...] = ("token_embd.weight",)) -> Path:
    """A GGUF file as the publisher of the format writes it, with tensors of 4 × 64 numbers."""
    writer = GGUFWriter(path, "llama")
    for key, value in values.items():
        if isinstance(value, list):
            writer.add_array(f"llama.{key}", value)
        elif isinstance(value, str):
            writer.add_string(f"llama.{key}", value)
        else:
            writer.add_uint32(f"llama.{key}", value)
    writer.add_token_list([f"token {n}" for n in range(40)])
    writer.add_token_scores([0.0] * 40)
    for name in tensors:
        writer.add_tensor(name, np.zeros((4, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write(tmp_path / "plain.gguf", PLAIN | HEADS)


# GGUF files


def test_the_head_says_what_the_formats_own_reader_says(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sources.gguf(card)
    # Theirs makes an array of each token, and a piece of a memmap is dear to make.
    monkeypatch.setattr(np, "memmap", lambda path, mode: np.fromfile(path, np.uint8))
    ours, theirs = gguf_head.read_head(file), GGUFReader(file)
    assert {t.name: (tuple(int(n) for n in t.shape), t.tensor_type.value, t.data_offset) for t in theirs.tensors} == {
        name: (tensor.shape, tensor.kind, tensor.start) for name, tensor in ours.tensors.items()
    }
    for key in ("general.architecture", "llama.rope.freq_base", "tokenizer.ggml.pre", "tokenizer.chat_template"):
        assert ours.values[key] == theirs.fields[key].contents()
    assert ours.counts["tokenizer.ggml.merges"] == len(theirs.fields["tokenizer.ggml.merges"].data)


def test_a_gguf_file_is_counted_to_the_digit(card: ModelCard) -> None:
    own = local.card_of_path(sources.gguf(card))
    assert (own.parameters, own.shape) == (card.parameters, card.shape)


def test_a_vocabulary_is_counted_and_no_list_of_it_is_made(plain: Path) -> None:
    head = gguf_head.read_head(plain)
    assert head.counts["tokenizer.ggml.tokens"] == 40
    assert head.values["tokenizer.ggml.tokens"] is None


def test_an_output_matrix_of_its_own_is_no_tied_one(tmp_path: Path) -> None:
    file = write(tmp_path / "own.gguf", PLAIN | HEADS, ("token_embd.weight", "output.weight", "rope_freqs.weight"))
    own = local.card_of_path(file)
    assert not own.shape.tied_embeddings
    assert own.parameters == 2 * 4 * 64  # a table of angles is no parameter


@pytest.mark.fault("models and their files")
def test_heads_that_differ_by_layer_are_counted_layer_by_layer(tmp_path: Path) -> None:
    layers = {"attention.head_count": [4, 8, 4], "attention.head_count_kv": [1, 0, 4], "feed_forward_length": [9, 8, 7]}
    own = local.card_of_path(write(tmp_path / "lists.gguf", PLAIN | layers | {"attention.key_length": 16}))
    assert (own.shape.heads, own.shape.kv_heads, own.shape.ffn) == (8, 4, 9)
    assert anatomy.kv_cache_bytes(own, 10) == 10 * 2 * (1 + 0 + 4) * 16 * 2


def test_heads_of_another_size_than_hidden_over_heads_are_noticed(tmp_path: Path) -> None:
    own = local.card_of_path(write(tmp_path / "wide.gguf", PLAIN | HEADS | {"attention.key_length": 32}))
    assert anatomy.kv_cache_bytes(own, 1) == 2 * 3 * 2 * 32 * 2


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("cut", [0, 3, 8, 30, 100, 1000, -2048])
def test_a_file_cut_short_is_a_sentence(plain: Path, cut: int) -> None:
    plain.write_bytes(plain.read_bytes()[:cut])
    with pytest.raises(DamagedFile, match=r"plain\.gguf cannot be read as a GGUF file.*\n→ Fetch it again"):
        local.card_of_path(plain)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with b'vers'"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(90), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 62), "keys"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63), "cut short"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 1 << 62), "items in one list"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQQ", 3, 0, 1, 1, b"k", 9, 8, 9, 1 << 63), "cut short"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1), "items of the type 9"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77), "type 77"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"t", 1 << 30), "dimensions"),
        (b"GGUF" + struct.pack("<IQQQ17sII", 3, 0, 1, 17, b"general.alignment", 4, 0), "alignment"),
    ],
)
def test_what_no_gguf_file_holds_is_named(tmp_path: Path, start: bytes, said: str) -> None:
    (tmp_path / "x.gguf").write_bytes(start)
    with pytest.raises(DamagedFile, match=said):
        local.card_of_path(tmp_path / "x.gguf")


@pytest.mark.fault("models and their files")
def test_damage_anywhere_in_the_head_never_ends_in_another_error(plain: Path) -> None:
    whole, dice = plain.read_bytes(), random.Random(7)
    for _ in range(300):
        hurt = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            hurt[dice.randrange(len(whole) - 1024)] = dice.randrange(256)
        plain.write_bytes(hurt)
        with suppress(CourseError):
            local.card_of_path(plain)


@pytest.mark.parametrize("missing", ["block_count", "context_length", "embedding_length"])
def test_a_file_that_only_adds_to_a_model_is_a_sentence(tmp_path: Path, missing: str) -> None:
    values = {key: value for key, value in PLAIN.items() if key != missing}
    with pytest.raises(InvalidInput, match="no language model"):
        local.card_of_path(write(tmp_path / "mmproj.gguf", values | HEADS))


def test_a_text_where_a_number_is_meant_is_a_sentence(tmp_path: Path) -> None:
    file = write(tmp_path / "odd.gguf", {**PLAIN, **HEADS, "attention.head_count_kv": "two"})
    with pytest.raises(DamagedFile, match="head_count_kv"):
        local.card_of_path(file)


# Folders of safetensors


def folder(path: Path, config: dict[str, Any], *names: str) -> Path:
    """A folder with a config and tensors of 10 numbers."""
    (path / "config.json").write_text(json.dumps(config))
    save_file({name: np.zeros(10, np.float32) for name in names}, path / "model.safetensors")
    return path


@pytest.mark.fault("models and their files")
def test_a_gpt_2_folder_has_the_shape_of_its_own_names(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_layer": 2, "n_embd": 48, "n_head": 3, "n_positions": 99, "vocab_size": 300}
    own = local.card_of_path(folder(tmp_path, config, "wte.weight", "h.0.attn.bias", "h.0.attn.c_attn.bias"))
    assert own.parameters == 20  # the mask that older files store is no parameter
    assert (own.shape.layers, own.shape.hidden, own.shape.heads, own.shape.kv_heads) == (2, 48, 3, 3)
    assert (own.shape.ffn, own.shape.context, own.shape.vocabulary, own.shape.tied_embeddings) == (192, 99, 300, True)


def test_a_config_that_leaves_out_its_classes_defaults_is_filled(tmp_path: Path) -> None:
    own = local.card_of_path(
        folder(tmp_path, {"model_type": "gemma3_text", "num_hidden_layers": 5}, "embed_tokens.weight")
    )
    assert (own.shape.layers, own.shape.heads, own.shape.kv_heads, own.shape.head_size) == (5, 8, 4, 256)


def test_a_window_that_is_switched_off_is_none(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": 64, "sliding_window": 32}
    own = local.card_of_path(
        folder(tmp_path, {"model_type": "qwen2", **sizes, "use_sliding_window": False}, "lm_head.weight")
    )
    assert own.shape.window is None
    assert not own.shape.tied_embeddings


def test_a_kind_that_nobody_knows_has_no_shape_and_is_no_damage(tmp_path: Path) -> None:
    own = local.card_of_path(folder(tmp_path, {"model_type": "of-ones-own"}, "weight"))
    assert (own.shape, own.parameters) == (None, 10)


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize("config", ["[]", "{", '{"model_type": "gpt2", "n_layer": "two"}', '{"text_config": 3}', "{}"])
def test_a_broken_config_is_a_sentence(tmp_path: Path, config: str) -> None:
    folder(tmp_path, {}, "weight")
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(DamagedFile, match="cannot be read as a model"):
        local.card_of_path(tmp_path)


def test_a_path_to_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nothing at .*missing\.gguf"):
        local.card_of_path(tmp_path / "missing.gguf")


@pytest.mark.parametrize("model", ["C:/models/x", "C:\\models\\x", "~/x", "./x", "../x", "/x", "x.gguf"])
def test_a_place_on_a_disk_is_told_from_a_name(model: str) -> None:
    assert local.is_path(model)
    assert not local.is_path("microsoft/Phi-3.5-mini-instruct")
