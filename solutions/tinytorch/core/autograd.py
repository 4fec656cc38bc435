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

from tinytorch.core.random import generator
from tinytorch.core.rules import RULES, Function
from tinytorch.core.tensor import Tensor, plug_in, recording

__all__ = ["Function", "accumulate", "checkpoint", "no_grad", "record", "topological_order", "unbroadcast"]

# The tape


def record(op: Any, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
    """Remember how `result` was made: give it a `grad_fn`, and let it require a gradient.

    Args:
        op: a name such as "Add", whose rule is `RULES["AddBackward"]`, or a Function that is ready to use.
        inputs: become the Function's `inputs`.
        saved: becomes attributes of the Function, one per name.
    """
    function = op if isinstance(op, Function) else RULES[f"{op}Backward"]()
    function.inputs = inputs
    vars(function).update(saved)
    result.requires_grad, result.grad_fn = True, function


def topological_order(root: Function) -> list[Function]:
    """`root` and all Functions that lead to it, each once, and each before the ones that made its inputs.

    Takes time linear in the size of the graph, and no recursion: Python stops after 1,000 nested calls.

    Raises:
        RuntimeError: a part of the graph was freed by an earlier backward().
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

    >>> unbroadcast(np.ones((4, 3)), (1, 3))
    array([[4., 4., 4.]])
    """
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = [added + axis for axis, length in enumerate(shape) if length == 1]
    return gradient.sum(axis=(*range(added), *stretched), keepdims=True).reshape(shape)


def accumulate(leaf: Tensor, gradient: np.ndarray) -> None:
    """Add `gradient` to `leaf.grad`, in the leaf's dtype, and without sharing memory with anybody."""
    if leaf.grad is None:
        leaf.grad = np.array(gradient, dtype=leaf.dtype)
    else:
        leaf.grad = leaf.grad + gradient.astype(leaf.dtype, copy=False)


def backward(tensor: Tensor, gradient: Any = None) -> None:
    """Send `gradient` from `tensor` back to every leaf that requires one, and free the graph on the way.

    A tensor used several times gets the sum over all its uses. Leaves add to what an earlier call left.

    Args:
        gradient: an array or a Tensor of the tensor's shape; None means 1 and needs one element.

    Raises:
        RuntimeError: `tensor` requires no gradient, has several elements and no `gradient` came, or the graph
            was freed by an earlier call.
        ValueError: `gradient` has another shape.
    """
    arriving = {tensor.grad_fn: _first_gradient(tensor, gradient)}
    if tensor.grad_fn is None:
        return accumulate(tensor, arriving[None])
    for function in topological_order(tensor.grad_fn):
        for source, grad in _sent_back(function, arriving.pop(function, None)):
            grad = unbroadcast(grad, source.shape)
            if source.grad_fn is None:
                accumulate(source, grad)
            elif source.grad_fn in arriving:
                arriving[source.grad_fn] = arriving[source.grad_fn] + grad
            else:
                arriving[source.grad_fn] = grad
        vars(function).clear()
        function.freed = True


def _first_gradient(tensor: Tensor, gradient: Any) -> np.ndarray:
    if not tensor.requires_grad:
        raise RuntimeError("backward(): nothing that made this tensor has requires_grad=True")
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(f"backward() of shape {tensor.shape} needs a gradient of that shape; only one element needs none")
        return np.ones_like(tensor.data)
    gradient = np.asarray(gradient.data if isinstance(gradient, Tensor) else gradient, dtype=tensor.dtype)
    if gradient.shape != tensor.shape:
        raise ValueError(f"backward(): expected a gradient of shape {tensor.shape}, got {gradient.shape}")
    return gradient


def _sent_back(function: Function, gradient: np.ndarray | None) -> list[tuple[Tensor, np.ndarray]]:
    """The inputs of `function` that want a gradient, each with the one that the rule gives it."""
    if gradient is None:  # every rule on the way here answered None
        return []
    gradients = function.backward(gradient)
    gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,)
    if len(gradients) != len(function.inputs):
        name, inputs = type(function).__name__, len(function.inputs)
        raise ValueError(f"{name}.backward: expected a gradient for each of {inputs} inputs, got {len(gradients)}")
    return [(tensor, g) for tensor, g in zip(function.inputs, gradients) if g is not None and tensor.requires_grad]


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside `with no_grad():` nothing is remembered; afterwards all is as it was, whatever happened inside."""
    before = recording(False)
    try:
        yield
    finally:
        recording(before)


def checkpoint(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` without keeping what it computes on the way: on the way back it is computed again.

    Random numbers come out the same the second time. Parameters that `function` uses get their gradients too.
    Source: Chen et al. 2016, "Training deep nets with sublinear memory cost".
    """
    node = CheckpointBackward()
    node.function, node.random_state = function, generator().bit_generator.state
    before = recording(False)
    try:
        result = function(*inputs).detach()
    finally:
        recording(before)
    if before:  # parameters inside `function` are out of sight here, so it is remembered whatever the inputs are
        record(node, result, inputs, {})
    return result


class CheckpointBackward(Function):
    """Computes the forward pass again, this time with the tape on, and goes back through that."""

    function: Callable[..., Tensor]
    random_state: dict[str, Any]

    def backward(self, grad_output: np.ndarray) -> Any:
        random = generator().bit_generator
        now, random.state = random.state, self.random_state
        before = recording(True)
        try:
            leaves = [tensor.detach() for tensor in self.inputs]
            for leaf, tensor in zip(leaves, self.inputs):
                leaf.requires_grad = tensor.requires_grad
            result = self.function(*leaves)
        finally:
            random.state = now
            recording(before)
        if result.requires_grad:
            result.backward(grad_output)
        return tuple(leaf.grad for leaf in leaves)


plug_in(sys.modules[__name__])
