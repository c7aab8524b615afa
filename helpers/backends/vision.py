"""How transformers shows images to a model that sees: they become image tokens in the prompt, and numbers beside it.

A vision encoder cuts an image into patches, a projector turns them into vectors as wide as the decoder's embeddings,
and each vector takes the place of one image token. How many tokens an image takes is the processor's decision: always
the same number, or more for a larger image.

Phi-4-multimodal looks at an image once as a whole, and once in square crops of its full resolution. The image is
enlarged until it fills a grid of squares, as many as its size asks for; what is left over is white and masked. Each
crop gives side / patch / 2 image tokens a side, less where it is masked, with one more token at the end of each row;
the whole image gives a square of them, and one token stands between the two. So 448 × 448 pixels take 545 tokens, and
1,344 × 896 take 1,841. (Phi-4-Mini technical report, arXiv:2503.01743, section 2.2; the counts are what transformers'
class expects.)
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import images
from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.records import Picture

#: The folder in which Phi-4-multimodal keeps the low-rank weights that are added only where there is an image.
ADAPTER = "vision-lora"


@dataclass(frozen=True, slots=True)
class Sight:
    """What the processor makes of a conversation's images: the token ids of each, and what the encoder is given."""

    tokens: Sequence[Sequence[int]]
    features: dict[str, Any]


class Eyes(ABC):
    """What turns pictures into a model's inputs. `token` stands for one image in a prompt, `token_id` is its id."""

    token: str
    token_id: int
    tokenizer: Any
    template: str
    _last: tuple[tuple[Picture, ...], Sight] | None = None

    def look(self, pictures: tuple[Picture, ...]) -> Sight:
        """The sight of all images of a conversation; the last one is kept, since a prompt is encoded, then run."""
        if self._last is None or self._last[0] != pictures:
            self._last = (pictures, self._look([images.as_pil(picture) for picture in pictures]))
        return self._last[1]

    def expand(self, ids: Sequence[int], pictures: tuple[Picture, ...]) -> list[int]:
        """Token ids in which each image's one token has become as many as the image takes."""
        if ids.count(self.token_id) != len(pictures):
            raise InvalidInput("The model's chat template has no place for an image in this conversation.")
        tokens = iter(self.look(pictures).tokens if pictures else ())
        return [i for one in ids for i in (next(tokens) if one == self.token_id else (one,))]

    @abstractmethod
    def _look(self, shown: list[Any]) -> Sight:
        """The sight of PIL images."""


class ProcessorEyes(Eyes):
    """The processor that ships with the model, for Idefics3, SmolVLM, LLaVA and their like."""

    def __init__(self, processor: Any) -> None:
        self._processor, self.tokenizer = processor, processor.tokenizer
        self.template = processor.chat_template or self.tokenizer.chat_template or ""
        self.token = getattr(processor.image_token, "content", processor.image_token)
        self.token_id = self.tokenizer.convert_tokens_to_ids(self.token)

    def _look(self, shown: list[Any]) -> Sight:
        between = self.tokenizer.eos_token  # in no image's tokens, so it tells them apart
        text = between.join([self.token] * len(shown))
        try:
            made = self._processor(text=[text], images=shown, return_tensors="pt", add_special_tokens=False)
        except ValueError as error:
            raise InvalidInput(f"The model's processor refuses the images: {error}") from error
        tokens: list[list[int]] = [[]]
        for i in made["input_ids"][0].tolist():
            if i == self.tokenizer.eos_token_id:
                tokens.append([])
            else:
                tokens[-1].append(i)
        of_text = made["input_ids"].shape
        return Sight(tokens, {name: value for name, value in made.items() if value.shape != of_text})


class Phi4Eyes(Eyes):
    """Phi-4-multimodal's, cut as its report says; transformers' own cutter needs the package torchvision."""

    def __init__(self, config: Any, tokenizer: Any, most_crops: int) -> None:
        vision = config.vision_config
        self.tokenizer, self.template = tokenizer, tokenizer.chat_template or ""
        self.token_id = vision.image_token_id
        self.token = tokenizer.convert_ids_to_tokens(self.token_id)
        self._side, self._patch, self._most = vision.crop_size, vision.patch_size, most_crops

    def _look(self, shown: list[Any]) -> Sight:
        cuts = [cut(image, side=self._side, patch=self._patch, most=self._most) for image in shown]
        return Sight([[self.token_id] * one.tokens for one in cuts], batch(cuts))


