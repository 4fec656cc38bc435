"""What is compared of stages 11 to 13: a training step of milestone 4's GPT, and what it is made of.

Both sides have the same number of threads: PyTorch its own, tinytorch a replica in each (`DataParallel`), in which BLAS
uses one. The C library keeps its memory between steps, where it can be told to, for both: as milestone 4 runs.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import tinytorch as tt
from benchmarks.pairs import Case, Side
from benchmarks.torch_gpt import TorchGPT
from workshop.surroundings import keep_memory

VOCAB, LAYERS, HEAD_DIM = 65, 4, 32
SMALL = {"length": 64, "batch": 32, "width": 128}  # milestone 4's
LARGE = {"length": 128, "batch": 32, "width": 192}


def threads() -> int:
    """How many `run.py` gave to both sides."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


class OurGPT:
    """A GPT in tinytorch, one step at a time."""

    def __init__(self, length: int, batch: int, width: int) -> None:
        tt.manual_seed(0)
        self.model = tt.GPT(VOCAB, width, LAYERS, width // HEAD_DIM, length)
        self.net = self.model if threads() == 1 else tt.DataParallel(self.model, threads())
        self.optimizer = tt.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.1)
        rng = np.random.default_rng(6)
        self.x, self.y = (rng.integers(0, VOCAB, (batch, length)) for _ in range(2))
        self.loss: Any = None

    def forward(self) -> None:
        self.loss = tt.next_token_loss(self.net(self.x), self.y)

    def step(self) -> float:
        self.optimizer.zero_grad()
        self.forward()
        self.loss.backward()
        self.optimizer.step()
        return self.loss.item()


class TheirGPT(OurGPT):
    """The same in PyTorch, from the same weights."""

    def __init__(self, ours: OurGPT) -> None:
        self.model = TorchGPT(ours.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.1)
        self.x, self.y = torch.from_numpy(ours.x), torch.from_numpy(ours.y).flatten()
        self.loss = None

    def forward(self) -> None:
        self.loss = F.cross_entropy(self.model(self.x).flatten(0, 1), self.y)


def gpt_case(part: str, size: dict[str, int], asked: float | None = None) -> Case:
    """A training step, or its forward half."""
    keep_memory()
    ours = OurGPT(**size)
    theirs = TheirGPT(ours)
    sides = [Side(which.forward if part == "forward" else which.step) for which in (ours, theirs)]

    def difference() -> float:
        """Over the losses of five steps."""
        losses = np.array([(ours.step(), theirs.step()) for _ in range(5)])
        return float((np.abs(losses[:, 0] - losses[:, 1]) / losses[:, 1]).max())

    name = f"GPT, {part}, T {size['length']}, B {size['batch']}, width {size['width']}"
    return Case(name, *sides, difference, asked, pairs=12)


def both_ways(name: str, ours: Any, theirs: Any, shape: tuple[int, ...], inputs: int = 1) -> Case:
    """An operation on `inputs` arrays of `shape`, forward and backward, from a gradient of the result's shape."""
    rng = np.random.default_rng(7)
    arrays = [rng.standard_normal(shape, np.float32) for _ in range(inputs + 1)]
    our_inputs = [tt.Tensor(array, requires_grad=True) for array in arrays[:-1]]
    their_inputs = [torch.tensor(array, requires_grad=True) for array in arrays[:-1]]
    their_gradient = torch.from_numpy(arrays[-1])

    def run(function: Any, tensors: list[Any], gradient: Any) -> list[Any]:
        for tensor in tensors:
            tensor.grad = None
        function(*tensors).backward(gradient)
        return [tensor.grad for tensor in tensors]

    def difference() -> float:
        found = zip(run(ours, our_inputs, arrays[-1]), run(theirs, their_inputs, their_gradient))
        return max(float(np.abs(a - b.numpy()).max() / np.abs(b.numpy()).max()) for a, b in found)

    sides = Side(lambda: run(ours, our_inputs, arrays[-1])), Side(lambda: run(theirs, their_inputs, their_gradient))
    return Case(f"{name}, forward and backward", *sides, difference)


def layer_norm() -> Case:
    ours, theirs = tt.LayerNorm(128), torch.nn.LayerNorm(128)
    return both_ways("LayerNorm (2,048, 128)", ours, theirs, (2048, 128))


def attention() -> Case:
    """Causal, with the batch, heads and length of milestone 4."""
    mask = tt.causal_mask(64)
    return both_ways(
        "attention (32, 4, 64, 32)",
        lambda q, k, v: tt.scaled_dot_product_attention(q, k, v, mask),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (32, 4, 64, 32),
        inputs=3,
    )


def embedding() -> Case:
    """A batch of milestone 4, forward and backward to the table."""
    rng = np.random.default_rng(8)
    indices, gradient = rng.integers(0, VOCAB, 2048), rng.standard_normal((2048, 128), np.float32)
    ours = tt.Embedding(VOCAB, 128)
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(ours.weight.data), freeze=False)
    their_indices, their_gradient = torch.from_numpy(indices), torch.from_numpy(gradient)

    def run(layer: Any, positions: Any, upstream: Any) -> Any:
        layer.weight.grad = None
        layer(positions).backward(upstream)
        return layer.weight.grad

    def difference() -> float:
        a, b = run(ours, indices, gradient), run(theirs, their_indices, their_gradient).numpy()
        return float(np.abs(a - b).max() / np.abs(b).max())

    sides = Side(lambda: run(ours, indices, gradient)), Side(lambda: run(theirs, their_indices, their_gradient))
    return Case("Embedding of 2,048 of 65 tokens, forward and backward", *sides, difference)


LANGUAGE = [
    lambda: gpt_case("forward", SMALL),
    lambda: gpt_case("training step", SMALL, asked=0.95),
    lambda: gpt_case("training step", LARGE, asked=0.95),
    layer_norm,
    attention,
    embedding,
]
