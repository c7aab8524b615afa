"""The two losses by which models are taught what is better, written out once: GRPO's and DPO's.

    GRPO   several answers to one question are compared with their own mean; nobody says what a good one looks like
    DPO    of two answers somebody preferred one; a frozen copy of the model says how far is too far

TRL computes the same in its trainers, spread over many more lines; the tests lay both side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

#: Added to a group's standard deviation, so that a group of equal rewards divides by something.
TINY = 1e-4


def token_logprobs(model: Any, ids: Tensor, mask: Tensor, *, last: int) -> Tensor:
    """The log-probability of each of the last tokens, given those before it: rows × `last`, in nats.

    `ids` and `mask` are rows × tokens; the mask is 0 where a row is padded.
    """
    import torch

    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=last + 1, use_cache=False).logits
    said = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    return said.gather(2, ids[:, -last:, None])[:, :, 0]


def advantages(rewards: Tensor, group: int) -> Tensor:
    """How much better an answer is than the others to the same question, in standard deviations of its group.

    A = (r − mean) / std (Shao et al. 2024, DeepSeekMath, section 4.1.2); `rewards` are the answers one group after the
    other. Where all of a group earn the same, all advantages are zero and the group teaches nothing.
    """
    if group < 2 or len(rewards) % group:
        raise InvalidInput(f"{len(rewards)} rewards do not make groups of {group}.", "Give whole groups of 2 or more.")
    grouped = rewards.view(-1, group)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    return (centred / (grouped.std(dim=1, keepdim=True) + TINY)).flatten()


def grpo_loss(now: Tensor, before: Tensor, mask: Tensor, advantage: Tensor, *, clip: float = 0.2) -> Tensor:
    """GRPO's loss without its KL term: equation 3 of DeepSeekMath with β = 0, TRL's `loss_type="grpo"`.

    `now` and `before` hold the log-probabilities of each token under the model and under the one that wrote the answer
    (rows × tokens), `mask` is 1 for the answer's tokens, `advantage` has one value a row. A ratio beyond 1 ± clip earns
    nothing more. Each answer counts alike, whatever its length, so a long answer's tokens weigh less; TRL's default,
    "dapo", lets each token count alike (Yu et al. 2025).
    """
    import torch

    ratio = torch.exp(now - before)
    gain = torch.min(ratio * advantage[:, None], ratio.clamp(1 - clip, 1 + clip) * advantage[:, None])
    per_answer = (gain * mask).sum(dim=1) / mask.sum(dim=1)
    return -per_answer.mean()


def dpo_loss(
    chosen: Tensor, rejected: Tensor, frozen_chosen: Tensor, frozen_rejected: Tensor, *, beta: float = 0.1
) -> Tensor:
    """DPO's loss: equation 7 of Rafailov et al. 2023, TRL's `loss_type="sigmoid"`.

    Each holds the log-probability of a whole answer, one value a pair; the frozen ones are those of the model as it
    was. What counts is how much more the chosen answer gained than the rejected one: both may fall.
    """
    import torch

    margin = (chosen - frozen_chosen) - (rejected - frozen_rejected)
    return -torch.nn.functional.logsigmoid(beta * margin).mean()
