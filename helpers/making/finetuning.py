"""Fine-tuning by LoRA: two thin matrices beside each big one, and only the thin ones learn.

    h = W x + (α / r) · B A x        W: d × k, frozen     A: r × k     B: d × r     r ≪ d, k

B starts at zero, so training starts from the model as it was. Afterwards B A can be added into W, and the model costs
what it cost before (Hu et al. 2021, LoRA, section 4). The task is that of dates.py: a date in words becomes ISO form.
"""

from __future__ import annotations

import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput
from helpers.making.batched import batched_texts
from helpers.making.dates import DateExample
from helpers.making.training import Batch, BatchAt

if TYPE_CHECKING:
    import torch


#: The attention's four matrices, as in section 7.1 of the paper.
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
#: All seven of a layer. On the dates half the rank and fewer examples then get 94 of 100 right, where the attention's
#: alone get 95 (one run each).
ALL_MATRICES = (*TARGETS, "gate_proj", "up_proj", "down_proj")
#: What the model is shown; it ends where the answer begins. The very first token is one that models park attention on
#: and read badly (Xiao et al. 2023, arXiv 2309.17453), so it is none of the date.
DATE_PROMPT = "Date: {text}\nISO:"
#: The same as a chat template, so that `open_chat` asks in the way that was trained.
DATE_TEMPLATE = "Date: {{ messages[-1].content }}\nISO:"
#: Ten characters, each a token in SmolLM2's tokenizer, and the end of the answer.
ANSWER_TOKENS = 11


def base() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct in fp32 and its tokenizer: (model, tokenizer)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as told

    from helpers import catalog, machine
    from helpers.models import sources

    folder = sources.folder(catalog.card("smollm2-135m"))
    told.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return machine.placed(model, "SmolLM2-135M"), AutoTokenizer.from_pretrained(folder)


def with_adapter(model: Any, *, rank: int = 8, targets: Sequence[str] = TARGETS, seed: int = 0) -> Any:
    """The model, frozen, with a LoRA adapter of that rank beside each target matrix (α = 2r)."""
    import torch
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise InvalidInput(f"An adapter of rank {rank} has no weights.", "Choose 1 or more; 8 is common.")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            with _quiet():
                return get_peft_model(model, config)
        except ValueError as error:
            raise InvalidInput(f"The model has no matrices named {', '.join(targets)}.") from error


def load_adapter(model: Any, folder: Path) -> Any:
    """The base model with the adapter that `model.save_pretrained(folder)` wrote."""
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise InvalidInput(f"{folder} holds no adapter.", "Give the folder that save_pretrained wrote.")
    with _quiet():
        return PeftModel.from_pretrained(model, str(folder))


def example_batches(tokenizer: Any, examples: Sequence[DateExample], *, rows: int, seed: int = 0) -> BatchAt:
    """A function from the step to its batch: every example once, in random order, before any comes again."""
    if not examples or rows < 1:
        raise InvalidInput("There are no examples to train on.", "Give one or more, and one or more a batch.")

    def batch_at(step: int) -> Batch:
        places = [divmod(n, len(examples)) for n in range(step * rows, (step + 1) * rows)]
        orders = {turn: random.Random(f"{seed} {turn}").sample(examples, len(examples)) for turn, _ in places}
        return answered(tokenizer, [orders[turn][place] for turn, place in places])

    return batch_at


def answered(tokenizer: Any, examples: Sequence[DateExample]) -> Batch:
    """Prompts with their answers, padded on the left so that all answers stand in the last 11 columns."""
    batch = completed(tokenizer, [(DATE_PROMPT.format(text=e.text), e.iso) for e in examples])
    if not ((batch["labels"] != -100).sum(dim=1) == ANSWER_TOKENS).all():
        raise InvalidInput("An answer is not a date in ISO form.", "Write it as in 1987-03-05.")
    return batch


def completed(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> Batch:
    """Prompts with their answers and an end, padded on the left; `labels` are the answers alone, -100 all else."""
    import torch

    prompts, answers = (
        tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in zip(*pairs, strict=True)
    )
    rows = [[*p, *a, tokenizer.eos_token_id] for p, a in zip(prompts, answers, strict=True)]
    batch = dict(tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt"))
    ends = batch["input_ids"].shape[1] - torch.tensor([[len(answer) + 1] for answer in answers])
    return batch | {"labels": batch["input_ids"].where(torch.arange(batch["input_ids"].shape[1]) >= ends, -100)}


def answer_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The mean surprise over the answers alone: the model need not learn how people write."""
    import torch

    labels = batch["labels"][:, 1:]
    # Logits of the whole vocabulary are dear: only where an answer's token is predicted. Given as places, not as a
    # slice: of a slice torch multiplies each row by itself, which takes several times as long.
    places = (labels != -100).any(dim=0).nonzero().flatten()
    read = {name: tensor[:, :-1] for name, tensor in batch.items() if name != "labels"}
    logits = model(**read, logits_to_keep=places, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[:, places].flatten())


def greedy_answers(model: Any, tokenizer: Any, texts: Sequence[str], *, rows: int = 50) -> list[str]:
    """What the model writes for each text, greedily; texts of similar length are read together, to save padding."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    prompts = [DATE_PROMPT.format(text=texts[number]) for number in order]
    with _merged(model), _quiet():
        found = batched_texts(model, tokenizer, prompts, longest=ANSWER_TOKENS, rows=rows)
    written = dict(zip(order, found, strict=True))
    return [written[number][0].strip() for number in range(len(texts))]


@contextmanager
def _merged(model: Any) -> Iterator[None]:
    """Nothing, but an adapter is part of its matrices meanwhile: so the model writes in a fifth less time."""
    adapted = hasattr(model, "merge_adapter")
    if adapted:
        model.merge_adapter()
    try:
        yield
    finally:
        if adapted:
            model.unmerge_adapter()


@contextmanager
def _quiet() -> Iterator[None]:
    """Advice that is not meant for us off: transformers' on greedy settings, and a deprecation that peft runs into."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
