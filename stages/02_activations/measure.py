"""Measures what stage 02's lesson tells: what activations cost, where they overflow, saturate and go silent.

tox -e measure02
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, peak_bytes, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import GELU, ReLU, Sigmoid, Softmax, Tanh, Tensor
from tinytorch.systems.activations import (
    dead_units,
    gelu_error,
    relu_sparsity,
    saturation_point,
    sparse_bytes,
)

random = np.random.default_rng(0)


def costs() -> None:
    x = Tensor(random.normal(size=(1000, 1000)).astype(np.float32))
    print("One activation of a (1000, 1000) float32 tensor, 4.0 MB")
    print(f"{'':28}{'time':>12}{'memory at its height':>24}")
    rows = {"x + 1.0": lambda: x + 1.0}
    for activation in (ReLU(), Sigmoid(), Tanh(), GELU("tanh"), GELU("none"), Softmax()):
        rows[repr(activation)] = lambda activation=activation: activation(x)
    for name, action in rows.items():
        print(f"{name:28}{seconds(action) * 1e3:>9.2f} ms{peak_bytes(action) / 1e6:>21.1f} MB")


def overflow() -> None:
    print("\nSoftmax of [s, s - 1] in float32")
    print(f"{'s':>6}{'exp(x) / sum(exp(x))':>28}{'Softmax()(x)':>24}")
    for s in (1, 80, 89, 1000):
        x = np.array([s, s - 1], np.float32)
        with np.errstate(all="ignore"):
            naive = np.exp(x) / np.exp(x).sum()
        yours = Softmax()(Tensor(x)).data
        print(f"{s:>6}{naive[0]:>20.5f}{naive[1]:>8.5f}{yours[0]:>16.5f}{yours[1]:>8.5f}")


def sparsity() -> None:
    features = units = 512
    weight = random.normal(0, np.sqrt(2 / features), (features, units)).astype(np.float32)
    inputs = Tensor(random.normal(size=(256, features)).astype(np.float32))
    print("\nReLU behind a layer of 512 units, 256 inputs, float32: zeros by bias")
    print(f"{'bias':>6}{'counted':>12}{'predicted':>12}{'dense':>12}{'sparse':>12}{'dead units':>12}")
    for bias in (1.0, 0.0, -1.0, -2.0, -4.0):
        sums = inputs @ Tensor(weight) + bias
        outputs = ReLU()(sums)
        counted = float(np.mean(outputs.data == 0))
        predicted = relu_sparsity(float(sums.data.mean()), float(sums.data.std()))
        print(
            f"{bias:>6.1f}{counted:>12.3f}{predicted:>12.3f}{outputs.data.nbytes / 1e3:>9.0f} kB"
            f"{sparse_bytes(outputs) / 1e3:>9.0f} kB{dead_units(outputs):>12}"
        )


def saturation() -> None:
    print("\nWhere the slope of the sigmoid, 0.25 at 0, has fallen")
    print(f"{'slope':>12}{'at x':>10}{'σ(x), float32':>18}")
    for slope in (0.25, 0.1, 0.01, 0.001, 0.0001):
        x = saturation_point(slope)
        print(f"{slope:>12.4f}{x:>10.2f}{Sigmoid()(Tensor(x)).item():>18.7f}")


def slope_through(activation: Callable[[Tensor], Tensor], depth: int, at: float, step: float = 1e-4) -> float:
    """The slope of `activation`, applied `depth` times in a row, by central differences in float64."""
    x = Tensor(np.array([at + step, at - step]))
    for _ in range(depth):
        x = activation(x)
    return float((x.data[0] - x.data[1]) / (2 * step))


def depth() -> None:
    depths = (1, 2, 4, 8, 16)
    print("\nSlope of an activation applied many times in a row, at x = 0.5")
    print(f"{'times':12}" + "".join(f"{n:>16}" for n in depths))
    for activation in (Sigmoid(), Tanh(), ReLU()):
        print(f"{activation!r:12}" + "".join(f"{slope_through(activation, n, 0.5):>16.11f}" for n in depths))


def approximation() -> None:
    print("\nGELU's tanh form against the exact one")
    print(f"{'between':>14}{'worst at':>12}{'off by':>12}")
    for low, high in ((0.0, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0)):
        where, error = gelu_error(low, high)
        print(f"{low:>6.1f} and {high:.1f}{where:>12.3f}{error:>12.7f}")


def plot() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    x = np.linspace(-6, 6, 1201)
    figure, (values, slopes, error) = plt.subplots(1, 3, figsize=(14, 4))
    for activation in (Sigmoid(), Tanh(), ReLU(), GELU()):
        y = activation(Tensor(x)).data
        values.plot(x, y, label=type(activation).__name__)
        slopes.plot((x[1:] + x[:-1]) / 2, np.diff(y) / np.diff(x))
    values.set(title="Value", xlabel="x", ylim=(-1.3, 3))
    values.legend()
    slopes.set(title="Slope: what a gradient is multiplied by", xlabel="x", ylim=(-0.3, 1.3))
    error.plot(x, (GELU("tanh")(Tensor(x)).data - GELU("none")(Tensor(x)).data) * 1e4, color="black")
    error.set(title="GELU: tanh form minus exact form", xlabel="x", ylabel="× 0.0001")
    for axes in (values, slopes, error):
        axes.grid(alpha=0.3)
    save_plot(figure, __file__)


def main() -> None:
    costs()
    overflow()
    sparsity()
    saturation()
    depth()
    approximation()
    plot()


measure(main)
