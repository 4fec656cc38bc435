"""Stage 09's reference, seen from outside its gate: PyTorch's own numbers, speed, memory, threads."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from conftest import ROOT
from warm import run_python

from workshop.author.mistakes import Bench
from workshop.course import load_course

START = """
import json, sys
import numpy as np
from tinytorch import AvgPool2d, BatchNorm2d, Conv2d, MaxPool2d, Tensor, conv2d_naive

def wave(*shape, step):
    return np.sin(step * np.arange(np.prod(shape))).reshape(shape)

def leaf(array):
    return Tensor(np.array(array, np.float64), requires_grad=True)

def moment(array):  # one number that no two arrays share by chance
    return float((array * wave(*array.shape, step=0.77)).sum())
"""


def in_reference(code: str) -> Any:
    """What `code`, with the helpers above, hands to `json.dumps`, in a process with one BLAS thread, as milestones."""
    settings = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = run_python("-c", START + code, cwd=ROOT / "solutions", environment=settings)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Moments of out, x.grad, weight.grad and bias.grad, from torch 2.13.0 on the CPU in float64, by the same waves:
#   x, w, b = wave(2, C, 7, 6, step=.37), wave(O, C // groups, K, K, step=.61), wave(O, step=.9)
#   y = torch.nn.functional.conv2d(x, w, b, stride, padding, groups=groups); y.backward(wave(*y.shape, step=.23))
CONVOLUTIONS = {  # (kernel, stride, padding, groups, channels in, out): shape, moments
    (1, 1, 0, 1, 2, 2): ([2, 2, 7, 6], [1.699341286, 1.5764037379, 2.0184304044, -10.4309495934]),
    (2, 3, 1, 2, 4, 2): ([2, 2, 3, 3], [-5.1052900107, 0.8307915732, 7.6516969033, 4.6958602143]),
    (3, 2, 1, 4, 4, 8): ([2, 8, 4, 3], [-5.2479317921, -1.2443298744, 1.539311759, 0.0665192924]),
    (5, 1, 2, 1, 2, 3): ([2, 3, 7, 6], [-1.4411398009, 0.9344720345, 0.4756253988, 2.0762122699]),
    (3, 1, 2, 2, 4, 4): ([2, 4, 9, 8], [2.7463662974, 3.9374880208, 8.1516372637, 0.1335524596]),
}


@pytest.mark.parametrize("setting", CONVOLUTIONS)
def test_convolution_gives_pytorchs_numbers(setting: tuple[int, ...]) -> None:
    shape, moments = CONVOLUTIONS[setting]
    found = in_reference(f"""
