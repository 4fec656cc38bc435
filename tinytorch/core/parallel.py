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

Job = tuple[Layer, list[Tensor], slice]  # a replica, its parameters, and the part of the batch that it works on


class DataParallel(Layer):
    """`model` in several threads: each has a replica of the model, and works on a part of the batch.

    Replicas have Tensors of their own, and so gradients of their own, around the arrays of the model's Tensors: what an
    optimizer does to these holds for all. Each replica draws its random numbers from a generator of its own, which in
    training gets its seed from the package's, once for each forward pass. So a run is the same again to the last bit,
    whichever thread is faster.

    It is not for layers that change their buffers, as BatchNorm2d does: all threads would do it at once. And a model
    whose parts are exchanged (`replace_layer`) afterwards needs a new DataParallel, since replicas are made once.

    Args:
        model: its forward takes the batch, on the first axis, and answers with one Tensor that has the batch there too.
        threads: the number of parts. A batch that has fewer samples than that has a part for each sample.

    >>> from tinytorch.core.layers import Linear
    >>> DataParallel(Linear(3, 2))(Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).shape
    (2, 2)
    """

    def __init__(self, model: Layer, threads: int = 2) -> None:
        self.model, self.threads = model, whole_number("DataParallel", "threads", threads, 1)
        replicas = [deepcopy(model) for _ in range(threads)]
        self._replicas = [(replica, _tensors(replica)) for replica in replicas]
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="replica")

    def forward(self, x: Any) -> Tensor:
        """The model's results for the whole batch. Gradients reach the model's parameters, and not x.

        Args:
            x: an array, a list, or a Tensor that requires no gradient.

        Raises:
            ValueError: x has no sample, or requires a gradient while operations are recorded.
        """
        if isinstance(x, Tensor) and x.requires_grad and memory.on:
            raise ValueError("DataParallel: the input requires a gradient, and none would reach it")
        array = x.data if isinstance(x, Tensor) else np.asarray(x)
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"DataParallel: expected a batch of at least one sample, got shape {array.shape}")
        shared = _tensors(self.model)
        jobs = self._jobs(len(array), shared)
        seeds = generator().integers(2**63, size=len(jobs)) if self.training else range(len(jobs))
        recorded = memory.on  # the caller's; each thread has a switch of its own

        def run(job: Job, seed: int) -> Tensor:
            replica, _, part = job
            before = recording(recorded)
            try:
                with drawing_from(np.random.default_rng(seed)):
                    return replica(result_of(None, array[part]))
            finally:
                recording(before)

        outputs = list(self._workers.map(run, jobs, seeds))
        data = np.concatenate([output.data for output in outputs])
        saved = {"jobs": jobs, "outputs": outputs, "workers": self._workers}
        return result_of("DataParallel", data, *_parameters(shared), **saved)

    def _jobs(self, samples: int, shared: list[Tensor]) -> list[Job]:
        """A replica that is as the model is now for each part of the batch; parts differ by one sample at most."""
        jobs, parts = [], min(self.threads, samples)
        for number, (replica, tensors) in enumerate(self._replicas[:parts]):
            if replica.training != self.training:
                replica.train(self.training)
            for own, tensor in zip(tensors, shared):
                own.data, own.requires_grad = tensor.data, tensor.requires_grad
            part = slice(samples * number // parts, samples * (number + 1) // parts)
            jobs.append((replica, _parameters(tensors), part))
        return jobs


def _tensors(layer: Layer) -> list[Tensor]:
    """Every Tensor of a layer, once."""
    return list({id(tensor): tensor for _, tensor in layer.named_tensors()}.values())


def _parameters(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor.requires_grad]


class DataParallelBackward(Function):
    """Sends each part of the gradient back through its replica, all at the same time, and adds up what they found."""

    jobs: list[Job]
    outputs: list[Tensor]
    workers: ThreadPoolExecutor

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of the model's parameters, None for one that no part used."""

        def run(job: Job, output: Tensor) -> list[np.ndarray | None]:
            _, parameters, part = job
            for parameter in parameters:
                parameter.grad = None  # left from another pass
            if output.requires_grad:
                output.backward(grad_output[part])
            return [parameter.grad for parameter in parameters]

        found = zip(*self.workers.map(run, self.jobs, self.outputs))
        return tuple(reduce(_plus, gradients) for gradients in found)


def _plus(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return a if b is None else b if a is None else np.add(a, b, out=a)
