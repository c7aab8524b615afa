"""Looking inside a vision-language model: what becomes of an image, and which part of it made the answer.

    image ── patches ──→ vision encoder ──→ connector ──→ image tokens in the sequence ──→ decoder ──→ answer

Two maps say where in the image an answer comes from, and they need not agree:

    attention   how much the position that writes the answer takes from each image token. It is a by-product of the
                computation, and not by itself a reason (Jain and Wallace 2019, arXiv 1902.10186).
    occlusion   how much less likely the answer becomes when a patch is covered: an experiment, so it shows a cause
                (Zeiler and Fergus 2014, arXiv 1311.2901, section 4.2).

For models of transformers' Idefics3 family, the miniature of this course among them. `model` and `processor` are what
`AutoModelForImageTextToText` and `AutoProcessor` load. Images are looked at whole, never split into crops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import ceil, isqrt
from typing import TYPE_CHECKING, Any

from helpers import catalog, plots
from helpers.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    Map = npt.NDArray[np.floating[Any]]

#: Covered images computed at once: enough to keep a processor busy, few enough for its memory.
IMAGES_AT_ONCE = 16
#: A pixel that differs from the background by more than this, of 255, belongs to the object.
VISIBLE = 24


def parts(model: Any) -> list[dict[str, Any]]:
    """The parameters of each part of the model and its share of all, from the image to the answer."""
    inner = model.model
    encoder, connector = _parameters(inner.vision_model), _parameters(inner.connector)
    return _shares(encoder, connector, _parameters(model) - encoder - connector)


def phi_vision_parts() -> list[dict[str, Any]]:
    """The same of Phi-3.5-vision, by arithmetic on its published configuration, without a download.

    Its encoder is CLIP's ViT-L/14 for 336 × 336 pixels, its decoder Phi-3.5-mini; the connector joins 2 × 2 patches
    and has two layers (huggingface.co/microsoft/Phi-3.5-vision-instruct, config.json). Their sum, 4.15 billion, is
    what the hub counts in its files.
    """
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):  # shapes only
        encoder = _parameters(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=336, patch_size=14)))
    width, joined = 3072, 4 * 1024
    separators = 2 * joined  # learned vectors between rows of patches, and between crops and the whole image
    connector = (joined * width + width) + (width * width + width) + separators
    decoder = catalog.card("phi-3.5-mini").parameters
    return _shares(encoder, connector, decoder)


def sequence(model: Any, processor: Any, images: Sequence[Any], question: str) -> list[dict[str, Any]]:
    """The prompt as the decoder reads it, one row for each run of tokens of a kind: image, control or text."""
    tokenizer = processor.tokenizer
    ids = _inputs(processor, images, question)["input_ids"][0].tolist()
    control = set(tokenizer.all_special_ids) | set(tokenizer.get_added_vocab().values())

    def kind(token: int) -> str:
        return "image" if token == model.config.image_token_id else "control" if token in control else "text"

    rows, start = [], 0
    for name, run in groupby(ids, kind):
        tokens = list(run)
        text = f"<image> × {len(tokens)}" if name == "image" else tokenizer.decode(tokens)
        rows.append({"from": start, "to": start + len(tokens) - 1, "tokens": len(tokens), "kind": name, "text": text})
        start += len(tokens)
    return rows


def attention(model: Any, processor: Any, image: Any, question: str) -> Map:
    """What the position that writes the answer takes from each image token: layers × rows × columns, mean of heads.

    The values of a layer add up to the share of its attention that the image gets; the rest goes to the text.
    """
    return attentions(model, processor, [image], question)[0]


def attentions(model: Any, processor: Any, images: Sequence[Any], question: str) -> Map:
    """`attention` for each of several images, in prompts of their own: images × layers × rows × columns.

    They go through the model together, which takes half the time of one after the other.
    """
    import torch

    each = [_inputs(processor, [image], question) for image in images]
    inputs = _on_device(model, {name: torch.cat([one[name] for one in each]) for name in each[0]})
    at = inputs["input_ids"][0] == model.config.image_token_id
    side = _side(int(at.sum()))
    with torch.inference_mode(), _visible_attention(model.model.text_model):
        layers = model(**inputs, output_attentions=True, use_cache=False, logits_to_keep=1).attentions
    looked = torch.stack([heads[:, :, -1].mean(1)[:, at] for heads in layers], dim=1)
    taken: Map = looked.float().cpu().reshape(len(images), -1, side, side).numpy()
    return taken


def occlusion(model: Any, processor: Any, image: Any, question: str, answer: str) -> Map:
    """How far the log-probability of `answer` falls, in nats, when each patch is covered by background: rows × columns.

    A fall of 0.7 halves the probability. Below zero, covering the patch makes the answer likelier. A patch that is
    nothing but background stays what it is, so its 0 is not computed.
    """
    return occlusions(model, processor, image, {question: answer})[question]


def occlusions(model: Any, processor: Any, image: Any, answers: Mapping[str, str]) -> dict[str, Map]:
    """`occlusion` for several questions with their answers on one image, each covered image read once for all."""
    import torch

    asked = {question: _inputs(processor, [image], question) for question in answers}
    shown = next(iter(asked.values()))
    pixels, patch = shown["pixel_values"][0, 0], model.config.vision_config.patch_size
    covered, cells = _covered(pixels, patch)
    prompts = []
    for question, answer in answers.items():
        ids = processor.tokenizer(answer, add_special_tokens=False, return_tensors="pt")["input_ids"]
        if not ids.numel():
            raise InvalidInput("The answer to explain is empty.", "Give the word that the model answered.")
        prompts.append((asked[question]["input_ids"], ids))
    batches = torch.stack([pixels, *covered]).split(IMAGES_AT_ONCE)
    likely = torch.cat([_log_likelihoods(model, shown, prompts, batch) for batch in batches], dim=1)
    maps: dict[str, Map] = {}
    for question, (before, *after) in zip(answers, likely.tolist(), strict=True):
        fall = torch.zeros(pixels.shape[1] // patch, pixels.shape[2] // patch)
        for (row, column), value in zip(cells, after, strict=True):
            fall[row, column] = before - value
        maps[question] = fall.numpy()
    return maps


def object_cells(image: Any, side: int) -> npt.NDArray[np.bool_]:
    """Which cells of a `side` × `side` grid hold a part of the object: of what is not background."""
    import numpy as np

    pixels = np.asarray(image.convert("RGB"), dtype=int)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    there = np.abs(pixels - np.median(edge, axis=0)).max(axis=2) > VISIBLE
    rows, columns = (np.arange(size) * side // size for size in there.shape)
    cells = np.zeros((side, side), dtype=bool)
    np.logical_or.at(cells, (rows[:, None], columns[None, :]), there)
    return cells


def points_at_object(values: Map, image: Any) -> bool:
    """Whether the highest cell of a map lies on the object (the "pointing game" of Zhang et al. 2016, 1608.00507)."""
    return bool(object_cells(image, len(values)).flat[values.argmax()])


def show_patches(image: Any, patch: int, *, ax: Axes | None = None) -> Axes:
    """The image with a line around each of the patches that the encoder reads as one vector."""
    width, height = image.size
    ax = _picture(image, ax)
    ax.set_xticks([x - 0.5 for x in range(0, width + 1, patch)], minor=True)
    ax.set_yticks([y - 0.5 for y in range(0, height + 1, patch)], minor=True)
    ax.grid(which="minor", color="#444444", linewidth=0.6)
    return ax


def draw_tokens(image: Any, rows: Sequence[dict[str, Any]], patch: int = 8, joined: int = 2) -> Any:
    """A figure of an image's road into the prompt: its patches, what is joined, and the sequence of `rows`.

    `rows` are those of `sequence` for one image. Each image token is drawn as the part of the image that it stands for.
    """
    import matplotlib.pyplot as plt

    plots.use_theme()
    figure, axes = plt.subplot_mosaic(
        [["cut", "join"], ["read", "read"]], figsize=(9, 4.2), height_ratios=(3, 1), layout="constrained"
    )
    side = image.width // (patch * joined)
    for place, size, title in (
        ("cut", patch, f"1. the encoder makes a vector of each of {(image.width // patch) ** 2} patches"),
        ("join", patch * joined, f"2. the connector joins {joined} × {joined}: {side**2} image tokens"),
    ):
        show_patches(image, size, ax=axes[place]).set_title(title)
    ax, at = axes["read"], 0
    for row in rows:
        for number in range(row["tokens"]):
            box = (at + 0.05, at + 0.95, 0.0, 0.9)
            if row["kind"] == "image":
                down, across = divmod(number, side)
                corner = (across * patch * joined, down * patch * joined)
                part = image.crop((*corner, corner[0] + patch * joined, corner[1] + patch * joined))
                ax.imshow(part, extent=box, aspect="auto", interpolation="nearest")
            shade = {"image": "none", "text": plots.PALETTE[1], "control": "#BBBBBB"}[row["kind"]]
            ax.add_patch(plt.Rectangle((box[0], 0), 0.9, 0.9, facecolor=shade, edgecolor="#444444", linewidth=0.5))
            at += 1
    ax.set_title("3. the decoder reads one sequence: markers grey, words blue, image tokens as what they stand for")
    ax.set(xlim=(0, at), ylim=(-0.05, 1), aspect="equal")
    ax.axis("off")
    return figure


def phi_crops(width: int, height: int, most: int = 16) -> tuple[int, int]:
    """The rows and columns of crops of 336 pixels into which Phi-3.5-vision lays an image of this size.

    The image is made as large as fits into `most` crops, whatever its size was, so a small one is enlarged
    (huggingface.co/microsoft/Phi-3.5-vision-instruct, processing_phi3_v.py, HD_transform). Its card advises 16 crops
    for one image, and 4 for each of several.

    >>> phi_crops(512, 600), phi_crops(1920, 1080), phi_crops(64, 64, most=4)
    ((4, 4), (3, 5), (2, 2))
    """
    if min(width, height, most) < 1:
        raise InvalidInput("An image has at least one pixel, and one crop.")
    ratio = max(width, height) / min(width, height)
    long = 1
    while (long + 1) * ceil((long + 1) / ratio) <= most:
        long += 1
    short = ceil(int(long * 336 / ratio) / 336)
    return (short, long) if width >= height else (long, short)


def show_map(image: Any, values: Map, label: str, *, ax: Axes | None = None) -> Axes:
    """A map over its pale image, purple above zero and orange below, with a scale whose `label` says the unit.

    Where the map is near zero the image shows through.
    """
    from PIL import Image

    pale = Image.blend(Image.new("RGB", image.size, "white"), image.convert("RGB"), 0.5)
    ax = _picture(pale, ax)
    over, top = (-0.5, image.width - 0.5, image.height - 0.5, -0.5), max(float(abs(values).max()), 1e-9)
    colours, low = ("PuOr", -top) if (values < 0).any() else ("Purples", 0.0)
    drawn = ax.imshow(values, cmap=colours, vmin=low, vmax=top, alpha=0.2 + 0.7 * abs(values) / top, extent=over)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.85).set_label(label)
    return ax


def _picture(image: Any, ax: Axes | None) -> Axes:
    """The image, its pixels as squares, on the Axes given or new ones."""
    import matplotlib.pyplot as plt

    if ax is None:
        plots.use_theme()
        ax = plt.subplots(layout="constrained")[1]
    ax.imshow(image, interpolation="nearest")
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[])
    return ax


def _inputs(processor: Any, images: Sequence[Any], question: str) -> dict[str, Any]:
    """The model's input for a question on these images, ending where the answer begins."""
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return dict(processor(images=list(images), text=prompt, do_image_splitting=False, return_tensors="pt"))


