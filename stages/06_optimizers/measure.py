"""Measures what stage 06's lesson tells: what optimizers remember, what a step costs, and where it leads.

tox -e measure06
"""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import SGD, AdamW, Optimizer, Tensor
from tinytorch.systems.optimizers import (
    bias_steps,
    decay_against_l2,
    decay_half_life,
    state_bytes,
    training_bytes,
)

Maker = Callable[..., Optimizer]
KINDS: dict[str, Maker] = {
    "SGD(momentum=0)": lambda ps, **more: SGD(ps, momentum=0.0, **more),
    "SGD(momentum=0.9)": lambda ps, **more: SGD(ps, momentum=0.9, **more),
    "AdamW()": lambda ps, **more: AdamW(ps, **more),
}


def with_gradient(shape: tuple[int, ...]) -> Tensor:
    random = np.random.default_rng(0)
    parameter = Tensor(random.normal(size=shape).astype(np.float32), requires_grad=True)
    parameter.grad = random.normal(size=shape).astype(np.float32)
    return parameter


def memory() -> None:
    print("1,000,000 parameters, float32, 4.0 MB: what training them takes")
    print(f"{'':20}{'state':>10}{'(traced)':>10}{'with parameters and gradients':>31}{'a step needs for a moment':>27}")
    for name, make in KINDS.items():
        parameter = with_gradient((1000, 1000))
        optimizer = make([parameter])
        planned = training_bytes(optimizer)
        tracemalloc.start()
        optimizer.step()
        traced = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        optimizer.step()
        moment = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
        print(
            f"{name:20}{state_bytes(optimizer) / 1e6:>7.1f} MB{traced / 1e6:>7.1f} MB"
            f"{planned / 1e6:>28.1f} MB{moment / 1e6:>24.1f} MB"
        )


def speed() -> None:
    print("\nTime of a step, float32; beside it that of copying the parameters once")
    print(f"{'parameters':>12}{'copy':>12}" + "".join(f"{name:>20}" for name in KINDS))
    for shape in ((100, 100), (784, 128), (1000, 1000), (3000, 1000)):
        parameter = with_gradient(shape)
        target = np.empty_like(parameter.data)
        row = f"{parameter.size:>12,}{seconds(lambda: np.copyto(target, parameter.data)) * 1e6:>9.0f} µs"
        for make in KINDS.values():
            optimizer = make([parameter], lr=1e-6)
            optimizer.step()
            row += f"{seconds(optimizer.step) * 1e6:>17.0f} µs"
        print(row)


Way = list[np.ndarray]


def descend(make: Maker, lr: float, steep: float, steps: int) -> Way:
    """The way down the valley (x² + steep · y²) / 2 from (-4, 1)."""
    place = Tensor(np.array([-4.0, 1.0]), requires_grad=True)
    optimizer, way = make([place], lr=lr), [np.array([-4.0, 1.0])]
    for _ in range(steps):
        place.grad = np.array([1.0, steep]) * place.data
        optimizer.step()
        way.append(place.data.copy())
    return way


def heights(way: Way, steep: float) -> np.ndarray:
    x, y = np.array(way).T
    return np.nan_to_num((x**2 + steep * y**2) / 2, nan=np.inf)


def steps_down(make: Maker, lr: float, steep: float) -> int:
    """Steps until the height stays below 0.001."""
    with np.errstate(all="ignore"):  # too large a rate goes up the other side, higher each time
        high = np.flatnonzero(heights(descend(make, lr, steep, 600), steep) >= 1e-3)
    return int(high[-1]) + 1


def valley() -> dict[str, Way]:
    """Prints the table; returns for each kind the way down the steeper valley with its best learning rate."""
    print("\nDown a valley, height (x² + steep · y²) / 2, from (-4, 1), each with the best of several learning rates")
    print(f"{'':20}{'steep = 20':>28}{'steep = 200':>28}{'height after 10':>20}{'30':>12}{'100 steps':>12}")
    kinds = {**KINDS, "AdamW()": lambda ps, **more: AdamW(ps, weight_decay=0.0, **more)}
    ways = {}
    for name, make in kinds.items():
        row = f"{name:20}"
        for steep in (20.0, 200.0):
            rates = [share / steep for share in (0.2, 0.5, 1.0, 1.8)] + [0.2, 0.3, 0.5]
            lr = min(rates, key=lambda rate: steps_down(make, rate, steep))
            row += f"{steps_down(make, lr, steep):>10} steps, lr {lr:5.3f}"
        ways[f"{name}, lr {lr:.3f}"] = descend(make, lr, steep, 60)
        high = heights(descend(make, lr, steep, 100), steep)
        print(f"{row}{high[10]:>20.5f}{high[30]:>12.5f}{high[100]:>12.5f}")
    return ways


def bias() -> None:
    print("\nRunning means that start at 0, when every gradient is 1; length of AdamW's step without correction")
    print(f"{'step':>6}{'mean':>10}{'√square':>10}{'their ratio, times lr':>24}{'with correction':>18}")
    for t in (1, 2, 5, 10, 100, 1000, 10000):
        mean, root = 1 - 0.9**t, (1 - 0.999**t) ** 0.5
        print(f"{t:>6}{mean:>10.4f}{root:>10.4f}{mean / root:>24.2f}{1:>18.2f}")
    print(
        f"true to 1 %: the mean (β = 0.9) from step {bias_steps(0.9, 0.01)}, "
        f"the square (β = 0.999) from {bias_steps(0.999, 0.01)}"
    )


def decay() -> None:
    print("\nA weight that starts at 1, 2000 steps, random gradients around 0, lr 0.001, weight_decay 0.5")
    print(f"{'size of gradients':>18}{'AdamW decay':>14}{'L2 penalty':>14}")
    for scale in (0.01, 0.1, 1.0, 10.0):
        ends = []
        for seed in range(8):
            gradients = np.random.default_rng(seed).normal(size=2000) * scale
            ends.append(decay_against_l2(gradients.tolist(), 1.0, 0.001, 0.5))
        decoupled, penalty = np.mean(ends, axis=0)
        print(f"{scale:>18.2f}{decoupled:>14.3f}{penalty:>14.3f}")
    print(
        f"by decay alone it would be {(1 - 0.001 * 0.5) ** 2000:.3f}; "
        f"it halves every {decay_half_life(0.001, 0.5)} steps"
    )


def plot(ways: dict[str, Way]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), sharey=True, layout="constrained")
    x, y = np.meshgrid(np.linspace(-4.5, 2, 200), np.linspace(-1.3, 1.3, 200))
    for axis, (name, way) in zip(axes, ways.items()):
        axis.contour(x, y, np.sqrt((x**2 + 200 * y**2) / 2), 14, colors="lightgray", linewidths=0.8)
        axis.plot(*zip(*way), ".-", linewidth=1, color="tab:blue")
        axis.plot(0, 0, "*", color="tab:red", markersize=12)
        axis.set(title=f"{name}: 60 steps", xlabel="x, the flat direction", xlim=(-4.5, 2), ylim=(-1.3, 1.3))
    axes[0].set_ylabel("y, 200 times as steep")
    save_plot(figure, __file__)


def main() -> None:
    memory()
    speed()
    ways = valley()
    bias()
    decay()
    plot(ways)


measure(main)
