"""Stage 05, systems: what remembering costs, and what computing again saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinytorch.core.autograd import Function, checkpoint, topological_order
from tinytorch.core.tensor import Tensor

__all__ = ["best_segment", "count_paths", "graph_bytes", "in_halves", "in_segments", "nested_calls"]


def owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory `array` looks into: itself, unless it is a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def graph_bytes(result: Tensor) -> int:
    """Bytes of arrays that are kept only because `result` remembers how it was made.

    Counted are the values of all inputs of all Functions behind it, and all arrays among the Functions' attributes
    (`vars(function)`). Each block of memory counts once, in full, however many tensors look into it (`owner`).
    Not counted is memory that lives anyway: that of leaves which require a gradient, and that of `result` itself.
    A graph that was freed keeps nothing.

    >>> x = Tensor(np.zeros(1000), requires_grad=True)
    >>> graph_bytes(x + x), graph_bytes((x + x).exp()), graph_bytes((x + x).exp().sum())
    (0, 8000, 16000)
    """
    # >>> stage 05: your code
    raise NotImplementedError("stage 05: graph_bytes is yours to write, see stages/05_autograd/README.md")
    # <<<


def _is_parameter(tensor: Tensor) -> bool:
    return tensor.requires_grad and tensor.grad_fn is None


def count_paths(result: Tensor) -> int:
    """How many ways lead from `result` back to leaves that require a gradient, counted in linear time.

    In `y = x * x` there are two. An engine that follows every path by itself takes as many walks; one that visits each
    Function once adds up first. A Python integer has room for any number.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> count_paths(x), count_paths(x * x), count_paths((x * x) * (x * x))
    (1, 2, 4)
    """
    # >>> stage 05: your code
    raise NotImplementedError("stage 05: count_paths is yours to write, see stages/05_autograd/README.md")
    # <<<


def in_segments(layers: Sequence[Callable[[Tensor], Tensor]], segment: int, x: Tensor) -> Tensor:
    """`layers` one after the other, every `segment` of them (the last may be fewer) a checkpoint."""
    for start in range(0, len(layers), segment):
        part = layers[start : start + segment]
        x = checkpoint(lambda x, part=part: _run(part, x), x)
    return x


def _run(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def best_segment(layers: int) -> int:
    """The `segment` for which `in_segments` keeps the fewest activations at once. If several are best, any of them.

    Every layer makes one activation of the same size. After the forward pass the result of each segment is there.
    The way back runs the segments again, from the last to the first. While a segment runs again, there are

    - the results of this segment and of all before it, from the forward pass; those after it are gone by then;
    - the activations of all its layers. The last one equals the segment's result, and is a second array all the same.

    Four layers in segments of 2: the forward pass leaves a2 and a4. The second segment runs again: a2, a4, and a3, a4
    anew, which makes 4. Then the first: a2, and a1, a2 anew, which makes 3. So 4 are kept at once; segments of 1 keep
    5 (a1 to a4, and a4 anew), and so does one segment of 4 (a4, and a1 to a4 anew).

    >>> best_segment(100)
    10
    """
    # >>> stage 05: your code
    raise NotImplementedError("stage 05: best_segment is yours to write, see stages/05_autograd/README.md")
    # <<<


def in_halves(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """`layers` one after the other; each half of them is a checkpoint, in it each half again, down to one layer."""
    if len(layers) == 1:
        return layers[0](x)
    half = len(layers) // 2
    for part in (layers[:half], layers[half:]):
        x = checkpoint(lambda x, part=part: in_halves(part, x), x)
    return x


def nested_calls(layers: int) -> int:
    """How often `in_halves` calls one of `layers` layers in all, forward and backward together.

    Where nothing is remembered, a checkpoint just calls its layers. On the way back it runs again, remembering: its
    halves are then checkpoints themselves.

    >>> [nested_calls(layers) for layers in (1, 2, 3, 4)]
    [1, 4, 8, 12]
    """
    # >>> stage 05: your code
    raise NotImplementedError("stage 05: nested_calls is yours to write, see stages/05_autograd/README.md")
    # <<<