def _on_device(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(model.device) for name, value in inputs.items()}


def _covered(pixels: Any, patch: int) -> tuple[list[Any], list[tuple[int, int]]]:
    """The image once for each patch, with that patch in the background's colour, and which patch it is."""
    import torch

    edge = torch.cat([pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]], dim=1)
    background = edge.median(dim=1).values[:, None, None]
    covered, cells = [], []
    for row in range(pixels.shape[1] // patch):
        for column in range(pixels.shape[2] // patch):
            place = (slice(None), slice(row * patch, (row + 1) * patch), slice(column * patch, (column + 1) * patch))
            if not torch.equal(pixels[place], background.expand_as(pixels[place])):
                changed = pixels.clone()
                changed[place] = background
                covered.append(changed)
                cells.append((row, column))
    return covered, cells


def _log_likelihoods(model: Any, shown: dict[str, Any], prompts: Sequence[tuple[Any, Any]], pixels: Any) -> Any:
    """log P(answer | image, question) in nats, prompts × images. A prompt is the ids of a question and of its answer.

    All prompts begin alike, up to their image's last token: that is read once, and each goes on from there.
    """
    import torch

    count, found = len(pixels), []
    start = int((prompts[0][0][0] == model.config.image_token_id).nonzero().max()) + 1
    first = {name: value.expand(count, *value.shape[1:]) for name, value in shown.items()}
    first |= {name: first[name][:, :start] for name in ("input_ids", "attention_mask")}
    first["pixel_values"] = pixels[:, None]
    with torch.inference_mode():
        read = model(**_on_device(model, first), use_cache=True, logits_to_keep=1).past_key_values
        for question, answer in prompts:
            length, rest = answer.shape[1], torch.cat([question[:, start:], answer], dim=1).expand(count, -1)
            seen = torch.ones(count, start + rest.shape[1], dtype=torch.long)
            tail = _on_device(model, {"input_ids": rest, "attention_mask": seen})
            logits = model(**tail, past_key_values=read, logits_to_keep=length + 1).logits
            read.crop(-rest.shape[1])
            likely = logits[:, :-1].float().log_softmax(-1).cpu()
            found.append(likely.gather(2, answer.expand(count, -1)[:, :, None]).sum(dim=(1, 2)))
    return torch.stack(found)


@contextmanager
def _visible_attention(decoder: Any) -> Iterator[None]:
    """The decoder computing attention step by step, since the fused kernels never form the matrix."""
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _side(tokens: int) -> int:
    side = isqrt(tokens)
    if not side or side * side != tokens:
        raise InvalidInput(f"The image became {tokens} tokens, which is no square grid.", "Give one square image.")
    return side


def _parameters(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def _shares(encoder: int, connector: int, decoder: int) -> list[dict[str, Any]]:
    counted = {"vision encoder": encoder, "connector": connector, "language model": decoder}
    return [{"part": p, "parameters": n, "percent": 100 * n / sum(counted.values())} for p, n in counted.items()]
