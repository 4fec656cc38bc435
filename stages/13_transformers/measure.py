"""Measures what stage 13's lesson tells: where a transformer's parameters, bytes and FLOPs are, and what it learns.

tox -e measure13
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, medians, peak_bytes, save_plot  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import GPT, Tensor, TransformerBlock, causal_mask, checkpoint, manual_seed, next_token_loss, no_grad
from tinytorch.systems.transformer import bits_per_character, block_activations, gpt_parameters, token_flops

# Sonnet 18, William Shakespeare, 1609
SONNET = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;
But thy eternal summer shall not fade
Nor lose possession of that fair thou ow'st;
Nor shall Death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st;
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.
"""


def parameters() -> None:
    print("Parameters, counted: 12 L d² in the matrices of the blocks, and all others")
    print(f"{'vocab':>8}{'d':>7}{'L':>5}{'T':>7}{'12 L d²':>16}{'others':>14}{'their share':>14}")
    for vocab, d, layers, context in ((65, 128, 4, 64), (65, 192, 6, 128), (1024, 128, 4, 64), (50257, 768, 12, 1024)):
        inside, outside = gpt_parameters(vocab, d, layers, context)
        share = outside / (inside + outside)
        print(f"{vocab:>8}{d:>7}{layers:>5}{context:>7}{inside:>16,}{outside:>14,}{share:>14.1%}")


def depth() -> None:
    print("\nDeviation of the residual stream behind the last block of a new model, d = 64, std 0.1")
    print(f"{'blocks':>8}{'all matrices alike':>22}{'scaled by 1 / √(2 L)':>24}")
    indices = np.random.default_rng(0).integers(0, 65, (4, 32))
    for layers in (1, 4, 16, 64):
        found = []
        for scaled in (False, True):
            manual_seed(0)
            model = GPT(65, 64, layers, 4, 32)
            model.initialise(0.1)
            if not scaled:
                for block in model.blocks:
                    for weight in (block.attention.out.weight, block.mlp.down.weight):
                        weight.data *= (2 * layers) ** 0.5
            with no_grad():
                x = model.positions(model.tokens(indices))
                for block in model.blocks:
                    x = block(x, causal_mask(32))
            found.append(x.data.std())
        print(f"{layers:>8}{found[0]:>22.2f}{found[1]:>24.2f}")


def through(blocks: list[Any], x: Tensor, mask: Any, checkpointed: bool) -> Tensor:
    for block in blocks:
        run = partial(block, mask=mask)
        x = checkpoint(run, x) if checkpointed else run(x)
    return x


def memory() -> None:
    print("\nBlocks, d = 128, 4 heads, batch 16, 64 positions, float32: forward and back")
    print(f"{'blocks':>8}{'kept':>12}{'checkpointed':>15}{'peak':>12}{'checkpointed':>15}{'time, times as long':>22}")
    mask, random = causal_mask(64), np.random.default_rng(0)
    for count in (2, 4, 8):
        blocks = [TransformerBlock(128, 4) for _ in range(count)]
        x = Tensor(random.normal(size=(16, 64, 128)).astype(np.float32), requires_grad=True)

        def step(checkpointed: bool, blocks: list[Any] = blocks, x: Tensor = x) -> None:
            result = through(blocks, x, mask, checkpointed)
            result.backward(np.ones(result.shape, np.float32))

        kept = [block_activations(blocks, x, mask, checkpointed) / 1e6 for checkpointed in (False, True)]
        peak = [peak_bytes(partial(step, checkpointed)) / 1e6 for checkpointed in (False, True)]
        plain, again = medians(partial(step, False), partial(step, True), budget=0.5)
        row = f"{count:>8}{kept[0]:>9.1f} MB{kept[1]:>12.1f} MB{peak[0]:>9.1f} MB{peak[1]:>12.1f} MB"
        print(f"{row}{again / plain:>22.1f}")


