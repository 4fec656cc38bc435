"""Measures what stage 09's lesson tells: loops against a matrix product, columns and caches, where a CNN's time goes.

tox -e measure09
"""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Tensor, conv2d_naive, manual_seed
from tinytorch.core import blocks
from tinytorch.systems.spatial import (
    column_bytes,
    conv_flops,
    receptive_field,
    separable_cost,
    winograd_products,
)

random = np.random.default_rng(0)


def images(*shape: int) -> Tensor:
    return Tensor(random.normal(size=shape).astype(np.float32), requires_grad=True)


def loops() -> list[tuple[int, float, float]]:
    """Prints the table; returns FLOPs, seconds by loops and seconds by columns."""
    rows = []
    print("One sample, 16 -> 32 channels, window 3 × 3, padding 1: seven loops against a matrix product")
    print(f"{'image':>10}{'FLOPs':>14}{'loops':>12}{'':>15}{'Conv2d':>12}{'':>15}{'ratio':>9}")
    layer = Conv2d(16, 32, 3, padding=1)
    for side in (2, 4, 8, 16, 32, 64):
        x = images(1, 16, side, side)
        flops, fast = conv_flops(x.shape, layer.weight.shape, padding=1), seconds(lambda: layer(x))
        slow = seconds(lambda: conv2d_naive(x, layer.weight, layer.bias, padding=1)) if side <= 16 else None
        shown = f"{slow * 1e3:>9.1f} ms{flops / slow / 1e6:>7.2f} MFLOP/s" if slow else f"{'-':>12}{'':>15}"
        ratio = f"{slow / fast:>9,.0f}" if slow else f"{'-':>9}"
        print(
            f"{f'{side} × {side}':>10}{flops:>14,}{shown}{fast * 1e3:>9.3f} ms{flops / fast / 1e9:>7.1f} GFLOP/s{ratio}"
        )
        rows.append((flops, slow, fast))
    return rows


def memory() -> None:
    layer = Conv2d(32, 64, 3, padding=1)
    print("\nConv2d(32, 64, 3, padding=1) on (N, 32, 16, 16) float32: memory of the way there")
    print(f"{'N':>6}{'x':>12}{'result':>12}{'all columns':>15}{'peak, traced':>16}{'kept, traced':>16}")
    for batch in (1, 8, 64, 256):
        x = images(batch, 32, 16, 16)
        layer(x)
        tracemalloc.start()
        y = layer(x)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        row = (x.data.nbytes, y.data.nbytes, column_bytes(x.shape, 3, padding=1), peak, kept)
        print(f"{batch:>6}" + "".join(f"{count / 1e6:>{width}.2f} MB" for count, width in zip(row, (9, 9, 12, 13, 13))))


