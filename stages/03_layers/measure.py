"""Measures what stage 03's lesson tells: what a model costs in memory, how signals travel, what dropout does.

tox -e measure03
"""

import math
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import Dropout, Linear, Sequential, Tensor, he_normal, manual_seed, xavier_uniform
from tinytorch.systems.layers import activation_bytes, ensemble_moments, model_bytes, signal_after

random = np.random.default_rng(0)


def relu(x: Tensor) -> Tensor:
    return Tensor(np.maximum(x.data, 0))


def tanh(x: Tensor) -> Tensor:
    return Tensor(np.tanh(x.data))


def identity(x: Tensor) -> Tensor:
    return x


def held_bytes(model: Sequential, batch: int) -> int:
    """What tracemalloc counts while the input and every part's result are held."""
    tracemalloc.start()
    held = [Tensor(np.zeros((batch, 784), np.float32))]
    for part in model:
        held.append(part(held[-1]).detach())
    counted = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return counted


def memory() -> None:
    model = Sequential(Linear(784, 256), relu, Linear(256, 128), relu, Linear(128, 10))
    values, gradients = model_bytes(model)
    print("Memory of training 784-256-128-10 with ReLUs, float32")
    print(f"{'batch':>8}{'values':>12}{'gradients':>12}{'activations':>14}{'(traced)':>12}")
    for batch in (1, 64, 1024, 16384):
        x = Tensor(np.zeros((batch, 784), np.float32))
        row = (values, gradients, activation_bytes(model, x), held_bytes(model, batch))
        print(
            f"{batch:>8}{row[0] / 1e3:>9.0f} kB{row[1] / 1e3:>9.0f} kB{row[2] / 1e3:>11.0f} kB{row[3] / 1e3:>9.0f} kB"
        )


def batches() -> None:
    layer = Linear(2048, 2048)
    print("\nLinear(2048, 2048): 16.8 MB of weights, read once a batch")
    print(f"{'batch':>8}{'a batch':>14}{'a sample':>14}{'':>17}")
    for batch in (1, 8, 64, 256):
        x = Tensor(random.random((batch, 2048), np.float32))
        layer(x)  # the first product starts the library's threads
        took = seconds(lambda: layer(x))
        rate = 2 * batch * 2048 * 2048 / took / 1e9
        print(f"{batch:>8}{took * 1e3:>11.3f} ms{took / batch * 1e6:>11.1f} µs{rate:>9.1f} GFLOP/s")


WIDTH, DEPTH = 256, 10
STARTS = {
    "normal, std 0.01": lambda fan_in, fan_out: random.normal(0, 0.01, (fan_in, fan_out)),
    "normal, std 0.2": lambda fan_in, fan_out: random.normal(0, 0.2, (fan_in, fan_out)),
    "xavier_uniform": xavier_uniform,
    "he_normal": he_normal,
}


def squares(start: Callable[[int, int], np.ndarray], bend: Callable[[Tensor], Tensor]) -> list[float]:
    """Mean square of what comes out after 0, 1 … DEPTH layers."""
    x = Tensor(random.normal(size=(512, WIDTH)))
    found = [float(np.square(x.data).mean())]
    for _ in range(DEPTH):
        layer = Linear(WIDTH, WIDTH, bias=False)
        layer.weight.data[...] = start(WIDTH, WIDTH)
        x = bend(layer(x)).detach()
        found.append(float(np.square(x.data).mean()))
    return found


def signals() -> dict[str, list[float]]:
    """Prints the table; returns the rows for ReLU and tanh by name."""
    lines = {}
    print(f"\nMean square after layers of width {WIDTH}; input 1, no bias")
    print(f"{'weights':18}{'between':>10}{'1':>11}{'2':>11}{'5':>11}{'10':>11}{'predicted':>13}")
    for name, start in STARTS.items():
        for bend in (identity, relu, tanh):
            row = squares(start, bend)
            variance = float(start(WIDTH, WIDTH).var())
            known = f"{signal_after(DEPTH, WIDTH, variance, bend is relu):.1e}" if bend is not tanh else "-"
            shown = "".join(f"{row[layers]:>11.1e}" for layers in (1, 2, 5, 10))
            print(f"{name:18}{'nothing' if bend is identity else bend.__name__:>10}{shown}{known:>13}")
            lines[f"{name}, {bend.__name__}"] = row
    return lines


def ensemble() -> None:
    x, weights = random.normal(size=64), random.normal(size=64) / 8
    layer = Dropout(0.5)
    mean, spread = ensemble_moments(x, weights, 0.5)
    print(f"\n64 inputs, Dropout(0.5), one output: 2^64 networks, mean {mean:.4f}, standard deviation {spread:.4f}")
    print(f"{'networks tried':>16}{'their mean':>13}{'off by':>10}{'expected':>11}{'their deviation':>18}")
    for tried in (10, 1_000, 100_000):
        outputs = layer(Tensor(np.broadcast_to(x, (tried, 64))), training=True).data @ weights
        off = abs(outputs.mean() - mean)
        print(
            f"{tried:>16,}{outputs.mean():>13.4f}{off:>10.4f}{spread / math.sqrt(tried):>11.4f}{outputs.std():>18.4f}"
        )
    evaluation = float(layer(Tensor(x), training=False).data @ weights)
    bent = float(np.maximum(outputs, 0).mean())
    print(
        f"evaluation, one pass: {evaluation:.4f}. "
        f"Behind a ReLU: ensemble {bent:.4f}, evaluation {max(evaluation, 0):.4f}"
    )


def plot(lines: dict[str, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    styles = {"relu": "o-", "tanh": "s--"}
    for color, name in enumerate(STARTS):
        for bend, style in styles.items():
            axes.semilogy(lines[f"{name}, {bend}"], style, color=f"C{color}", markersize=4, label=f"{name}, {bend}")
    axes.set(
        title=f"A signal on its way through {DEPTH} layers of width {WIDTH}", xlabel="layers", ylabel="mean square"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_plot(figure, __file__)


def main() -> None:
    manual_seed(0)
    memory()
    batches()
    lines = signals()
    ensemble()
    plot(lines)


measure(main)
