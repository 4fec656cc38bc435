"""Stage 13, given: a model that works on several parts of a batch at the same time, each in a thread of its own.

NumPy lets go of Python's lock while it computes, so two threads keep two cores busy, with one BLAS thread each.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import reduce
from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.door import memory
from tinytorch.core.layers import Layer
from tinytorch.core.rng import drawing_from, generator
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, recording, result_of

__all__ = ["DataParallel"]


class DataParallel(Layer):
    """`model` in several threads: each has a replica of the model, and works on a part of the batch.

    Replicas have Tensors of their own, and so gradients of their own, around the arrays of the model's parameters: what an
    optimizer does to these holds for all. Each replica draws its random numbers from a generator of its own, which gets its
    seed from the package's in each forward pass in training: a run is the same again to the last bit, whichever
    thread is faster. Layers that change their buffers, as BatchNorm2d does, would do so in all threads at once, and
    are not for this.

    Args:
        model: its forward takes the batch, on the first axis, and answers with one Tensor.
        threads: the number of parts.

    >>> from tinytorch.core.layers import Linear
    >>> DataParallel(Linear(3, 2))(Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).shape
    (2, 2)
    """

    def __init__(self, model: Layer, threads: int = 2) -> None:
        self.model, self.threads = model, whole_number("DataParallel", "threads", threads, 1)
        self._replicas = [deepcopy(model) for _ in range(threads)]
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="replica")

    def forward(self, x: Any) -> Tensor:
        """The model's results for the whole batch. Gradients reach the model's parameters, and not `x`.

        Args:
            x: an array or a Tensor that requires no gradient, with at least one sample.
        """
        x = x.data if isinstance(x, Tensor) else np.asarray(x)
        parts = [part for part in np.array_split(np.arange(len(x)), self.threads) if len(part)]
        jobs = list(zip(self._replicas, [slice(part[0], part[-1] + 1) for part in parts]))
        parameters = self.model.parameters()
        for replica, _ in jobs:
            replica.train(self.training)
            for own, shared in zip(replica.parameters(), parameters):
                own.data, own.grad = shared.data, None
        seeds = generator().integers(2**63, size=len(jobs)) if self.training else range(len(jobs))
        recorded = memory.on

        def run(job: tuple[Layer, slice], seed: int) -> Tensor:
            before = recording(recorded)
            try:
                with drawing_from(np.random.default_rng(seed)):
                    return job[0](x[job[1]])
            finally:
                recording(before)

        outputs = list(self._workers.map(run, jobs, seeds))
        data = np.concatenate([output.data for output in outputs])
        return result_of("DataParallel", data, *parameters, jobs=jobs, outputs=outputs, workers=self._workers)


class DataParallelBackward(Function):
    """Sends each part of the gradient back through its replica, all at the same time, and adds up what they found."""

    jobs: list[tuple[Layer, slice]]
    outputs: list[Tensor]
    workers: ThreadPoolExecutor

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of the model's parameters, None for one that no part used."""

        def run(job: tuple[Layer, slice], output: Tensor) -> list[np.ndarray | None]:
            output.backward(grad_output[job[1]])
            return [parameter.grad for parameter in job[0].parameters()]

        found = zip(*self.workers.map(run, self.jobs, self.outputs))
        return tuple(reduce(_plus, gradients) for gradients in found)


def _plus(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return a if b is None else b if a is None else np.add(a, b, out=a)
