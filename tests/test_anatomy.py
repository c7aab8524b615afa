import pytest

from helpers import anatomy
from helpers.anatomy import DEVICES
from helpers.catalog import card, cards
from helpers.errors import InvalidInput

COUNTED = [c.name for c in cards() if c.basis == "computed"]
# From the published table of shapes: bytes of keys and values a token in bf16.
KV_BYTES = {
    "phi-3-mini": 393_216,
    "phi-3.5-mini": 393_216,
    "phi-3-small": 131_072,
    "phi-3-medium": 204_800,
    "phi-3.5-vision": 393_216,
    "phi-3.5-moe": 131_072,
    "phi-4": 204_800,
    "phi-4-mini": 131_072,
    "phi-4-multimodal": 131_072,
    "mistral-7b": 131_072,
    "qwen2.5-coder-0.5b": 12_288,
    "qwen2.5-coder-1.5b": 28_672,
    "smollm2-135m": 23_040,
    "smollm2-360m": 40_960,
    "smollm2-1.7b": 196_608,
}


def by_hand(c):
    """The parameters of a decoder, from its shape alone."""
    s, moe = c.shape, c.model_type == "phimoe"
    keys = s.hidden // s.heads * s.kv_heads
    attention = 2 * s.hidden * s.hidden + 2 * s.hidden * keys
    experts, router = s.experts * 3 * s.hidden * s.ffn, s.experts * s.hidden if moe else 0
    layer = attention + experts + router + 2 * s.hidden
    if c.model_type == "qwen2":  # a bias on queries, keys and values
        layer += s.hidden + 2 * keys
    outside = (1 if s.tied_embeddings else 2) * s.vocabulary * s.hidden + s.hidden
    biases = s.layers * (2 * s.hidden + 2 * keys + 2 * s.hidden) + s.vocabulary + s.hidden if moe else 0
    return s.layers * layer + outside + biases


@pytest.mark.parametrize("name", COUNTED)
def test_the_class_the_card_and_arithmetic_agree_to_the_digit(name):
    c, count = card(name), anatomy.parameters(name)
    assert count.total == c.parameters == by_hand(c)
    assert count.active == c.active_parameters
    assert sum(count.by_part.values()) == count.total


def test_experts_are_nearly_all_of_a_mixture():
    parts = anatomy.parameters("phi-3.5-moe").by_part
    assert parts["experts"] == 32 * 16 * 3 * 4096 * 6400
    assert parts["router"] == 32 * 16 * 4096
    assert set(parts) == {"embeddings", "attention", "experts", "router", "norms", "head"}


def test_tied_embeddings_leave_no_head_to_count():
    tied = anatomy.parameters("smollm2-135m").by_part
    assert "head" not in tied
    assert tied["embeddings"] == 49152 * 576


def test_a_skeleton_holds_no_weights():
    assert {tensor.device.type for tensor in anatomy.skeleton("smollm2-135m").parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["phi-3-vision", "phi-3-small", "gpt-3", "gpt-4"])
def test_a_model_without_a_class_is_refused_with_what_its_card_says(name):
    with pytest.raises(InvalidInput, match=f"{card(name).parameters:,}"):
        anatomy.parameters(name)


def test_the_cache_of_one_token_is_that_of_the_table():
    assert {name: anatomy.kv_cache_bytes(name, 1) for name in KV_BYTES} == KV_BYTES
    assert anatomy.kv_cache_bytes("phi-4", 1000, bytes_per_value=1) == 500 * KV_BYTES["phi-4"]


def test_a_sliding_window_bounds_the_cache():
    assert anatomy.kv_cache_bytes("mistral-7b", 32768) == anatomy.kv_cache_bytes("mistral-7b", 4096)
    assert anatomy.kv_cache_bytes("phi-4", 8192) == 2 * anatomy.kv_cache_bytes("phi-4", 4096)


def test_memory_of_one_block_of_32_weights():
    sizes = {"fp32": 128, "bf16": 64, "int8": 32, "int4": 16, "Q4_1": 20}
    assert {precision: anatomy.memory_bytes(32, precision) for precision in sizes} == sizes


def test_bits_of_block_formats_are_those_of_the_gguf_package():
    gguf = pytest.importorskip("gguf")
    blocks = {
        p: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[p]] for p in anatomy.PRECISION_BITS if p.startswith("Q")
    }
    assert {p: 8 * size / weights for p, (weights, size) in blocks.items()}.items() <= anatomy.PRECISION_BITS.items()


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInput, match="Q4_1"):
        anatomy.memory_bytes(1, "Q4_7")


def test_the_head_is_read_whole_and_the_input_embedding_is_not():
    c = card("phi-3.5-mini")
    assert anatomy.multiplied_parameters(c) == c.parameters - 32064 * 3072
    assert anatomy.multiplied_parameters("smollm2-135m") == 134_515_008


def test_the_estimate_has_operations_but_no_cache():
    assert anatomy.flops_per_token("smollm2-135m") == 2 * 134_515_008
    assert anatomy.flops_per_token("gpt-4") == 2 * 1_760_000_000_000
    with pytest.raises(InvalidInput, match="not published"):
        anatomy.kv_cache_bytes("gpt-4", 1000)


def test_training_takes_the_longer_the_less_of_a_device_it_reaches():
    assert anatomy.training_hours(3.6e18, 1e15, utilisation=0.5) == pytest.approx(2)


def test_bytes_a_token_are_weights_and_cache_and_a_file_of_a_tied_model_is_read_whole():
    weights = anatomy.bytes_per_token("smollm2-135m", "fp32")
    assert weights == 4 * 134_515_008
    assert anatomy.bytes_per_token("smollm2-135m", "fp32", 100) == weights + 100 * 23_040
    assert anatomy.bytes_per_token("smollm2-135m", file_bytes=98_362_432) == 98_362_432
    assert anatomy.bytes_per_token("phi-3.5-mini", file_bytes=1000) == 974


def test_the_roofline_is_bandwidth_over_bytes():
    laptop = DEVICES["laptop"].bandwidth
    assert anatomy.predicted_decode(anatomy.bytes_per_token("phi-3.5-mini", "bf16"), laptop) == pytest.approx(
        12.0, 0.01
    )


def test_devices_are_listed_from_slow_to_fast_memory_with_their_source():
    assert list(DEVICES) == ["raspberry-pi-5", "phone", "laptop", "apple-m4", "t4", "rtx-4090", "a100", "h100"]
    speeds = [device.bandwidth for device in DEVICES.values()]
    assert speeds == sorted(speeds)
    assert all(device.source.startswith("https://") for device in DEVICES.values())
    assert all((device.peak is None) == (device.peak_format is None) for device in DEVICES.values())