def there_and_back(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[float, float]:
    """Seconds of the way there, and of both ways less that."""
    upstream = np.ones(layer(x).shape, np.float32)
    there = seconds(lambda: layer(x))
    return there, seconds(lambda: layer(x).backward(upstream)) - there


def block_sizes() -> list[tuple[int, float]]:
    """Prints the table; returns block sizes in bytes, and seconds."""
    layer, x, usual = Conv2d(32, 64, 3, padding=1), images(64, 32, 16, 16), blocks.BLOCK
    found = []
    print(
        "\nHow many columns at a time: both ways of that layer, N = 64, "
        f"{column_bytes(x.shape, 3, padding=1) / 1e6:.0f} MB of columns in all"
    )
    print(f"{'block':>12}{'samples':>10}{'there':>12}{'back':>12}")
    for exponent in (16, 17, 18, 19, 20, 22, 24):
        blocks.BLOCK = 2**exponent
        samples = min(64, max(1, blocks.BLOCK // (32 * 9 * 256)))
        there, back = there_and_back(layer, x)
        print(f"{4 * blocks.BLOCK / 1e6:>9.1f} MB{samples:>10}{there * 1e3:>9.1f} ms{back * 1e3:>9.1f} ms")
        found.append((4 * blocks.BLOCK, there + back))
    blocks.BLOCK = usual
    return found


def network() -> None:
    layers = [
        ("Conv2d(3, 32)", Conv2d(3, 32, 3, padding=1)),
        ("BatchNorm2d(32)", BatchNorm2d(32)),
        ("ReLU", ReLU()),
        ("MaxPool2d(2)", MaxPool2d(2)),
        ("Conv2d(32, 64)", Conv2d(32, 64, 3, padding=1)),
        ("BatchNorm2d(64)", BatchNorm2d(64)),
        ("ReLU", ReLU()),
        ("MaxPool2d(2)", MaxPool2d(2)),
        ("Flatten", Flatten()),
        ("Linear(4096, 10)", Linear(4096, 10)),
    ]
    x, rows = images(64, 3, 32, 32), []
    x.requires_grad = False
    for name, layer in layers:
        weights = sum(p.size for p in layer.parameters()) if hasattr(layer, "parameters") else 0
        if weights or x.requires_grad:
            rows.append((name, weights, *there_and_back(layer, x)))
        x = layer(x).detach()
        x.requires_grad = True
    total = sum(there + back for _, _, there, back in rows)
    print("\nA small CNN on 64 images of 32 × 32, layer by layer")
    print(f"{'':20}{'parameters':>12}{'there':>12}{'back':>12}{'of the time':>14}")
    for name, weights, there, back in rows:
        print(f"{name:20}{weights:>12,}{there * 1e3:>9.2f} ms{back * 1e3:>9.2f} ms{(there + back) / total:>13.0%}")


def sparing() -> None:
    x, side = images(32, 64, 16, 16), 16
    full = Conv2d(64, 128, 3, padding=1, bias=False)
    depthwise, pointwise = Conv2d(64, 64, 3, padding=1, groups=64, bias=False), Conv2d(64, 128, 1, bias=False)
    parameters, flops = separable_cost(64, 128, 3, side * side)
    dense = conv_flops((1, 64, side, side), full.weight.shape, padding=1)
    products = winograd_products(side, side) / (9 * side * side)
    print("\nThe same work with less: 64 -> 128 channels, window 3 × 3, 16 × 16, N = 32")
    print(f"{'':24}{'parameters':>12}{'MFLOP/sample':>15}{'time':>12}{'':>16}")
    for name, weights, count, action in (
        ("full", full.weight.size, dense, lambda: full(x)),
        ("depthwise separable", parameters, flops, lambda: pointwise(depthwise(x))),
    ):
        took = seconds(action)
        print(
            f"{name:24}{weights:>12,}{count / 1e6:>15.2f}{took * 1e3:>9.2f} ms{32 * count / took / 1e9:>8.1f} GFLOP/s"
        )
    print(f"{'separable / full':24}{parameters / full.weight.size:>12.3f}{flops / dense:>15.3f}")
    print(f"Winograd F(2×2, 3×3) would need {products:.3f} of the full one's multiplications")


def sight() -> None:
    stack: list[tuple[int, int]] = []
    print("\nHow far one number sees: (conv 3, stride 1) and (pool 2, stride 2) in turn; image 32 × 32")
    print(f"{'after':>18}{'pixels':>10}")
    for number in (1, 2, 3):
        for name, layer in (("conv", (3, 1)), ("pool", (2, 2))):
            stack.append(layer)
            print(f"{f'{name} {number}':>18}{receptive_field(stack):>10}")


def plot(rows: list[tuple[int, float, float]], cut: list[tuple[int, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    left.loglog([f for f, slow, _ in rows if slow], [slow for _, slow, _ in rows if slow], "o-", label="seven loops")
    left.loglog([f for f, _, _ in rows], [fast for _, _, fast in rows], "s-", label="im2col and a matrix product")
    left.set(title="The same convolution", xlabel="FLOPs", ylabel="seconds")
    left.legend()
    right.semilogx([size / 1e6 for size, _ in cut], [took * 1e3 for _, took in cut], "o-")
    right.set(
        title="Both ways of a Conv2d, batch 64",
        xlabel="columns made at a time, MB",
        ylabel="milliseconds",
        ylim=(0, None),
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
    save_plot(figure, __file__)


def main() -> None:
    manual_seed(0)
    rows = loops()
    memory()
    cut = block_sizes()
    network()
    sparing()
    sight()
    plot(rows, cut)


measure(main)