def arithmetic() -> None:
    print("\nForward pass for one text, d = 128, L = 4, vocab 65, by its length T")
    print(f"{'T':>8}{'FLOPs a token':>16}{'of these attention':>20}{'ms a text':>12}{'GFLOP/s':>10}")
    model = GPT(65, 128, 4, 4, 512).eval()
    for length in (16, 64, 256, 512):
        indices = np.random.default_rng(0).integers(0, 65, (1, length))

        def forward(indices: np.ndarray = indices) -> None:
            with no_grad():
                model(indices)

        (seconds,) = medians(forward, budget=0.3)
        flops = token_flops(128, 4, 65, length)
        attention = 1 - token_flops(128, 4, 65, 0) / flops
        speed = flops * length / seconds / 1e9
        print(f"{length:>8}{flops:>16,}{attention:>20.0%}{seconds * 1e3:>12.1f}{speed:>10.1f}")


class WithoutPositions(GPT):
    """Attention that knows no order, but for the mask."""

    def forward(self, indices: Any, cache: Any = None) -> Tensor:
        self.positions.positions.data[...] = 0
        return super().forward(indices)


class SeesItself(GPT):
    """No position sees another one."""

    def forward(self, indices: Any, cache: Any = None) -> Tensor:
        x = self.positions(self.tokens(indices))
        for block in self.blocks:
            x = block(x, np.eye(x.shape[1], dtype=bool))
        return self.norm(x) @ self.tokens.weight.T


def adam(model: GPT, memory: dict[int, Any], step: int, lr: float) -> None:
    """A step by hand: stage 06 is not among this stage's needs."""
    for parameter in model.parameters():
        mean, square = memory.get(id(parameter), (0.0, 0.0))
        mean, square = 0.9 * mean + 0.1 * parameter.grad, 0.99 * square + 0.01 * parameter.grad**2
        memory[id(parameter)] = mean, square
        parameter.data -= lr * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        parameter.grad = None


def learn(kind: Callable[..., GPT], steps: int) -> list[float]:
    """The loss at each step of a model that learns the sonnet."""
    manual_seed(0)
    letters = sorted(set(SONNET))
    text, random, memory, losses = np.array([letters.index(c) for c in SONNET]), np.random.default_rng(0), {}, []
    model = kind(len(letters), 32, 2, 4, 32)
    for step in range(1, steps + 1):
        starts = random.integers(0, len(text) - 32, 16)
        windows = text[starts[:, None] + np.arange(33)]
        loss = next_token_loss(model(Tensor(windows[:, :-1])), windows[:, 1:])
        loss.backward()
        losses.append(loss.item())
        adam(model, memory, step, 0.005)
    return losses


def learning() -> dict[str, list[float]]:
    print("\nThe sonnet, 14 lines, d = 32, L = 2, T = 32, batch 16: loss in nats a character, mean of 10 steps")
    print(f"{'':18}{'step 1':>10}{'to 50':>10}{'to 100':>10}{'to 300':>10}{'bits a character':>20}")
    curves = {}
    for name, kind in {"sees itself alone": SeesItself, "without positions": WithoutPositions, "GPT": GPT}.items():
        curves[name] = losses = learn(kind, 300)
        at = [losses[0], *(float(np.mean(losses[end - 10 : end])) for end in (50, 100, 300))]
        row = f"{name:18}" + "".join(f"{loss:>10.2f}" for loss in at)
        print(f"{row}{bits_per_character(at[-1], 1, 1):>20.2f}")
    return curves


def plot(curves: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    for name, losses in curves.items():
        left.plot(np.convolve(losses, np.ones(10) / 10, "valid"), label=name)
    left.axhline(np.log(len(set(SONNET))), color="gray", linestyle=":", label="guessing")
    left.set(title="Learning a sonnet", xlabel="step", ylabel="loss, nats a character", ylim=(0, 4))
    left.legend()
    lengths = 2 ** np.arange(4, 13)
    for d in (128, 768):
        share = [1 - token_flops(d, 4, 65, 0) / token_flops(d, 4, 65, int(n)) for n in lengths]
        right.plot(lengths, share, "o-", label=f"d = {d}")
    right.set(title="Share of attention's products in all FLOPs", xlabel="positions T", xscale="log", ylim=(0, 1))
    right.legend(loc="upper left")
    save_plot(figure, __file__)


def main() -> None:
    parameters()
    depth()
    memory()
    arithmetic()
    plot(learning())


measure(main)