k, s, p, g, ci, co = {setting}
x, layer = leaf(wave(2, ci, 7, 6, step=.37)), Conv2d(ci, co, k, s, p, g)
layer.weight, layer.bias = leaf(wave(co, ci // g, k, k, step=.61)), leaf(wave(co, step=.9))
y = layer(x)
naive = conv2d_naive(x, layer.weight, layer.bias, s, p, g)
y.backward(wave(*y.shape, step=.23))
gradients = [moment(t.grad) for t in (x, layer.weight, layer.bias)]
print(json.dumps([y.shape, [moment(y.data), *gradients], float(abs(naive - y.data).max())]))
""")
    assert found[0] == shape
    assert found[1] == pytest.approx(moments, abs=1e-8)
    assert found[2] < 1e-12, "conv2d_naive and Conv2d"


def test_convolution_in_all_settings() -> None:
    """Forward to 1e-9 (einsum), gradients to 1e-8: <G, f(x, w)> is linear in x and w, so <x.grad, v> = <G, f(v, w)>."""
    worst = in_reference("""
def expected(x, w, s, p, g):
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    views = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::s, ::s]
    views = views.reshape(len(x), g, -1, *views.shape[2:])
    sums = np.einsum("ngcyxij,gocij->ngoyx", views, w.reshape(g, -1, *w.shape[1:]))
    return sums.reshape(len(x), len(w), *views.shape[3:5])

random, count, forward, backward = np.random.default_rng(0), 0, 0.0, 0.0
for k in (1, 2, 3, 5):
    for s in (1, 2, 3):
        for p in (0, 1, 2):
            for g, ci, co in ((1, 3, 2), (2, 4, 6), (3, 3, 3), (2, 2, 4)):
                x, w = leaf(random.normal(size=(2, ci, 8, 7))), leaf(random.normal(size=(co, ci // g, k, k)))
                layer = Conv2d(ci, co, k, s, p, g)
                layer.weight = w
                y = layer(x)
                forward = max(forward, abs(y.data - expected(x.data, w.data, s, p, g)).max())
                G = random.normal(size=y.shape)
                y.backward(G)
                for _ in range(3):
                    v, u = random.normal(size=x.shape), random.normal(size=w.shape)
                    backward = max(backward, abs((x.grad * v).sum() - (G * expected(v, w.data, s, p, g)).sum()))
                    backward = max(backward, abs((w.grad * u).sum() - (G * expected(x.data, u, s, p, g)).sum()))
                count += 1
print(json.dumps([count, float(forward), float(backward)]))
""")
    assert worst[0] == 144
    assert worst[1] < 1e-9 and worst[2] < 1e-8


def test_pooling_ties_are_pytorchs() -> None:
    """torch 2.13.0: max_pool2d(x, 2, stride=1) of this x, backward with 1 … 9."""
    grad, even = in_reference("""
x = leaf([[[[1, 1, 0, 2], [1, 0, 2, 2], [0, 0, 0, 0], [3, 0, 0, 3]]]])
MaxPool2d(2, 1)(x).backward(np.arange(1.0, 10.0).reshape(1, 1, 3, 3))
y = leaf(wave(1, 1, 5, 5, step=.3))
AvgPool2d(2)(y).backward(np.full((1, 1, 2, 2), 8.0))
print(json.dumps([x.grad[0, 0].tolist(), y.grad[0, 0].tolist()]))
""")
    assert grad == [[1, 0, 0, 3], [4, 0, 13, 0], [0, 8, 0, 0], [7, 0, 0, 9]]
    assert even == [[2, 2, 2, 2, 0]] * 4 + [[0] * 5]


def test_pooling_with_padding() -> None:
    """Against a loop over windows that leaves the padding out; ties, negative numbers, NaN, a whole image of -inf."""
    worst, count = in_reference("""
def expected(x, upstream, kernel, stride, padding):
    out, d_x = np.empty(upstream.shape), np.zeros(x.shape)
    for n, c, i, j in np.ndindex(upstream.shape):
        top, left = i * stride - padding, j * stride - padding
        rows, columns = (slice(max(0, at), at + kernel) for at in (top, left))
        window = x[n, c, rows, columns]
        place = np.unravel_index(np.argmax(window), window.shape)  # the first one; NaN counts as the largest
        out[n, c, i, j] = window[place]
        d_x[n, c, rows, columns][place] += upstream[n, c, i, j]
    return out, d_x

random, worst, count = np.random.default_rng(0), 0.0, 0
for kernel, stride, padding in ((2, 2, 1), (3, 2, 1), (3, 1, 1), (4, 3, 2), (5, 2, 2), (2, 2, 0)):
    for special in (None, np.nan, -np.inf):
        x = random.integers(-3, 1, (3, 2, 7, 6)).astype(float)  # at most 0, which zeros in the padding would tie with
        if special is not None:
            x[random.random(x.shape) < 0.2] = special
            x[0] = -np.inf
        y = MaxPool2d(kernel, stride, padding)(leaf(x))
        tensor, upstream = leaf(x), random.normal(size=y.shape)
        out, d_x = expected(x, upstream, kernel, stride, padding)
        MaxPool2d(kernel, stride, padding)(tensor).backward(upstream)
        assert np.array_equal(y.data, out, equal_nan=True), (kernel, stride, padding, special)
        worst, count = max(worst, abs(tensor.grad - d_x).max()), count + 1
print(json.dumps([float(worst), count]))
""")
    assert count == 18
    assert worst < 1e-12


def test_a_backend_sees_every_convolution() -> None:
    """A model that knows nothing of backends asks the one in use, forward and backward; the values stay the same."""
    counted, same = in_reference("""
from tinytorch import Flatten, Linear, ReLU, Sequential
from tinytorch.backends import NumPyBackend
from tinytorch.config import get_backend, set_backend

class Counting(NumPyBackend):
    def __init__(self):
        self.calls = dict.fromkeys(("matmul", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"), 0)

def counter(name):
    def counted(self, *arguments):
        self.calls[name] += 1
        return getattr(NumPyBackend, name)(self, *arguments)
    return counted

for name in ("matmul", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient"):
    setattr(Counting, name, counter(name))

layers = Conv2d(3, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2), Conv2d(4, 6, 3, groups=2, bias=False)
model = Sequential(*layers, Flatten(), Linear(24, 5))
x = wave(2, 3, 8, 8, step=0.37)

def step():
    for parameter in model.parameters():
        parameter.grad = None
    out = model(Tensor(x))
    out.backward(wave(2, 5, step=0.7))
    return [moment(out.data), *(moment(parameter.grad) for parameter in model.parameters())]

expected, backend = step(), Counting()
before = set_backend(backend)
same = step() == expected
set_backend(before)
step()
print(json.dumps([backend.calls, same]))
""")
    assert counted.pop("matmul") == 3  # of the Linear layer: its result, and the gradients of its input and weight
    assert counted == {"conv2d": 2, "conv2d_input_gradient": 1, "conv2d_weight_gradient": 2}
    assert same


def test_batch_norm_gives_pytorchs_numbers() -> None:
    """torch 2.13.0: BatchNorm2d(2).double() with weight [1.5, -.5], bias [.25, 1], on the same waves; both modes."""
    training, evaluation, running, names = in_reference("""
layer = BatchNorm2d(2)
layer.weight, layer.bias = leaf([1.5, -0.5]), leaf([0.25, 1.0])
layer.running_mean, layer.running_var = Tensor(np.zeros(2)), Tensor(np.ones(2))
found = []
for mode in (True, False):
    x, layer.weight.grad, layer.bias.grad = leaf(wave(3, 2, 2, 3, step=.37) * 2 + 1), None, None
    y = layer.train(mode)(x)
    y.backward(wave(3, 2, 2, 3, step=.23))
    found.append([moment(a) for a in (y.data, x.grad, layer.weight.grad, layer.bias.grad)])
names = [name for name, _ in layer.named_parameters()], sorted(layer.state_dict())
print(json.dumps([*found, [layer.running_mean.data.tolist(), layer.running_var.data.tolist()], names]))
""")
    assert training == pytest.approx(
        [6.381197566472218, -0.1790140575295171, -6.542615940353665, 3.3061556266781], abs=1e-9
    )
    assert evaluation[:3] == pytest.approx([10.03813763844139, 0.17791869412660843, -4.854083514977926], abs=1e-9)
    assert running[0] == pytest.approx([0.080143533550, 0.124093701295], abs=1e-11)
    assert running[1] == pytest.approx([1.102757402436, 1.089806445295], abs=1e-11)
    assert names == [["weight", "bias"], ["bias", "running_mean", "running_var", "weight"]]


def test_two_hundred_times_as_fast_as_the_definition() -> None:
    """Batch 8, 16 to 32 channels, 16 × 16. The seven loops run on one sample, and take eight times as long for all."""
    difference, ratio = in_reference("""
from time import perf_counter
x, layer = wave(8, 16, 16, 16, step=.37).astype(np.float32), Conv2d(16, 32, 3, padding=1)
fast = []
for _ in range(9):
    start = perf_counter()
    y = layer(Tensor(x))
    fast.append(perf_counter() - start)
start = perf_counter()
naive = conv2d_naive(x[:1], layer.weight, layer.bias, padding=1)
slow = 8 * (perf_counter() - start)
print(json.dumps([float(abs(naive - y.data[:1]).max()), slow / sorted(fast)[4]]))
""")
    assert difference < 1e-4
    assert ratio > 200


def test_columns_are_not_kept() -> None:
    """im2col of the whole batch would take 37.7 MB; input and result take 8.4 MB, and are all that the tape holds."""
    held, peak = in_reference("""
import tracemalloc
x, layer = leaf(np.zeros((32, 32, 32, 32))), Conv2d(32, 32, 3, padding=1)
x.data = x.data.astype(np.float32)
layer(x)
tracemalloc.start()
y = layer(x)
held, peak = tracemalloc.get_traced_memory()
print(json.dumps([held, peak]))
""")
    assert held < 4.2e6 * 1.1
    assert peak < 37.7e6 / 2


def test_blocks_change_nothing() -> None:
    """However a batch is cut, and in a forked process as well, out comes the same; errors come out of threads."""
    same, forked, error = in_reference("""
import multiprocessing
from tinytorch.core import blocks
x, layer = leaf(wave(7, 3, 9, 9, step=.37)), Conv2d(3, 4, 3)
layer.weight = leaf(layer.weight.data)

def outcome():
    x.grad = layer.weight.grad = None
    y = layer(x)
    y.backward(wave(*y.shape, step=.23))
    return [moment(a) for a in (y.data, x.grad, layer.weight.grad)]

blocks.BLOCK = 1
single = outcome()
blocks.BLOCK = 10**9
same = np.allclose(single, outcome(), atol=1e-11)
blocks.BLOCK, forked = 1, True
if "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        forked = pool.apply_async(outcome).get(20) == single
try:
    blocks.in_blocks(lambda part: 1 // (part.start - 2), 4, numbers_each=1)
except ZeroDivisionError:
    error = "came out"
print(json.dumps([bool(same), bool(forked), error]))
""")
    assert same and forked and error == "came out"


@pytest.mark.parametrize(
    "code, words",
    [
        ("Conv2d(3, 4, 0)", ["kernel_size", "0"]),
        ("Conv2d(4, 6, 3, groups=4)", ["4", "6", "groups"]),
        ("Conv2d(3, 4, 3, stride=0)", ["stride"]),
        ("Conv2d(3, 4, 3, padding=-1)", ["padding"]),
        ("MaxPool2d(0)", ["MaxPool2d"]),
        ("Conv2d(3, 4, 3, groups=0)", ["groups"]),
        ("Conv2d(3, 0, 3)", ["channels"]),
        ("BatchNorm2d(0)", ["BatchNorm2d"]),
        ("Conv2d(3, 4, 3)(Tensor(np.zeros((3, 8, 8))))", ["(3, 8, 8)", "(N, 3, H, W)"]),
        ("Conv2d(3, 4, 3)(Tensor(np.zeros((1, 4, 8, 8))))", ["(1, 4, 8, 8)"]),
        ("Conv2d(3, 4, 3)(Tensor(np.zeros((1, 3, 2, 8))))", ["(3, 3)", "(2, 8)"]),
        ("AvgPool2d((2, 3, 4))", ["AvgPool2d", "(2, 3, 4)"]),
        ("BatchNorm2d(3)(Tensor(np.zeros((1, 3, 1, 1))))", ["(1, 3, 1, 1)"]),
        ("MaxPool2d(2, padding=-1)", ["MaxPool2d: padding", "-1"]),
        ("MaxPool2d((2, 3), padding=(1, 2))", ["(1, 2)", "half", "(2, 3)"]),
        ("MaxPool2d(4, padding=1)(Tensor(np.zeros((1, 1, 1, 9))))", ["(4, 4)", "(1, 9)", "(1, 1)"]),
    ],
)
def test_errors_are_sentences(code: str, words: list[str]) -> None:
    said = in_reference(f"try:\n    {code}\nexcept ValueError as error:\n    print(json.dumps(str(error)))\n")
    assert not [word for word in words if word not in said], said


def test_the_gate_names_the_gradient_that_is_wrong() -> None:
    course = load_course(ROOT)
    bench = Bench(course, course.stage(9), ROOT)
    path = "tinytorch/core/spatial.py"
    files = bench.source | {path: bench.source[path].replace("return d_x, d_weight, ", "return d_x, d_weight * 2, ")}
    assert files != bench.source
    verdict = bench.judge(files, "Conv2d.forward")
    lines = [line for test in verdict.tests for failure in test.failures for line in failure["lines"]]
    assert any(line.startswith("expected  weight.grad") for line in lines), lines
    assert not any("x.grad" in line for line in lines)
