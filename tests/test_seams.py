"""The seams of stage 01: watchers at the door, memory for each thread, and the backend that computes products."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from warm import run_python

from milestones.models import cnn
from workshop.author.mistakes import scratch_package
from workshop.author.package import assemble, reference
from workshop.course import load_course


def in_package(numbers: set[int], code: str, extra: dict[str, str] | None = None) -> str:
    """What `code` prints with these stages of the reference, and with the files of `extra`."""
    files = assemble(load_course(ROOT), reference(ROOT), numbers, ()) | (extra or {})
    with scratch_package(files) as folder:
        done = run_python("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_thread(action: Callable[[], Any]) -> Any:
    """What `action` returns in a thread of its own."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


def leaf(tt: ModuleType) -> Any:
    return tt.Tensor([1.0, 2.0], requires_grad=True)


# Watchers


def cnn_step(tt: ModuleType) -> Callable[[], Any]:
    """A forward pass of a small CNN and its loss."""
    blocks = [
        tt.Conv2d(3, 4, 3, padding=1),
        tt.BatchNorm2d(4),
        tt.ReLU(),
        tt.MaxPool2d(2),
        tt.Conv2d(4, 2, 3),
        tt.ReLU(),
    ]
    model, loss = tt.Sequential(*blocks, tt.Flatten(), tt.Linear(8, 5)), tt.CrossEntropyLoss()
    images = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    return lambda: loss(model(tt.Tensor(images)), tt.Tensor([0, 1, 2, 3, 4, 0]))


BLOCKS = {"Conv2d": 2, "BatchNorm2d": 1, "ReLU": 2, "MaxPool2d": 1, "Reshape": 1}
STEP = BLOCKS | {"Matmul": 1, "Add": 1, "LogSoftmax": 1, "CrossEntropy": 1}


def test_three_lines_count_the_operations_of_a_cnn(tt: ModuleType) -> None:
    step = cnn_step(tt)
    counts: Counter[str] = Counter()
    with tt.watch(lambda name, *_: counts.update([name])):
        step().backward()
    assert counts == STEP


