"""Measures what stage 01's lesson tells: the cost of memory, of its order, and of operations, on your package.

tox -e measure01
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, peak_bytes, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import Tensor
from tinytorch.systems.tensor import broadcast_bytes, cache_lines, kept_bytes, matmul_flops

random = np.random.default_rng(0)


def views() -> None:
    x = Tensor(np.zeros((1000, 1000), np.float32))
    made = {
        "x.T": lambda: x.T,
        "x[::2]": lambda: x[::2],
        "x[:, 0]": lambda: x[:, 0],
        "x.reshape(500, 2000)": lambda: x.reshape(500, 2000),
        "x.T.reshape(500, 2000)": lambda: x.T.reshape(500, 2000),
        "x[[0, 1, 2]]": lambda: x[[0, 1, 2]],
        "x + 1.0": lambda: x + 1.0,
    }
    print("Views and copies. x is (1000, 1000) float32, 4000 kB, strides (4000, 4)")
    print(f"{'':24}{'shape':>14}{'strides':>14}{'new memory':>14}{'keeps alive':>14}")
    for name, action in made.items():
        y = action()
        new, kept = peak_bytes(action) / 1000, kept_bytes(y) / 1000
        print(f"{name:24}{str(y.shape):>14}{str(y.data.strides):>14}{new:>11.0f} kB{kept:>11.0f} kB")


def traversal() -> None:
    n = 4096
    x = Tensor(np.zeros((n, n), np.float32))
    walks = {
        "along rows": (True, lambda: [x[i].sum() for i in range(n)]),
        "down columns": (False, lambda: [x[:, i].sum() for i in range(n)]),
    }
    print(f"\nSumming a ({n}, {n}) float32 tensor, 64 MB, slice by slice")
    print(f"{'':24}{'time':>14}{'cache lines':>14}")
    for name, (by_rows, walk) in walks.items():
        fetches = cache_lines(256, n, 4, by_rows) / (256 * n)
        print(f"{name:24}{seconds(walk) * 1e3:>11.0f} ms{fetches:>14.4f} for each element")


def naive_matmul(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    """The definition, in three loops."""
    result = [[0.0] * len(b[0]) for _ in a]
    for i in range(len(a)):
        for j in range(len(b[0])):
            for k in range(len(b)):
                result[i][j] += a[i][k] * b[k][j]
    return result


def products() -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Prints the table; returns (n, seconds) of the three loops, and of matmul."""
    loops, blas = [], []
    print("\n(n, n) @ (n, n), float32: three Python loops against matmul")
    print(f"{'n':>6}{'FLOPs':>16}{'loops':>14}{'':>16}{'matmul':>14}")
    for n in (16, 32, 64, 128, 256, 512, 1024):
        a, b = random.random((n, n), np.float32), random.random((n, n), np.float32)
        x, y, flops = Tensor(a), Tensor(b), matmul_flops((n, n), (n, n))
        x @ y  # the first product starts the library's threads
        blas.append((n, seconds(lambda: x @ y)))
        row = f"{n:>6}{flops:>16,}"
        if n <= 128:
            rows, columns = a.tolist(), b.tolist()
            loops.append((n, seconds(lambda: naive_matmul(rows, columns))))
            row += f"{loops[-1][1] * 1e3:>11.2f} ms{flops / loops[-1][1] / 1e9:>8.3f} GFLOP/s"
        else:
            row += f"{'':>30}"
        print(f"{row}{blas[-1][1] * 1e3:>11.3f} ms{flops / blas[-1][1] / 1e9:>8.1f} GFLOP/s")
    print(
        f"at n = 128 matmul is {loops[-1][1] / blas[3][1]:,.0f} times as fast; "
        f"from n = 64 to 128 the loops took {loops[-1][1] / loops[-2][1]:.1f} times as long"
    )
    return loops, blas


def dtypes() -> None:
    print("\nOne dtype or another: a (512, 512) tensor, and its product with itself")
    print(f"{'':12}{'bytes':>14}{'x @ x':>14}{'x + x':>14}")
    for dtype in ("float32", "float64", "int64"):
        x = Tensor(random.integers(0, 9, (512, 512)), dtype=dtype)
        product, total = seconds(lambda: x @ x), seconds(lambda: x + x)
        print(f"{dtype:12}{x.data.nbytes:>14,}{product * 1e3:>11.2f} ms{total * 1e3:>11.3f} ms")


def broadcasting() -> None:
    x = Tensor(random.random((2000, 2000), np.float32))
    print("\nBroadcasting: x + y, x (2000, 2000) float32; memory at the height of it, result included")
    print(f"{'y':14}{'saved':>14}{'broadcast':>14}{'':>14}{'stretched by a copy first':>28}")
    for shape in ((2000,), (2000, 1), ()):
        y = Tensor(random.random(shape, np.float32))
        stretched = lambda: x + Tensor(np.broadcast_to(y.data, x.shape))
        row = f"{str(shape):14}{broadcast_bytes(x, y) / 1e6:>11.1f} MB"
        for action in (lambda: x + y, stretched):
            row += f"{peak_bytes(action) / 1e6:>11.1f} MB{seconds(action) * 1e3:>11.2f} ms"
        print(row)


def door() -> None:
    print("\nWhat an operation costs beside its numbers: a + b")
    print(f"{'elements':>12}{'arrays':>14}{'Tensors':>14}")
    for n in (1, 1_000, 1_000_000):
        a, b = random.random(n, np.float32), random.random(n, np.float32)
        x, y, times = Tensor(a), Tensor(b), max(3, 30_000 // n)
        arrays = seconds(lambda: [a + b for _ in range(times)]) / times
        tensors = seconds(lambda: [x + y for _ in range(times)]) / times
        print(f"{n:>12,}{arrays * 1e6:>11.2f} µs{tensors * 1e6:>11.2f} µs")


def plot(loops: list[tuple[int, float]], blas: list[tuple[int, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    sizes = np.array([n for n, _ in blas])
    axes.loglog(*zip(*loops), "o-", label="three Python loops")
    axes.loglog(*zip(*blas), "s-", label="Tensor.matmul (BLAS)")
    axes.loglog(sizes, loops[-1][1] * (sizes / 128) ** 3, "--", color="gray", label="n³, through the loops' last point")
    axes.set(title="The same product, the same n³ multiplications", xlabel="n, for (n, n) @ (n, n)", ylabel="seconds")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    save_plot(figure, __file__)


def main() -> None:
    views()
    traversal()
    loops, blas = products()
    dtypes()
    broadcasting()
    door()
    plot(loops, blas)


measure(main)
