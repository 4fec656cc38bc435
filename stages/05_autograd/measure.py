"""Measures what stage 05's lesson tells: what remembering costs in memory and time, and what computing again saves.

tox -e measure05
"""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import Linear, Tanh, Tensor, checkpoint, no_grad
from tinytorch.systems.autograd import best_segment, count_paths, graph_bytes, in_halves, in_segments, nested_calls

random = np.random.default_rng(0)
Layers = list[Callable[[Tensor], Tensor]]


def seconds_back(make: Callable[[], Tensor], gradient: np.ndarray, budget: float = 0.15) -> float:
    """The time of backward alone, on a graph that `make` makes anew each time; the fastest run, as above."""
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - started < budget:
        result = make()
        start = time.perf_counter()
        result.backward(gradient)
        times.append(time.perf_counter() - start)
    return min(times)


def memory(action: Callable[[], Tensor]) -> tuple[int, int]:
    """Bytes that stay allocated while the result of `action` lives, and bytes at the height of it."""
    gc.collect()
    tracemalloc.start()
    result = action()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return kept, peak


def leaf(*shape: int) -> Tensor:
    return Tensor(random.normal(size=shape).astype(np.float32), requires_grad=True)


def layers(count: int, width: int) -> Layers:
    """tanh(x @ weight + bias), `count` times."""
    linears = [Linear(width, width) for _ in range(count)]
    return [lambda x, linear=linear: Tanh().forward(linear(x)) for linear in linears]


def run(parts: Layers, x: Tensor) -> Tensor:
    for part in parts:
        x = part(x)
    return x


def depth() -> None:
    x = leaf(256, 256)
    print("What the graph keeps: layers of tanh(x @ weight + bias), activations (256, 256) float32 of 262 kB")
    print(f"{'layers':>8}{'no_grad':>12}{'remembered':>14}{'graph_bytes':>14}{'after backward':>17}")
    for count in (1, 4, 16, 32):
        parts = layers(count, 256)

        def forgotten(parts: Layers = parts) -> Tensor:
            with no_grad():
                return run(parts, x)

        def spent(parts: Layers = parts) -> Tensor:
            result = run(parts, x).sum()
            result.backward()
            for tensor in (x, *(cell for part in parts for cell in part.__defaults__[0].parameters())):
                tensor.grad = None
            return result

        kept = [memory(action)[0] / 1000 for action in (forgotten, lambda: run(parts, x), spent)]
        predicted = graph_bytes(run(parts, x)) / 1000
        print(f"{count:>8}{kept[0]:>9.0f} kB{kept[1]:>11.0f} kB{predicted:>11.0f} kB{kept[2]:>14.0f} kB")


def overhead() -> None:
    print("\nWhat an operation costs: 200 times y = y * x, of so many elements each, time for one of them")
    print(f"{'elements':>10}{'arrays':>12}{'no_grad':>12}{'remembered':>14}{'backward':>12}")
    for size in (1, 1_000, 10_000):
        x, ones = Tensor(np.ones(size, np.float32), requires_grad=True), np.ones(size, np.float32)

        def chain(x: Tensor | np.ndarray = x) -> Tensor | np.ndarray:
            y = x
            for _ in range(200):
                y = y * x
            return y

        with no_grad():
            forgotten = seconds(chain)
        times = [seconds(lambda: chain(ones)), forgotten, seconds(chain), seconds_back(chain, ones)]
        print(f"{size:>10,}" + "".join(f"{t / 200 * 1e6:>{width}.2f} µs" for t, width in zip(times, (9, 9, 11, 9))))


def products() -> None:
    print("\nA matrix product goes forward once and backward twice: (512, 512) @ (512, 512)")
    x, weight, ones = leaf(512, 512), leaf(512, 512), np.ones((512, 512), np.float32)
    data = x.detach()
    forward = seconds(lambda: data.data @ weight.data, 0.4)
    print(f"{'forward':28}{forward * 1e3:>8.2f} ms{1:>8.1f} times forward")
    for name, left in (("backward, both gradients", x), ("backward, the weight's alone", data)):
        x.grad = weight.grad = None
        back = seconds_back(lambda left=left: left @ weight, ones, 0.4)
        print(f"{name:28}{back * 1e3:>8.2f} ms{back / forward:>8.1f} times forward")


def by_paths(tensor: Tensor, gradient: np.ndarray) -> None:
    """The engine that comes to mind first: it follows every path by itself, by recursion."""
    answers = tensor.grad_fn.backward(gradient)
    for source, answer in zip(tensor.grad_fn.inputs, answers):
        if source.grad_fn is None:
            source.grad = answer if source.grad is None else source.grad + answer
        else:
            by_paths(source, answer)


