"""Probes: how a gate looks at what a value alone does not show: gradients, the door, memory."""

from __future__ import annotations

import functools
import gc
import statistics
import sys
import threading
import timeit
import traceback
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from workshop.checks import NOTHING, CheckFailed, close, count, holds, plain


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers in float64, none closer to 0 than 0.05: away from the kink of ReLU and the pole of 1 / x."""
    values = np.random.default_rng(seed).normal(size=shape)
    return np.where(np.abs(values) < 0.05, 0.05, values)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers of at least 0.2, for logarithms and roots."""
    return np.asarray(np.abs(numbers(*shape, seed=seed)) + 0.2)  # NumPy makes a scalar of a sum of shape ()


def leaf(values: Any, dtype: Any = np.float64) -> Any:
    """A Tensor that requires a gradient."""
    from tinytorch import Tensor

    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


# Gradients


def gradients_match(
    function: Callable[..., Any],
    *arrays: np.ndarray,
    given: str,
    names: Sequence[str] = "xyzuvw",
    tolerance: float = 1e-6,
    eps: float = 1e-5,
) -> None:
    """The gradients of `function(*tensors)` equal central differences in float64, element by element.

    The upstream gradient is random, of size 0.5 to 2: an all-ones one hides a rule that ignores it. Counts one check
    per array.

    Args:
        function: takes Tensors, gives a Tensor.
        arrays: the values to differentiate at; kept away from kinks by the caller.
        names: a name per array, for the message.
    """
    arrays = tuple(np.array(array, dtype=np.float64) for array in arrays)
    tensors = [leaf(array) for array in arrays]
    result = function(*tensors)
    upstream = random_gradient(np.shape(plain(result)))
    result.backward(upstream)
    for name, tensor, expected in zip(names, tensors, differences(function, arrays, upstream, eps)):
        close(tensor.grad, expected, f"{name}.grad (central differences)", given, tolerance, dtype=np.float64)


def random_gradient(shape: tuple[int, ...]) -> np.ndarray:
    """A gradient of size 0.5 to 2 and either sign in each element, the same one each time."""
    random = np.random.default_rng(7)
    return random.uniform(0.5, 2, shape) * random.choice([-1.0, 1.0], shape)


def differences(
    function: Callable[..., Any], arrays: Sequence[np.ndarray], upstream: np.ndarray, eps: float = 1e-5
) -> Iterator[np.ndarray]:
    """For each of `arrays` the gradient of `function`'s result times `upstream`, by central differences."""
    from tinytorch import Tensor

    def value(*values: np.ndarray) -> float:
        return float(np.sum(plain(function(*map(Tensor, values))) * upstream))

    for position, array in enumerate(arrays):
        expected = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[index] = eps
            ends = (value(*arrays[:position], array + sign * step, *arrays[position + 1 :]) for sign in (1, -1))
            with unwatched():
                expected[index] = (next(ends) - next(ends)) / (2 * eps)
        yield expected


# The door


def through_door(
    function: Callable[[], Any], op: str, inputs: Sequence[Any], saved: Sequence[str] = (), given: str = ""
) -> None:
    """`function` returns its result through `result_of`, as operation `op` made from `inputs`, saving `saved`.

    Without it nothing could remember the operation, and stage 05 would find no way back through it.
    """
    expected = f'a result that is made by result_of("{op}", …)'
    name, sources, keep = at_the_door(function, given, op)
    if name != op:
        _refuse(given, expected, f'it was made by result_of("{name}", …)', f"door {name}")
    if len(sources) != len(inputs) or any(source is not tensor for source, tensor in zip(sources, inputs)):
        got = f"{len(sources)} inputs, not these" if len(sources) == len(inputs) else f"{len(sources)} inputs"
        _refuse(given, f"{expected} from the {len(inputs)} tensors themselves", got, got)
    missing = [word for word in saved if word not in keep]
    if missing:
        expected = f'result_of("{op}", …) saving {", ".join(f"{word}=…" for word in missing)} for the rule'
        _refuse(given, expected, f"saved: {', '.join(keep) or 'nothing'}", f"saved {sorted(keep)}")


