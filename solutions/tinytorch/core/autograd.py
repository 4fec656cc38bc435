"""Stage 05: automatic differentiation, the tape that remembers operations and the engine that runs it backward.

The tape has no list of its own: every result keeps the `Function` that made it (`grad_fn`), and every
Function keeps its inputs. Following these links from a loss backward is the tape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinytorch.core.activation_rules
import tinytorch.core.joining  # noqa: F401 - both are imported for their rules, which enter RULES
from tinytorch.core.rng import generator
from tinytorch.core.rules import RULES, Function
from tinytorch.core.tensor import Tensor, plug_in, recording

__all__ = ["accumulate", "checkpoint", "no_grad", "recompute", "record", "topological_order", "unbroadcast"]

# The tape


def record(op: Any, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
    """Remember how `result` was made: give it a `grad_fn`, and let it require a gradient.

    The door (`result_of` in `tensor.py`) calls this when one of `inputs` requires a gradient and memory is on.

    Args:
        op: a name such as "Add", whose rule is a new `RULES["AddBackward"]()`; or a Function that is ready to use.
        inputs: become the Function's `inputs`.
        saved: becomes attributes of the Function, one per name.

    Raises:
        LookupError: there is no rule of that name; the message names it.
    """
    if not isinstance(op, Function):
        if f"{op}Backward" not in RULES:
            raise LookupError(f"no rule for {op}: expected a class {op}Backward(Function)")
        op = RULES[f"{op}Backward"]()
    op.inputs = inputs
    vars(op).update(saved)
    result.requires_grad, result.grad_fn = True, op


# The engine


def topological_order(root: Function) -> list[Function]:
    """`root` and all Functions that lead to it, each once, and each before the ones that made its inputs.

    A Function's `inputs` are tensors; the `grad_fn` of each, if it has one, is a Function before it. No recursion:
    Python stops after 1,000 nested calls. The time is linear in the size of the graph: each Function's inputs are
    looked at a fixed number of times, and whether it was met before is known without comparing it with all others.

    Raises:
        RuntimeError: a Function on the way is `freed`; the message says that the graph was freed.
    """
    order: list[Function] = []
    seen: set[Function] = set()
    stack = [(root, False)]
    while stack:
        function, inputs_are_done = stack.pop()
        if inputs_are_done:
            order.append(function)
        elif function not in seen:
            if function.freed:
                raise RuntimeError("this graph was freed by an earlier backward(); run the forward pass again")
            seen.add(function)
            stack.append((function, True))
            stack.extend((tensor.grad_fn, False) for tensor in function.inputs if tensor.grad_fn)
    return order[::-1]


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo broadcasting: sum `gradient` over the axes that an operand of `shape` was stretched along.

    Broadcasting puts axes in front, and stretches axes of length 1. The result has just `shape`.

    Raises:
        ValueError: `shape` does not broadcast to that of `gradient`; both are named.

    >>> unbroadcast(np.ones((4, 3)), (1, 3))
    array([[4., 4., 4.]])
    """
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    if added < 0 or any(length not in (1, got) for length, got in zip(shape, gradient.shape[added:])):
        raise ValueError(
            f"a gradient of shape {gradient.shape} came for a tensor of shape {shape}, which it does not fit"
        )
    stretched = [added + axis for axis, length in enumerate(shape) if length == 1]
    return gradient.sum(axis=(*range(added), *stretched)).reshape(shape)


def accumulate(leaf: Tensor, gradient: np.ndarray) -> None:
    """Add `gradient` to `leaf.grad`, an array of the leaf's dtype that shares its memory with nobody.

    `grad` is None before the first time. Later the sum is a new array, and the one that was there is not changed:
    whoever kept `leaf.grad` from an earlier pass, to compare or to average, still has what came then.
    """
    if leaf.grad is None:
        leaf.grad = np.array(gradient, dtype=leaf.dtype)
    else:
        leaf.grad = np.asarray(leaf.grad + gradient, dtype=leaf.dtype)


