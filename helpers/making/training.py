"""One training loop for the whole course: seeded, resumable, on whatever `accelerate` finds.

A step reads a batch, computes the loss, sends its gradient back through the weights, and moves every weight a little:

    compute ≈ 6 · parameters · tokens     2 forwards, 4 backwards (Kaplan et al. 2020, section 2.1)

A batch follows from (seed, step) alone. So a run that was stopped and goes on from its checkpoint sees the same
batches and gets the same losses. The checkpoint holds what cannot be computed again (the trained weights, the
optimizer's two memories of each of them, the losses so far), in one file that appears whole or not at all. It also
tells what the batches and the settings of the run were: a run with other data, rows or seed that went on from there
could end at once, having learned nothing. Where there is a GPU the same code uses it, in bf16 where it can.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from helpers import machine
from helpers.errors import DamagedFile, InvalidInput
from helpers.models.files import plain_disk_errors, written_whole

if TYPE_CHECKING:
    import torch


#: What is known of one step: step, loss, learning_rate, and the tokens read so far.
LossRow = dict[str, float]
Batch = dict[str, "torch.Tensor"]
BatchAt = Callable[[int], Batch]
#: hidden width, layers, feed-forward width, heads; the name says about how many million parameters that makes.
SIZES = {
    "0.2M": (64, 2, 192, 2),
    "0.9M": (128, 3, 384, 2),
    "2M": (192, 4, 512, 3),
    "8M": (320, 6, 896, 5),
    "25M": (512, 8, 1408, 8),
}
#: The embedding table's highest learning rate, the same for every width.
PEAK = 1e-2
CONTEXT = 512
#: A gradient longer than this is shortened, so that one odd batch cannot undo the work of many.
LONGEST_GRADIENT = 1.0


def fingerprint(*parts: Any) -> str:
    """What tells these tensors, numbers and texts from others: 16 hexadecimal digits of their SHA-256."""
    import torch

    digest = hashlib.sha256()
    for part in parts:
        for name, one in part.items() if isinstance(part, Mapping) else [("", part)]:
            tensor = isinstance(one, torch.Tensor)
            head = (name, tuple(one.shape), str(one.dtype)) if tensor else (name, one)
            digest.update(repr(head).encode())
            if tensor:
                digest.update(one.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str, step: str) -> None:
    """Refuses to go on from what was made with other settings, by name; what it does not tell counts as other."""
    other = [name for name in dict.fromkeys([*wanted, *found]) if found.get(name) != wanted.get(name)]
    if other:
        told = ", ".join(f"{name} ({found.get(name, 'not told')} there, {wanted.get(name)} here)" for name in other)
        raise InvalidInput(f"{what} belongs to another run, which differs in {told}.", step)


def save(path: Path, model: Any, optimizer: Any, rows: list[LossRow], recipe: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in one move, so that a crash leaves the old one."""
    import torch

    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    state = {"recipe": dict(recipe), "rows": rows, "model": trained, "optimizer": optimizer.state_dict()}
    buffer = io.BytesIO()  # torch would tell of a full disk in words of its own
    torch.save(state, buffer)
    with plain_disk_errors(path.parent, "the checkpoint"), written_whole(path) as part:
        part.write_bytes(buffer.getbuffer())