def at_the_door(
    function: Callable[[], Any], given: str = "", op: str = "…"
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The name, the inputs and the saved values of the operation by which `function` came to its result."""
    from tinytorch.core.door import watch
    from tinytorch.core.tensor import plug_in

    calls: list[tuple[Any, ...]] = []
    before = plug_in(SimpleNamespace(record=lambda *call: None))  # the tape itself is not what is looked at
    try:
        with watch(lambda *call: calls.append(call)):  # told of results without inputs, or of other ones, too
            result = function()
    finally:
        plug_in(before)
    count.checks += 1
    for name, made, inputs, saved in calls:
        if made is result:
            return name, inputs, saved
    expected = f'a Tensor that is made by result_of("{op}", …)'
    if result is None:
        _refuse(given, expected, NOTHING, None)
    if plain(result) is result:
        _refuse(given, expected, f"no Tensor, but a {type(result).__name__}", f"a {type(result).__name__}")
    made = f"; result_of made another one, as {calls[-1][0]!r}" if calls else ", and result_of was not asked"
    _refuse(given, expected, f"a Tensor that result_of did not make{made}", "a Tensor, not through the door")


def _refuse(given: str, expected: str, got: str, seen: Any) -> Any:
    given = given or count.given
    raise CheckFailed([*([f"given     {given}"] if given else []), f"expected  {expected}", f"got       {got}"], seen)


# Memory


@contextmanager
def traced() -> Iterator[None]:
    """tracemalloc runs inside; garbage from before is gone, and afterwards it runs only if it ran before."""
    gc.collect()
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        with unwatched():  # the judge's notes take memory too
            yield
    finally:
        if not running:
            tracemalloc.stop()


def allocated(action: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that `action` allocates: at its height, and those that its result keeps."""
    action()  # what is allocated once, at the first call, is not counted
    with traced():
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = action()
        peak = tracemalloc.get_traced_memory()[1] - before
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
        del result
    return peak, kept


@contextmanager
def unwatched() -> Iterator[None]:
    """Inside, the judge does not note which functions are called: for what is measured, or takes many calls."""
    before, before_in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(before_in_threads)


def traces_after(action: Callable[[], Any], before: bool) -> bool:
    """Whether tracemalloc runs after `action`, if it did, or did not, `before`; then it is as it was at first."""
    first = tracemalloc.is_tracing()
    (tracemalloc.start if before else tracemalloc.stop)()
    try:
        action()
    finally:
        after = tracemalloc.is_tracing()
        (tracemalloc.start if first else tracemalloc.stop)()
    return after


class Counting(np.ndarray):
    """An array, as `x.view(Counting)`, that counts how often something is picked out of one: in `Counting.picked`."""

    picked = 0

    def __getitem__(self, index: Any) -> Any:
        Counting.picked += 1
        return super().__getitem__(index)


# Threads: what waits for good must end, and cost little


class Patience:
    """Seconds to wait for what takes hardly any time. After a wait in vain there is less of it."""

    seconds, least = 3.0, 0.5

    def in_vain(self) -> bool:
        self.seconds = max(self.seconds / 2, self.least)
        return False

    def ended(self, thread: threading.Thread) -> bool:
        thread.join(self.seconds)
        if thread.is_alive():
            self.in_vain()
        return not thread.is_alive()


patience = Patience()


def in_time(check: Callable[..., None]) -> Callable[..., None]:
    """The same check in a thread of its own: if that waits for good, it fails, and what comes after it is judged too.

    Threads that it starts are given time to end, so that what they call is noted for it, and not for the next one.
    """

    @functools.wraps(check)
    def limited(*arguments: Any) -> None:
        errors: list[BaseException] = []
        counted = [(count.checks, count.given)]

        def run() -> None:
            count.checks, count.given = counted[0]
            try:
                check(*arguments)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # or the generators in them would stay open
                errors.append(error)
            counted.append((count.checks, count.given))

        before = threading.enumerate()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        expected = "a batch, an error, or the word that there are no more"
        holds(patience.ended(thread), expected, "it waits, and nothing comes")
        count.checks, count.given = counted[-1]
        left_running(before)
        if errors:
            raise errors[0]

    return limited


def left_running(before: Iterable[threading.Thread]) -> int:
    """How many threads are alive that were not there before, after some patience."""
    new = [thread for thread in threading.enumerate() if thread not in before]
    return sum(not patience.ended(thread) for thread in new if thread is not threading.current_thread())


def pause() -> None:
    """Time in which a thread that is not held back would go on."""
    threading.Event().wait(0.03)


class Source:
    """An iterator over the numbers below `count`; notes which threads ask, and others can wait until it made some.

    Args:
        fails: the one that cannot be made.
        slow: whether each takes 10 ms.
    """

    def __init__(self, count: int, fails: int | None = None, slow: bool = False) -> None:
        self.count, self.fails, self.slow = count, fails, slow
        self.made, self.threads, self.more = 0, set(), threading.Condition()

    def __repr__(self) -> str:
        return f"Source({self.count}, fails={self.fails}, slow={self.slow})"

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.slow:
            threading.Event().wait(0.01)
        with self.more:
            self.threads.add(threading.current_thread())
            if self.made == self.fails:  # an error that cannot be made from a text alone
                raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "sample 417 is damaged")
            if self.made == self.count:
                raise StopIteration
            self.made += 1
            self.more.notify_all()
            return self.made - 1

    def has_made(self, number: int) -> bool:
        with self.more:
            return self.more.wait_for(lambda: self.made >= number, patience.seconds / 3) or patience.in_vain()


# Speed


def speed_up(slow: Callable[[], Any], fast: Callable[[], Any], rounds: int = 3) -> float:
    """How many times as fast `fast` is as `slow`: the median of so many rounds, unwatched."""
    with unwatched():
        ratios = [timeit.timeit(slow, number=1) / (timeit.timeit(fast, number=3) / 3) for _ in range(rounds)]
    return statistics.median(ratios)