def tower(height: int) -> Tensor:
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(height):
        y = y + y
    return y


def towers() -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Prints the table; returns (height, seconds) of the engine, and of the walk along all paths."""
    engine, walks = [], []
    print("\nMany paths: so many times y = y + y")
    print(f"{'height':>8}{'paths':>28}{'backward()':>14}{'path by path':>16}")
    for height in (4, 8, 12, 16, 60):
        ones = np.ones(1, np.float32)
        engine.append((height, seconds_back(lambda: tower(height), ones, 0.05)))
        row = f"{height:>8}{count_paths(tower(height)):>28,}{engine[-1][1] * 1e3:>11.3f} ms"
        if height <= 16:
            y = tower(height)
            walks.append((height, seconds(lambda: by_paths(y, ones), 0.02)))
            row += f"{walks[-1][1] * 1e3:>13.3f} ms"
        print(row)
    years = walks[-1][1] * 2.0 ** (60 - 16) / (365 * 24 * 3600)
    print(f"path by path, a tower of 60 would take about {years:.0f} years")
    return engine, walks


def chains() -> None:
    print("\nLong chains: so many times y = y + x")
    print(f"{'length':>8}{'backward()':>14}{'for one Function':>20}")
    for length in (1_000, 5_000, 20_000):

        def chain(length: int = length) -> Tensor:
            x = y = Tensor([1.0], requires_grad=True)
            for _ in range(length):
                y = y + x
            return y

        back = seconds_back(chain, np.ones(1, np.float32))
        print(f"{length:>8,}{back * 1e3:>11.1f} ms{back / length * 1e6:>17.2f} µs")


def trade() -> tuple[int, float, list[tuple[int, float]]]:
    """Prints the table; returns the number of layers, the plain peak and (segment, peak) in MB."""
    count, parts, x, ones = 64, layers(64, 64), leaf(1024, 64), np.ones((1024, 64), np.float32)
    calls = [0]

    def counted(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            calls[0] += 1
            return part(x)

        return call

    counting = [counted(part) for part in parts]
    plans: dict[str, Callable[[], Tensor]] = {"no checkpoint": lambda: run(counting, x)}
    segments = (1, 2, 4, best_segment(count), 16, 32, 64)
    plans |= {f"segments of {n}": lambda n=n: in_segments(counting, n, x) for n in segments}
    plans["halves of halves"] = lambda: in_halves(counting, x)
    print(f"\nComputing again: {count} layers, activations (1024, 64) of 262 kB, forward and backward")
    print(f"{'':20}{'peak memory':>14}{'calls of layers':>18}{'time':>12}")
    peaks = []
    for name, plan in plans.items():

        def step(plan: Callable[[], Tensor] = plan) -> Tensor:
            result = plan()
            result.backward(ones)
            return result

        step()  # the parameters' gradients are there from now on, and are not counted
        calls[0] = 0
        peaks.append(memory(step)[1] / 1e6)
        print(f"{name:20}{peaks[-1]:>11.1f} MB{calls[0]:>18}{seconds(step, 0.8) * 1e3:>9.0f} ms")
    print(f"nested_calls({count}) = {nested_calls(count)}")
    return count, peaks[0], list(zip(segments, peaks[1:-1]))


def plot(
    engine: list[tuple[int, float]], walks: list[tuple[int, float]], trade: tuple[int, float, list[tuple[int, float]]]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.semilogy(*zip(*walks), "o-", label="path by path")
    left.semilogy(*zip(*engine), "s-", label="backward()")
    left.set(title="A tower of y = y + y", xlabel="height", ylabel="seconds")
    count, plain, peaks = trade
    right.semilogx(*zip(*peaks), "o-", label="checkpoints")
    right.axhline(plain, color="gray", linestyle="--", label="no checkpoint")
    right.axvline(count**0.5, color="gray", linestyle=":", label="√64")
    right.set_xticks([n for n, _ in peaks], [str(n) for n, _ in peaks])
    right.minorticks_off()
    right.set(
        title=f"{count} layers, forward and backward",
        xlabel="layers in a segment",
        ylabel="peak memory, MB",
        ylim=(0, None),
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    save_plot(figure, __file__)


def main() -> None:
    checkpoint(lambda x: x, leaf(1)).backward()  # says at once if the stage is not written yet
    depth()
    overhead()
    products()
    engine, walks = towers()
    chains()
    plot(engine, walks, trade())


measure(main)
