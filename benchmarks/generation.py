"""Tokens a second of cached generation: tinytorch through its layers and by its decoder, and PyTorch, with and without.

python benchmarks/generation.py       on the reference in solutions/, one thread, one text at a time

All ways read the same tokens with the same weights, and their logits are compared before they are timed, in turns, in
one process. Returns 1 if a ratio falls short of what is asked.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "solutions"), str(ROOT)]

import numpy as np
import torch
import torch.nn.functional as F

import tinytorch as tt
from benchmarks.torch_gpt import TorchGPT
from tinytorch.generation.decoder import Decoder

SIZES = {"vocab_size": 65, "embed_dim": 128, "num_layers": 4, "num_heads": 4, "max_seq_len": 256}  # milestone 4's
CONTEXTS = (64, 128, 256)
STEPS = 8  # tokens that are read one after the other, the last ones of the context
TURNS = 25
TURN = 0.05  # seconds that a turn takes at least
OVER_UNCACHED, OVER_TORCH = 8.0, 1.5  # how many times as fast the decoder must be at the longest context
Logits = Any  # (1, vocab_size)
Step = Callable[[int], Logits]  # reads the token at a position; the caches hold those before it


class Ways:
    """Five ways to get the logits after the token at a position of one text."""

    def __init__(self, text: np.ndarray) -> None:
        tt.manual_seed(0)
        self.ours = tt.GPT(**SIZES).eval()
        for parameter in self.ours.parameters():  # larger than at birth, so that logits differ
            parameter.data *= 3 if parameter.ndim == 2 else 1
        self.text, self.their_text = text, torch.from_numpy(text)
        self.theirs = TorchGPT(self.ours).eval()
        self.through_layers, self.on_arrays = tt.cache_for(self.ours), tt.cache_for(self.ours)
        self.decoder = Decoder(self.ours, self.on_arrays)
        sizes = (1, SIZES["num_heads"], text.shape[1], SIZES["embed_dim"] // SIZES["num_heads"])
        self.caches = [(torch.zeros(sizes), torch.zeros(sizes)) for _ in self.ours.blocks]
        self.steps: dict[str, Step] = {
            "no cache": lambda at: self.ours(self.text[:, : at + 1]).data[:, -1],
            "cache, through layers": self.layers_step,
            "cache, decoder": self.decoder_step,
            "PyTorch, no cache": lambda at: self.theirs(self.their_text[:, : at + 1])[:, -1],
            "PyTorch, cache": self.torch_step,
        }

    def layers_step(self, at: int) -> Logits:
        self.through_layers.lengths = [at] * SIZES["num_layers"]
        return self.ours(self.text[:, at : at + 1], self.through_layers).data[:, -1]

    def decoder_step(self, at: int) -> Logits:
        self.on_arrays.lengths = [at] * SIZES["num_layers"]
        return self.decoder(self.text[:, at])

    def torch_step(self, at: int) -> Logits:
        """A single position through PyTorch's layers, with keys and values written into memory that is there."""
        x = self.theirs.tokens(self.their_text[:, at : at + 1]) + self.theirs.positions.weight[at]
        for block, (keys, values) in zip(self.theirs.blocks, self.caches):
            parts = block.qkv(block.norm1(x)).split(x.shape[2], dim=2)
            q, k, v = (part.view(1, 1, block.num_heads, -1).transpose(1, 2) for part in parts)
            keys[:, :, at : at + 1], values[:, :, at : at + 1] = k, v
            mixed = F.scaled_dot_product_attention(q, keys[:, :, : at + 1], values[:, :, : at + 1])
            x = x + block.out(mixed.transpose(1, 2).reshape(x.shape))
            x = x + block.down(F.gelu(block.up(block.norm2(x)), approximate="tanh"))
        return (self.theirs.norm(x) @ self.theirs.tokens.weight.T)[:, -1]

    def check(self) -> float:
        """The largest difference of any way to the logits of the whole text at once, at all positions.

        Raises:
            ValueError: it is above 1e-5 of the largest logit.
        """
        whole = self.ours(self.text).data[0]
        worst = 0.0
        for name, step in self.steps.items():
            found = np.concatenate([np.asarray(step(at)) for at in range(self.text.shape[1])])
            difference = float(np.abs(found - whole).max() / np.abs(whole).max())
            if not difference < 1e-5:
                raise ValueError(f"{name}: the logits differ by {difference:.2g}, so times cannot be compared")
            worst = max(worst, difference)
        return worst


def rates(ways: Ways, context: int) -> dict[str, np.ndarray]:
    """Tokens a second of each way at the end of a context, by turn. Each turn begins with another way."""
    steps = list(ways.steps.values())
    found = np.zeros((TURNS, len(steps)))
    for number in range(TURNS):
        for place in range(len(steps)):
            which = (number + place) % len(steps)
            found[number, which] = rate(steps[which], context)
    return dict(zip(ways.steps, found.T))


def rate(step: Step, context: int) -> float:
    """Tokens a second of processor time, to which other programs add nothing: all ways have a single thread."""
    tokens, began = 0, time.process_time()
    while time.process_time() - began < TURN:
        for at in range(context - STEPS, context):
            step(at)
        tokens += STEPS
    return tokens / (time.process_time() - began)


def main() -> int:
    torch.set_num_threads(1)
    kernels = os.environ.get("OPENBLAS_CORETYPE", "their own choice")
    print(
        f"One thread. NumPy's BLAS kernels: {kernels} (OPENBLAS_CORETYPE). NumPy {np.__version__}, {torch.__version__=}"
    )
    text = np.random.default_rng(1).integers(0, SIZES["vocab_size"], (1, SIZES["max_seq_len"]))
    with torch.inference_mode(), tt.no_grad():
        ways = Ways(text)
        difference = ways.check()
        print(f"All logits agree to {difference:.0e}. Tokens a second, medians of {TURNS} turns:")
        found = {context: rates(ways, context) for context in CONTEXTS}
    print(f"{'at context':24}" + "".join(f"{context:>10}" for context in CONTEXTS))
    for name in ways.steps:
        print(f"{name:24}" + "".join(f"{np.median(found[context][name]):>10,.0f}" for context in CONTEXTS))
    last, failed = found[CONTEXTS[-1]], False
    for against, asked in (("no cache", OVER_UNCACHED), ("PyTorch, cache", OVER_TORCH)):
        low, middle, high = np.percentile(last["cache, decoder"] / last[against], [25, 50, 75])
        print(f"decoder / {against} at {CONTEXTS[-1]}: {middle:.2f} ({low:.2f} to {high:.2f}), asked: at least {asked}")
        failed |= middle < asked
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
