"""What the seams cost when nobody uses them: the door that can be watched, and the backend that can be exchanged.

python benchmarks/seams.py        on the reference in solutions/

Each is timed beside the code without it, in turns, in one run: the door as it was before anybody could watch it, and
before every thread had a memory of its own; and `np.matmul`, called directly. Returns 1 if a seam costs more than is
asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "solutions"), str(ROOT)]

import numpy as np

from benchmarks.pairs import Case, Side, measure, turn
from tinytorch.config import get_backend
from tinytorch.core import autograd
from tinytorch.core.tensor import Tensor, result_of

CALLS = 5_000  # in one run, so that the clock counts for nothing
DOOR = 1.05  # the most that the door may take of the time that it took before; what is above 1 is for the clock's noise
MICROSECONDS = 0.2  # the most that a product may take longer, asked from the backend

tape, on = autograd, True


def door_before(op: Any, data: np.ndarray, *inputs: Tensor, **saved: Any) -> Tensor:
    """`result_of` without watchers, and with one memory for the whole process."""
    result = Tensor.__new__(Tensor)
    result.data = np.asarray(data)
    result.requires_grad, result._grad, result.grad_fn = False, None, None
    if tape is not None and on and any(tensor.requires_grad for tensor in inputs):
        try:
            tape.record(op, result, inputs, saved)
        except NotImplementedError:
            pass
    return result


def door_case(name: str, *inputs: Tensor) -> Case:
    """The door now and before, for the same operation."""
    data = np.ones((2, 2), np.float32)

    def calls(door: Callable[..., Tensor]) -> Side:
        def run() -> None:
            for _ in range(CALLS):
                door("Add", data, *inputs)

        return Side(run)

    def difference() -> float:
        now, before = (door("Add", data, *inputs) for door in (result_of, door_before))
        return float(now.requires_grad != before.requires_grad or type(now.grad_fn) is not type(before.grad_fn))

    return Case(f"the door, {name}", calls(result_of), calls(door_before), difference, DOOR, "the door before", 15)


def door_cases() -> list[Case]:
    """With and without a gradient that somebody wants; and `detach`, which has no inputs."""
    quiet, wanted = Tensor([1.0]), Tensor([1.0], requires_grad=True)
    return [
        door_case("no gradient wanted", quiet, quiet),
        door_case("a gradient wanted", quiet, wanted),
        door_case("no inputs"),
    ]


def asking() -> tuple[float, float]:
    """Microseconds of a product, asked from the backend and called directly; small, so that asking is not hidden.

    The fastest turn of each: a difference of two times suffers more from other work on the machine than a ratio.
    """
    a = np.ones((2, 2), np.float32)

    def asked() -> None:
        for _ in range(CALLS):
            get_backend().matmul(a, a)

    def direct() -> None:
        for _ in range(CALLS):
            np.matmul(a, a)

    turns = [(turn(Side(asked)), turn(Side(direct))) for _ in range(20)]
    ours, theirs = (1e6 * min(times) / CALLS for times in zip(*turns))
    return ours, theirs


def main() -> int:
    """Measure, show, judge."""
    too_slow = 0
    for case in door_cases():
        row = measure(case)
        low, middle, high = row["ratio"]
        ours, theirs = (row[side][1] / CALLS * 1000 for side in ("ours", "theirs"))
        print(f"{case.name:32}{ours:7.3f} µs, before {theirs:.3f} µs: ratio {middle:.2f} ({low:.2f} to {high:.2f})")
        too_slow += middle > DOOR
    ours, theirs = asking()
    print(f"{'get_backend().matmul':32}{ours:7.3f} µs, np.matmul {theirs:.3f} µs: {ours - theirs:.3f} µs more a call")
    too_slow += ours - theirs >= MICROSECONDS
    print(f"asked: the door at most {DOOR} times as long as before, a product less than {MICROSECONDS} µs longer")
    return 1 if too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