def test_a_counting_backend_sees_all_of_milestone_3s_model(tt: ModuleType) -> None:
    """Every product and convolution, forward and backward, without a changed line in the model."""
    counts: Counter[str] = Counter()

    class Counting(type(tt.get_backend())):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                counts.update([name])
            return super().__getattribute__(name)

    model, loss = cnn(tt), tt.CrossEntropyLoss()
    images = tt.Tensor(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    before = tt.set_backend(Counting())
    try:
        loss(model(images), tt.Tensor([3, 7])).backward()
    finally:
        tt.set_backend(before)
    assert counts == {"conv2d": 3, "conv2d_input_gradient": 2, "conv2d_weight_gradient": 3, "matmul": 3}


def test_operations_are_seen_without_memory_too(tt: ModuleType) -> None:
    step = cnn_step(tt)
    counts: Counter[str] = Counter()
    with tt.watch(lambda name, *_: counts.update([name])), tt.no_grad():
        assert not step().requires_grad
    assert counts == STEP


def test_what_a_watcher_is_told(tt: ModuleType) -> None:
    """Name, result, inputs and saved; the result is already remembered; `detach` is no operation."""
    x, calls = leaf(tt), []
    with tt.watch(lambda *call: calls.append(call)):
        result = x.sum(axis=0)
        x.detach()
    ((name, told, inputs, saved),) = calls
    assert name == "Sum" and told is result and len(inputs) == 1 and inputs[0] is x
    assert saved == {"axis": 0, "keepdims": False} and type(told.grad_fn).__name__ == "SumBackward"


def test_an_operation_of_ones_own_goes_by_its_name(tt: ModuleType) -> None:
    class TwiceBackward(tt.Function):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return 2 * x

    names: list[str] = []
    with tt.watch(lambda name, *_: names.append(name)):
        TwiceBackward.apply(tt.Tensor([1.0]))
    del tt.RULES["TwiceBackward"]
    assert names == ["Twice"]


def test_watching_ends_with_its_block(tt: ModuleType) -> None:
    first: list[str] = []
    second: list[str] = []
    with tt.watch(lambda name, *_: first.append(name)):
        with pytest.raises(ZeroDivisionError), tt.watch(lambda name, *_: second.append(name)):
            leaf(tt).exp()
            raise ZeroDivisionError
        leaf(tt).log()
    leaf(tt).sum()
    assert (first, second) == (["Exp", "Log"], ["Exp"])


def test_the_tape_works_beside_watchers(tt: ModuleType) -> None:
    x = leaf(tt)
    with tt.watch(lambda *_: None):
        (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_the_benchmark_compares_equals() -> None:
    """`benchmarks/seams.py` times the door beside the one before, with the same results."""
    code = "from benchmarks.seams import door_cases; print([case.difference() for case in door_cases()])"
    done = run_python("-c", code, cwd=ROOT)
    assert done.stdout.strip() == "[0.0, 0.0, 0.0]", done.stderr


# Memory


def test_memory_is_each_threads_own(tt: ModuleType) -> None:
    with tt.no_grad():
        assert not leaf(tt).exp().requires_grad
        assert in_thread(lambda: leaf(tt).exp().requires_grad)
    entered, finished = threading.Event(), threading.Event()

    def forgetful() -> None:
        with tt.no_grad():
            entered.set()
            finished.wait(10)

    thread = threading.Thread(target=forgetful)
    thread.start()
    entered.wait(10)
    remembered = leaf(tt).exp().requires_grad
    finished.set()
    thread.join()
    assert remembered


def test_a_dataset_without_memory_leaves_the_training_its_own(tt: ModuleType) -> None:
    """While a thread reads ahead, and is inside no_grad, a forward pass of the loop is remembered."""
    inside, checked = threading.Event(), threading.Event()

    class Forgetful(tt.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            with tt.no_grad():
                if index == 1:
                    inside.set()
                    checked.wait(10)
                return (np.exp([float(index)]),)

    batches = iter(tt.DataLoader(Forgetful(), 1, prefetch=1))
    next(batches)
    assert inside.wait(10)
    remembered = leaf(tt).exp().requires_grad
    checked.set()
    assert len(list(batches)) == 3 and remembered


# Backends


class Counting:
    """Counts what is asked from another backend."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.calls = inner, Counter()

    def __getattr__(self, name: str) -> Any:
        def kernel(*arguments: Any) -> Any:
            self.calls[name] += 1
            return getattr(self.inner, name)(*arguments)

        return kernel


@pytest.fixture
def counting(tt: ModuleType) -> Iterator[Counting]:
    """A backend in use that counts; afterwards the one before is in use again."""
    backend = Counting(tt.get_backend())
    before = tt.set_backend(backend)
    assert before is backend.inner
    yield backend
    assert tt.set_backend(before) is backend


def test_a_product_is_asked_from_the_backend(tt: ModuleType, counting: Counting) -> None:
    model = tt.Sequential(tt.Linear(2, 3), tt.ReLU(), tt.Linear(3, 1))
    result = model(tt.Tensor([[1.0, 2.0]]))
    assert result.shape == (1, 1) and counting.calls == {"matmul": 2}


def test_a_backend_by_name(tt: ModuleType) -> None:
    mine = SimpleNamespace(matmul=lambda a, b: np.full((1, 1), 7.0))
    tt.register_backend("mine", mine)
    before = tt.set_backend("mine")
    try:
        assert tt.get_backend() is mine
        assert (tt.Tensor([[1.0]]) @ tt.Tensor([[2.0]])).item() == 7.0
    finally:
        assert tt.set_backend("numpy") is mine
    assert tt.get_backend() is before


def test_what_is_no_backend(tt: ModuleType) -> None:
    before = tt.get_backend()
    with pytest.raises(ValueError, match="no backend 'nothing': there are .*numpy"):
        tt.set_backend("nothing")
    for wrong in (None, 3, type(before)):
        with pytest.raises(TypeError, match="expected a backend"):
            tt.set_backend(wrong)
    assert tt.get_backend() is before


def test_what_a_backend_leaves_out() -> None:
    code = """
from tinytorch.backends import ComputeBackend
class Small(ComputeBackend): pass
for method, arguments in (("matmul", 2), ("conv2d", 5), ("conv2d_input_gradient", 6), ("conv2d_weight_gradient", 6)):
    try:
        getattr(Small(), method)(*range(arguments))
    except TypeError as error:
        print(error)
"""
    names = ("matmul", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient")
    assert in_package({1}, code).splitlines() == [f"Small defines no {name}" for name in names]


def test_convolution_arrives_in_stage_09() -> None:
    code = """
from tinytorch import get_backend
from tinytorch.backends import provide
for name in ("conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"):
    try:
        getattr(get_backend(), name)(1, 2)
    except RuntimeError as error:
        assert f"{name} arrives in stage 09" in str(error), error
    provide(name, lambda *arguments, name=name: (name, arguments))
    print(getattr(get_backend(), name)(1, 2))
"""
    names = ("conv2d", "conv2d_input_gradient", "conv2d_weight_gradient")
    assert in_package({1}, code).splitlines() == [str((name, (1, 2))) for name in names]


def test_a_backend_of_a_later_stage_is_found_by_its_name() -> None:
    """Its file registers itself when it is imported, and a name that nobody knows yet imports it."""
    late = """
from tinytorch.backends import ComputeBackend
from tinytorch.config import register_backend

class Late(ComputeBackend):
    def matmul(self, a, b):
        return a @ b + 1

register_backend("late", Late())
"""
    code = """
import tinytorch as tt
tt.set_backend("late")
print(tt.get_backend(), (tt.Tensor([[1.0]]) @ tt.Tensor([[2.0]])).item())
"""
    assert in_package({1}, code, {"tinytorch/backends/late.py": late}) == "Late() 3.0"
