"""A GPU that is pretended: its tensors hold real numbers, say that they lie elsewhere, and refuse what a GPU refuses.

torch is told of a device "far". An operation on tensors of both places is refused, and so is numpy on one that is far
away; what may be, a copy, an index, one number read, is done. So a tensor that was forgotten on the processor shows on
any machine. The device is registered in a process for good, so `python tests/far_device.py FOLDER` is one of its own:
it runs the checks below, one with the tiny Phi of that folder, and prints what became of each as a line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import isclose
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

#: Operations that take tensors of both places on a real GPU too.
ALLOWED = ("aten.index.", "aten.index_put", "aten.copy_", "aten._to_copy")


class Far(torch.Tensor):
    """A tensor that says it is on the far device; `held` has its numbers."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Far:
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device="far:0", requires_grad=False, **layout)
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert far:0 device type tensor to numpy. Use Tensor.cpu() first.")

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})


class FarDevice(TorchDispatchMode):
    """While a thread has entered it, tensors can be made on the far device and moved there."""

    def __enter__(self) -> FarDevice:
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes its numbers here, and then moves them
        return super().__enter__()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})


class Module(_DummyBackendModule):
    """What stands as torch.far; it draws no random numbers, so that there is no state of them to keep."""

    def device_count(self) -> int:
        return 0


def computed(operation: Any, args: Any, kwargs: Any) -> Any:
    """What the operation gives, on the place where its tensors are or where it was told to put it."""
    name, leaves = str(operation), tree_leaves((args, kwargs))
    if "shallow_copy_type" in name:
        return False  # a module that is moved makes its parameters anew
    far = [leaf for leaf in leaves if isinstance(leaf, Far)]
    near = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Far) and leaf.ndim]
    if far and near and not name.startswith(ALLOWED):
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some of far:0 and of cpu.")
    told = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    out = operation(*tree_map(_held, args), **tree_map(_held, kwargs))
    away = told.type == "far" if told else isinstance(args[0], Far) if name.startswith("aten.copy_") else bool(far)
    known = {id(leaf.held): leaf for leaf in far}  # what was changed in place stays the same tensor
    return tree_map(lambda x: known.get(id(x)) if id(x) in known else Far(x), out) if away and _tensors(out) else out


def _held(leaf: Any) -> Any:
    if isinstance(leaf, torch.device):
        return torch.device("cpu")
    return leaf.held if isinstance(leaf, Far) else leaf


def _tensors(out: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(out))


def what_is_left_behind_is_refused() -> None:
    from tiny_llama import tiny_llama

    with FarDevice():
        model, refused = tiny_llama().to("far"), []
        for forgotten in (lambda: model(torch.tensor([[1, 2]])), lambda: model.lm_head.weight.numpy()):
            try:
                forgotten()
            except (RuntimeError, TypeError) as error:
                refused.append(type(error))
    assert refused == [RuntimeError, TypeError]


def answers_of_a_chat() -> None:
    import tiny_phi
    from helpers.backends.transformers import Engine
    from helpers.chat import open_chat

    run = Engine._run

    def in_its_thread(self: Engine, *arguments: Any) -> None:
        with FarDevice():  # which holds for one thread
            run(self, *arguments)

    Engine._run = in_its_thread
    with FarDevice(), open_chat(sys.argv[1], "transformers", precision="fp32", max_new_tokens=12) as chat:
        assert chat.backend.model.device.type == "far"
        assert {q: chat.another().say(q).text for q in tiny_phi.ANSWERS} == tiny_phi.ANSWERS


def scores_of_texts() -> None:
    from helpers import machine, scoring
    from tiny_llama import tiny_llama

    rows = ([5, 6, 7], [[8, 9], [10, 11, 12]])
    here = scoring._score_batch(tiny_llama(), *rows)
    with FarDevice():
        there = scoring._score_batch(machine.placed(tiny_llama(), "Llama"), *rows)
    assert all(isclose(one, other, rel_tol=1e-4) for one, other in zip(here, there, strict=True))


def routes_and_losses_of_a_mixture() -> None:
    from helpers import machine
    from helpers.experts import mixture, phonebook, routing

    size = mixture.Size(hidden=16, layers=2, heads=2, ffn=8, experts=4, vocabulary=200)
    ids, drill = torch.randint(200, (300,)), phonebook.phone_book(30, held=5)

    def look(model: Any) -> tuple[Any, ...]:
        used = routing.use(model, {"text": ids}, rows=2, length=64)
        lost = mixture.held_out(model, {"text": ids}, rows=2, length=64)["mean"]
        return used, lost, phonebook.recall(model, drill.practised, 2), len(mixture.seconds_per_token(model, ids[:9]))

    here = look(mixture.tiny_moe(size))
    with FarDevice():
        assert look(machine.placed(mixture.tiny_moe(size), "Phi")) == here


def the_miniature_sees() -> None:
    from helpers import catalog, machine
    from helpers.models import sources
    from helpers.vision import easyvqa, seeing

    model, tokenizer = seeing.load_miniature(sources.folder(catalog.card("mini-vision")))
    asked = [question for question in easyvqa.questions("test") if question.images == (0,)][:2]
    with FarDevice():
        given = list(seeing.image_answers(machine.placed(model, "the miniature"), tokenizer, "test", asked))
    assert all(text == question.answer for question, text in given)


def blocks_for_an_npu() -> None:
    from types import SimpleNamespace

    from helpers import machine
    from helpers.engines import qnn
    from tiny_llama import tiny_llama

    with FarDevice():
        backend = SimpleNamespace(model=machine.placed(tiny_llama(), "Llama"), tokenize=lambda text: [3, 4, 5] * 9)

        class Chat(SimpleNamespace):
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                """Nothing is closed."""

        qnn.open_chat = lambda *_, **__: Chat(backend=backend)
        block = qnn.blocks([1])[1]
    weights = tiny_llama().model.layers[1].mlp.gate_proj.weight.detach().numpy().T
    assert (block.gate == weights).all()


CHECKS: dict[str, Callable[[], None]] = {
    check.__name__: check
    for check in (
        what_is_left_behind_is_refused,
        answers_of_a_chat,
        scores_of_texts,
        routes_and_losses_of_a_mixture,
        the_miniature_sees,
        blocks_for_an_npu,
    )
}


def main() -> None:
    """Runs every check with the far device in the place of a GPU."""
    from helpers import machine

    _setup_privateuseone_for_python_backend("far", backend_module=Module())
    torch.inference_mode = torch.no_grad  # which wrapped tensors do not know
    machine.device = lambda: "far"
    machine.precision = lambda: "fp32"
    for name, check in CHECKS.items():
        try:
            check()
            said = "ok"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
            said = f"{type(error).__name__}: {error}"
        print(json.dumps({name: said}), flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    main()