def kind(folder: Path) -> str:
    """The model's type by its config.json: one that transformers itself has a class for, else refused."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        named = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, LookupError) as error:
        raise DamagedFile(f"{folder.name} has no readable config.json.", "Fetch or save the model again.") from error
    if named not in CONFIG_MAPPING:
        raise BackendUnavailable(
            f"transformers has no class of its own for models of the type {named!r}: {folder.name} needs code from its "
            "own repository, which the course never runs.",
            "Open it with another backend, or at a provider.",
        )
    return named


def loader(named: str) -> Any:
    """The class that loads a model of this type."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if named in _seeing() else AutoModelForCausalLM


def eyes(folder: Path, named: str, model: Any) -> Eyes | None:
    """What shows images to the model; None for one that reads text only. Phi's vision weights are added to it."""
    from transformers import AutoProcessor, AutoTokenizer

    if named == "phi4_multimodal":
        file = folder / "preprocessor_config.json"
        settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if (folder / ADAPTER).is_dir():
            model.load_adapter(str(folder / ADAPTER), adapter_name="vision")
        return Phi4Eyes(model.config, AutoTokenizer.from_pretrained(folder), settings.get("dynamic_hd", 36))
    if named not in _seeing():
        return None
    try:
        return ProcessorEyes(AutoProcessor.from_pretrained(folder, trust_remote_code=False))
    except ImportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackendUnavailable(f"The model's processor needs a further package: {lines[0]}") from error
    except (OSError, ValueError, AttributeError) as error:
        raise DamagedFile(
            f"{folder.name} holds a model that sees, but no processor for its images that can be read.",
            "Save the processor beside the model: processor.save_pretrained(folder).",
        ) from error


def use_adapter(model: Any, seen: bool) -> None:
    """Adds the low-rank weights for images, or leaves them out of a conversation without."""
    if getattr(model, "_hf_peft_config_loaded", False):
        if seen:
            model.enable_adapters()
        else:
            model.disable_adapters()


def _seeing() -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


@dataclass(frozen=True, slots=True)
class Cut:
    """One image: `pixels` crops × 3 × side × side, the whole first; `mask` crops × patches × patches."""

    pixels: Any
    mask: Any
    height: int
    width: int
    tokens: int


def cut(image: Any, *, side: int, patch: int, most: int) -> Cut:
    """The crops of a PIL image in RGB, squares of `side` pixels, `most` at the most."""
    import numpy
    import torch
    from torch.nn.functional import interpolate, pad

    image = _at_most(image, side, most)
    columns, rows = math.ceil(image.width / side), math.ceil(image.height / side)
    scale = min(columns * side / image.width, rows * side / image.height)
    height, width = int(image.height * scale + 1e-6), int(image.width * scale + 1e-6)
    raw = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None].float()
    large = interpolate(raw, (height, width), mode="bilinear", antialias=True).round()
    right, below = columns * side - width, rows * side - height
    grid = pad(large, (0, right, 0, below), value=255) / 127.5 - 1
    whole = interpolate(grid, (side, side), mode="bicubic")

    patches = side // patch
    mask = torch.ones(rows * patches, columns * patches)
    mask[:, mask.shape[1] - right // patch :] = 0
    mask[mask.shape[0] - below // patch :, :] = 0
    crops = grid.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    masks = mask.reshape(rows, patches, columns, patches).transpose(1, 2).flatten(0, 1)
    seen = mask.reshape(rows, patches, columns, patches)[:, ::2, :, ::2]
    half = math.ceil(patches / 2)
    tokens = half * (half + 1) + 1 + int(seen.sum()) + int(seen[:, :, 0, 0].sum())
    return Cut(
        torch.cat([whole, crops]), torch.cat([torch.ones_like(masks[:1]), masks]), rows * side, columns * side, tokens
    )


def batch(cuts: Sequence[Cut]) -> dict[str, Any]:
    """The images of a conversation as the model's inputs, filled up to the largest number of crops."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    return {
        "image_pixel_values": pad_sequence([one.pixels for one in cuts], batch_first=True),
        "image_attention_mask": pad_sequence([one.mask for one in cuts], batch_first=True, padding_value=1),
        "image_sizes": torch.tensor([[one.height, one.width] for one in cuts]),
    }


def _at_most(image: Any, side: int, most: int) -> Any:
    """The image, made smaller where it would take more crops; `helpers.images` keeps photographs below that."""
    while math.ceil(image.width / side) * math.ceil(image.height / side) > most:
        image = image.resize((max(1, image.width * 9 // 10), max(1, image.height * 9 // 10)))
    return image
