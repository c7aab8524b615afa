"""What TRL's trainers are given on a laptop, and what is read from them; the trainers themselves are TRL's own.

settings = GRPOConfig(**laptop(), max_steps=10, …)
trainer = GRPOTrainer(model, reward, args=settings, …, callbacks=[watch(look, every=5)])
quiet(trainer).train()
curve(trainer)                # a row a step
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helpers import machine
from helpers.models.files import home

#: Our names for what TRL logs at each step: of GRPO, and of DPO.
LOGGED = {
    "reward": "reward",
    "tokens": "completions/mean_length",
    "equal": "frac_reward_zero_std",
    "loss": "loss",
    "margin": "rewards/margins",
    "prefers": "rewards/accuracies",
    "chosen_logprob": "logps/chosen",
    "rejected_logprob": "logps/rejected",
}


def laptop(folder: Path | None = None) -> dict[str, Any]:
    """Settings that any of TRL's configurations takes: no reports, no bars, fp32 where there is no GPU.

    With a folder, checkpoints go there; without one, none is written. Gradients are not computed twice to spare memory
    (`activation_checkpointing`): a small model does not need it.
    """
    import torch

    if on_cpu := machine.device() == "cpu":
        torch.set_num_threads(machine.threads())
    return {
        "output_dir": str(folder or home() / "trl"),
        "save_strategy": "steps" if folder else "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "use_cpu": on_cpu,
        "bf16": machine.precision() == "bf16" and not on_cpu,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
    }


def watch(look: Callable[[Any], Mapping[str, Any]], *, every: int) -> Any:
    """A callback that looks at the model before the first step, after each `every` steps and after the last.

    What it finds stands in the trainer's own log, so a checkpoint holds it too.
    """
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
            if state.global_step == 0:
                self.look(state, model)

        def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
            if state.global_step % every == 0 or state.global_step == state.max_steps:
                self.look(state, model)

        def look(self, state: Any, model: Any) -> None:
            state.log_history.append({"step": state.global_step, "looked": dict(look(model))})

    return Watch()


def quiet(trainer: Any) -> Any:
    """The same trainer, which no longer prints its log at each step, nor a deprecation inside TRL."""
    import warnings

    from transformers import PrinterCallback

    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    trainer.remove_callback(PrinterCallback)
    return trainer


def curve(trainer: Any) -> list[dict[str, Any]]:
    """One row a step: what was logged under the names of `LOGGED`, and what was found where the model was looked at.

    Of GRPO: `reward` and `tokens` of a step's answers, and `equal`, the share of its groups in which all answers earned
    the same. Of DPO: `margin`, by how much β times the chosen answers' gain exceeds the rejected ones', `prefers`, the
    share of pairs in which it does, and the mean log-probability of both, in nats an answer.
    """
    rows: dict[int, dict[str, Any]] = {}
    for logged in trainer.state.log_history:
        row = rows.setdefault(int(logged["step"]), {"step": int(logged["step"])})
        row |= {name: round(float(logged[theirs]), 4) for name, theirs in LOGGED.items() if theirs in logged}
        row |= logged.get("looked", {})
    return [rows[step] for step in sorted(rows)]