def restore(path: Path | None, model: Any, optimizer: Any, recipe: Mapping[str, Any]) -> list[LossRow]:
    """The rows of a checkpoint, its weights put into model and optimizer; no rows without one.

    `recipe` holds the settings of the run and the fingerprint of its data, as the checkpoint must have been saved with.
    """
    import torch

    if path is None or not path.exists():
        return []
    again = f"Delete {path} to start anew, or choose another checkpoint."
    try:
        # weights_only: a pickle could run code while it is read.
        state = torch.load(path, map_location="cpu", weights_only=True)
        require_same(state["recipe"], recipe, f"The checkpoint {path.name}", again)
        left = model.load_state_dict(state["model"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
    except InvalidInput:
        raise
    except Exception as error:  # torch tells of a damaged file in many types
        raise DamagedFile(f"The checkpoint {path.name} cannot be read, or is of another model.", again) from error
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    if left.unexpected_keys or trainable & set(left.missing_keys):
        raise InvalidInput(f"The checkpoint {path.name} is of another model.", again)
    return list(state["rows"])


def tiny_phi(size: str, vocabulary: int, *, seed: int = 0) -> Any:
    """A `Phi3ForCausalLM`, the class of Phi-3.5-mini, of another size and with random weights."""
    from transformers import Phi3Config, Phi3ForCausalLM

    if size not in SIZES:
        raise InvalidInput(f"There is no size {size!r}.", f"Choose one of {', '.join(SIZES)}.")
    hidden, layers, ffn, heads = SIZES[size]
    shape = small_shape(vocabulary, hidden, layers, heads)
    config = Phi3Config(**shape, intermediate_size=ffn, original_max_position_embeddings=CONTEXT)
    return begun(Phi3ForCausalLM, config, seed)


def small_shape(vocabulary: int, hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """What the configs of the course's small models, dense ones and mixtures, have in common."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def begun(model_class: Any, config: Any, seed: int) -> Any:
    """The model with random weights, each matrix of a layer by the width of what it reads.

    So a wide layer starts no louder than a narrow one.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
        for matrix in _layer_matrices(model):
            torch.nn.init.normal_(matrix, std=0.5 / matrix.shape[-1] ** 0.5)
    return model


class Pace(TypedDict):
    """The highest learning rate, and the share of it at which the matrices inside the layers learn."""

    peak: float
    layers: float


def pace(size: str) -> Pace:
    """The learning rate for a size: layers slow down as they get wider, the embedding table does not.

    After Yang et al. 2022, Tensor Programs V (arXiv 2203.03466), table 3; the factor is from trials of ours.
    """
    return {"peak": PEAK, "layers": 38 / SIZES[size][0]}


def encode(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """All texts as one row of token ids, each ended by the end-of-text token."""
    import torch

    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    ids = [i for text in encoded for i in (*text.ids, tokenizer.eos_token_id)]
    if not ids:
        raise InvalidInput("The corpus is empty: there is no text to train on.", "Give at least one document.")
    return torch.tensor(ids)


def batches(ids: torch.Tensor, *, rows: int, length: int, seed: int = 0) -> BatchAt:
    """A function from the step to its batch: `rows` stretches of `length` tokens from random places of the text."""
    import torch

    if rows < 1 or length < 2 or len(ids) <= length:
        raise InvalidInput(
            f"{len(ids):,} tokens do not fill batches of {rows} × {length}.",
            "Give more text, or ask for shorter stretches of at least 2 tokens.",
        )

    def batch_at(step: int) -> Batch:
        # torch reads 32 bits of a seed, so the two cannot stand side by side.
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        starts = torch.randint(len(ids) - length, (rows, 1), generator=generator)
        return {"input_ids": ids[starts + torch.arange(length)]}

    return batch_at


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Up in a straight line for `warmup` steps, then down along a cosine to a tenth of the peak.

    >>> [round(learning_rate(step, 100, 1.0, 10), 2) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * done))


def next_token_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The mean surprise about each next token, in nats."""
    loss: torch.Tensor = model(**batch, labels=batch["input_ids"], use_cache=False).loss
    return loss


def train(
    model: Any,
    batch_at: BatchAt,
    *,
    steps: int,
    peak: float,
    layers: float = 1.0,
    loss: Callable[[Any, Batch], torch.Tensor] = next_token_loss,
    checkpoint: Path | None = None,
    save_every: int = 50,
    on_step: Callable[[list[LossRow]], None] = lambda rows: None,
    label: str = "training",
) -> list[LossRow]:
    """Trains what is trainable in `model`, in place; one row a step: step, loss, learning_rate, tokens so far.

    With a `checkpoint` the run is saved every so many steps and at its end, and goes on from there if the file exists;
    one of a run with other settings, loss or batches is refused. The rate rises to `peak`, times `layers` for the
    matrices of the layers. `on_step` gets the rows after each step. A loss that is no number ends in a sentence.
    """
    from tqdm.auto import tqdm

    _check(steps, peak)
    accelerator, ready, optimizer = _prepare(model, peak, layers)
    recipe = {"steps": steps, "peak": peak, "layers": layers, **_fingerprints(checkpoint, loss, batch_at, steps)}
    rows = restore(checkpoint, model, optimizer, recipe)
    quiet = bool(os.environ.get("TQDM_DISABLE"))  # in a notebook the bar does not heed it by itself
    for step in tqdm(range(len(rows), steps), label, leave=False, unit="step", disable=quiet):
        rate = learning_rate(step, steps, peak, warmup=max(1, steps // 10))
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch_at(step).items()}
        value = loss(ready, batch)
        _refuse_non_finite(float(value.detach()), step, peak)
        _update(accelerator, optimizer, value, rate)
        tokens = batch["input_ids"].numel() + (rows[-1]["tokens"] if rows else 0)
        rows.append({"step": step, "loss": float(value.detach()), "learning_rate": rate, "tokens": tokens})
        if checkpoint and ((step + 1) % save_every == 0 or step + 1 == steps):
            save(checkpoint, model, optimizer, rows, recipe)
        on_step(rows)
    _finish(accelerator, ready)
    return rows


def _fingerprints(checkpoint: Path | None, loss: Callable[..., Any], batch_at: BatchAt, steps: int) -> dict[str, str]:
    """What a checkpoint tells of its run's loss and batches; nothing without one, as reading all batches takes time."""
    if not checkpoint:
        return {}
    return {"loss": _told(loss), "data": fingerprint(*(batch_at(step) for step in range(steps)))}


def _told(loss: Callable[..., Any]) -> str:
    """A loss by its name, and by the numbers that it was made with."""
    held = inspect.getclosurevars(loss).nonlocals if inspect.isfunction(loss) else {}
    numbers = {name: value for name, value in held.items() if isinstance(value, int | float | str)}
    name = getattr(loss, "__qualname__", repr(loss))
    return f"{name} {numbers}" if numbers else name


def _prepare(model: Any, peak: float, layers: float) -> tuple[Any, Any, Any]:
    """The accelerator, the model and its optimizer: on a GPU in the precision that suits it, else in fp32."""
    import torch

    precision = machine.precision().replace("fp32", "no") if machine.device() == "cuda" else "no"
    if precision == "no":
        torch.set_num_threads(machine.threads())
    here = machine.device() == "cpu"
    accelerator = _accelerator(cpu=here, mixed_precision=precision)
    groups = _groups(model, layers)
    # Fused: one call for all weights. An adapter has hundreds of thin matrices, and a call costs more than their sums.
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), weight_decay=0.01, fused=here)
    model.train()
    return accelerator, *accelerator.prepare(model, optimizer)


def _accelerator(**where: Any) -> Any:
    """An accelerator for this device and precision, also after a training on another device or in another precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    try:
        return Accelerator(**where)
    except ValueError:  # it keeps what the first one of a process was made with, and refuses any other
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**where)


def _update(accelerator: Any, optimizer: Any, loss: Any, rate: float) -> None:
    """The gradient of the loss, then one step along it at this learning rate, each group taking its share."""
    accelerator.backward(loss)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    accelerator.clip_grad_norm_(weights, LONGEST_GRADIENT)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    optimizer.step()
    optimizer.zero_grad()


def _finish(accelerator: Any, ready: Any) -> None:
    """Leaves the model ready to be read, and gives back what the run held of a GPU's memory.

    Without a GPU all is given back with the last name for it, and accelerate would look through all objects for more.
    """
    accelerator.unwrap_model(ready, keep_fp32_wrapper=False).eval()
    if accelerator.device.type != "cpu":
        accelerator.free_memory()


def held_out_loss(model: Any, ids: torch.Tensor, *, rows: int = 32, length: int = 128) -> float:
    """The mean surprise over evenly spread stretches of a text that was not trained on; exp of it is perplexity."""
    import torch

    if len(ids) <= length:
        raise InvalidInput(f"{len(ids)} tokens are fewer than one stretch of {length}.", "Give a longer text.")
    starts = torch.linspace(0, len(ids) - length - 1, rows).long().unique()[:, None]
    stretches = ids[starts + torch.arange(length)].to(next(model.parameters()).device)
    model.eval()
    with torch.inference_mode():
        losses = [float(next_token_loss(model, {"input_ids": part})) * len(part) for part in stretches.split(8)]
    return sum(losses) / len(stretches)


def trained_parameters(model: Any) -> int:
    """How many weights the optimizer may move."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _layer_matrices(model: Any) -> list[Any]:
    return [p for name, p in model.named_parameters() if ".layers." in name and p.ndim > 1]


def _groups(model: Any, layers: float) -> list[dict[str, Any]]:
    """What learns, in two groups: the matrices of the layers at their share of the learning rate, and the rest."""
    inner = [p for p in _layer_matrices(model) if p.requires_grad]
    known = {id(p) for p in inner}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": part, "share": share} for part, share in ((inner, layers), (others, 1.0)) if part]


def _check(steps: int, peak: float) -> None:
    if steps < 1 or not (peak > 0 and math.isfinite(peak)):
        raise InvalidInput(
            f"{steps} steps with a highest learning rate of {peak} train nothing.",
            "Ask for one step or more and a rate above zero, such as 1e-3.",
        )


def _refuse_non_finite(loss: float, step: int, peak: float) -> None:
    if not math.isfinite(loss):
        raise InvalidInput(
            f"The loss became {loss} at step {step}: the weights have run away, and no later step can mend them.",
            f"Make the model anew, lower the learning rate (it was {peak:g}), and train again.",
        )