def backward(tensor: Tensor, gradient: Any = None) -> None:
    """Send `gradient` from `tensor` back to every leaf that requires one: `tensor.backward(gradient)` comes here.

    A leaf is a tensor without `grad_fn`; it adds to what an earlier call left in its `grad`, and no other tensor gets
    one. A tensor used several times sends the sum over all its uses further, once. What lies behind is let go of: each
    Function's attributes are cleared (`vars(function).clear()`) and it is marked `freed`.
    `first_gradient` looks at the arguments, `sent_back` asks a rule, `unbroadcast` brings its answer into shape.

    Args:
        gradient: an array or a Tensor of the tensor's shape; None means 1 and needs one element.

    Raises:
        RuntimeError: `tensor` requires no gradient, has several elements and no `gradient` came, or the graph
            was freed by an earlier call.
        ValueError: `gradient` has another shape, or a rule answers with one that does not fit.
    """
    arriving = {tensor.grad_fn: first_gradient(tensor, gradient)}
    if tensor.grad_fn is None:
        return accumulate(tensor, arriving[None])
    for function in topological_order(tensor.grad_fn):
        for source, grad in sent_back(function, arriving.pop(function, None)):
            grad = unbroadcast(grad, source.shape)
            if source.grad_fn is None:
                accumulate(source, grad)
            elif source.grad_fn in arriving:
                arriving[source.grad_fn] = arriving[source.grad_fn] + grad
            else:
                arriving[source.grad_fn] = grad
        vars(function).clear()
        function.freed = True


def first_gradient(tensor: Tensor, gradient: Any) -> np.ndarray:
    """`gradient` as an array that fits `tensor`; 1 if it is None. Raises what `backward` says."""
    if not tensor.requires_grad:
        raise RuntimeError("backward(): nothing that made this tensor has requires_grad=True")
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(
                f"backward() of shape {tensor.shape} needs a gradient of that shape; only one element needs none"
            )
        return np.ones_like(tensor.data)
    gradient = np.asarray(gradient.data if isinstance(gradient, Tensor) else gradient, dtype=tensor.dtype)
    if gradient.shape != tensor.shape:
        raise ValueError(f"backward(): expected a gradient of shape {tensor.shape}, got {gradient.shape}")
    return gradient


def sent_back(function: Function, gradient: np.ndarray | None) -> list[tuple[Tensor, np.ndarray]]:
    """The inputs of `function` that want a gradient, each with the one that the rule answers for it.

    Args:
        gradient: what arrived at the Function's result; None if nothing did, and then nothing is sent back.
    """
    if gradient is None:
        return []
    gradients = function.backward(np.asarray(gradient))
    gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    if len(gradients) != len(function.inputs):
        name, inputs = type(function).__name__, len(function.inputs)
        raise ValueError(f"{name}.backward: expected a gradient for each of {inputs} inputs, got {len(gradients)}")
    pairs = zip(function.inputs, gradients)
    return [(tensor, np.asarray(grad)) for tensor, grad in pairs if grad is not None and tensor.requires_grad]


# Remembering less


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside `with no_grad():` nothing is remembered; afterwards all is as it was, whatever happened inside.

    `recording(False)` in `tensor.py` switches the door's memory off and returns how it was. That switch belongs to the
    thread which runs the block: others go on recording meanwhile, as in PyTorch.
    """
    before = recording(False)
    try:
        yield
    finally:
        recording(before)


def checkpoint(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` without keeping what it computes on the way: on the way back it is computed again.

    The result is recorded (call `record` yourself) as "Checkpoint" made from `inputs`, saved: function, and
    random_state, which is `generator().bit_generator.state` before the run. This holds whatever the inputs require,
    since parameters that `function` uses are out of the door's sight; only where memory is off anyway, nothing is.

    Args:
        function: uses parameters and `inputs`, but no other tensors that were computed: those must be inputs.

    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
    """
    random_state = generator().bit_generator.state
    before = recording(False)
    try:
        result = function(*inputs).detach()
    finally:
        recording(before)
    if before:
        record("Checkpoint", result, inputs, {"function": function, "random_state": random_state})
    return result


def recompute(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], random_state: dict[str, Any], gradient: np.ndarray
) -> tuple[np.ndarray | None, ...]:
    """Run `function` again with memory on, send `gradient` back through it, and return the gradient of each input.

    It runs on detached copies of `inputs`, which require gradients where the originals do: the way back ends there.
    Random numbers come out as they did from `random_state`; afterwards the generator goes on as if nothing had been
    drawn. Parameters that `function` uses get their gradients on the way.
    """
    random = generator().bit_generator
    now, random.state = random.state, random_state
    before = recording(True)
    try:
        leaves = [tensor.detach() for tensor in inputs]
        for leaf, tensor in zip(leaves, inputs):
            leaf.requires_grad = tensor.requires_grad
        result = function(*leaves)
    finally:
        random.state = now
        recording(before)
    if result.requires_grad:
        result.backward(gradient)
    return tuple(leaf.grad for leaf in leaves)


class CheckpointBackward(Function):
    """What `checkpoint` leaves on the tape."""

    function: Callable[..., Tensor]
    random_state: dict[str, Any]

    def backward(self, grad_output: np.ndarray) -> Any:
        return recompute(self.function, self.inputs, self.random_state, grad_output)


plug_in(sys.modules[__name__])
