"""Gate 09: convolution, pooling and batch normalisation."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import AvgPool2d, BatchNorm2d, Conv2d, Flatten, MaxPool2d, Tensor, col2im, conv2d_naive, im2col
from tinytorch.config import set_backend
from tinytorch.core.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from tinytorch.core.normalization import batch_statistics
from tinytorch.core.windows import output_size, window_views
from tinytorch.systems.spatial import column_bytes, conv_flops, receptive_field, separable_cost, winograd_products
from workshop.checks import close, equal, exercise, holds, ratio
from workshop.probes import at_the_door, gradients_match, leaf, numbers, positive, speed_up, through_door, unwatched
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
f4, Array = np.float32, np.ndarray


# What is right, found by putting the window down, place after place: right_NAME is asked as NAME is

two = lambda value: value if isinstance(value, tuple) else (value, value)
flat = lambda images: images.reshape(*images.shape[:2], math.prod(images.shape[2:]))
starts = lambda length, kernel, stride: range(0, length - kernel + 1, stride)  # of a window, along one side


def padded(x: Array, padding: Any, value: float = 0.0) -> Array:
    ph, pw = two(padding)
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=value) if ph + pw else x


def places(size: Any, kernel: Any, stride: Any) -> Iterator[Any]:
    """The index of what the window sees, for each of its places, row by row."""
    (kh, kw), (sh, sw) = two(kernel), two(stride)
    for top, left in product(starts(size[0], kh, sh), starts(size[1], kw, sw)):
        yield ..., slice(top, top + kh), slice(left, left + kw)


def slid(see: Callable[[Array], Array], image: Array, kernel: Any, stride: Any = 1) -> Array:
    """(N, …, OH, OW): what `see` makes of the window, (N, C, KH, KW), at each place."""
    seen = [see(image[window]) for window in places(image.shape[2:], kernel, stride)]
    return np.stack(seen, axis=-1).reshape(*seen[0].shape, *right_output_size(image.shape[2:], kernel, stride))


def scattered(shape: Any, kernel: Any, stride: Any, padding: Any, share: Callable[[int], Any]) -> Array:
    """Images of `shape` to which each window has added `share` of its number, where it stands; none for the padding."""
    image, (ph, pw) = padded(np.zeros(shape), padding), two(padding)
    for number, seen in enumerate(places(image.shape[2:], kernel, stride)):
        image[seen] += share(number)
    return image[:, :, ph : ph + shape[2], pw : pw + shape[3]]


def right_output_size(size: Any, kernel: Any, stride: Any = 1, padding: Any = 0) -> tuple[int, ...]:
    sides = zip(two(size), two(kernel), two(stride), two(padding))
    return tuple(len(starts(n + 2 * p, k, s)) for n, k, s, p in sides)


def right_window_views(images: Array, kernel: Any, stride: Any = 1) -> list[Array]:
    return [slid(lambda seen: seen[:, :, i, j], images, kernel, stride) for i, j in np.ndindex(*two(kernel))]


def ungrouped(weight: Array, groups: int) -> Array:
    """The weight of the same convolution in one group: zeros between the groups."""
    full = np.zeros((groups, len(weight) // groups, groups, *weight.shape[1:]))
    for g, part in enumerate(weight.reshape(groups, -1, *weight.shape[1:])):
        full[g, :, g] = part
    return full.reshape(len(weight), -1, *weight.shape[2:])


def right_conv2d_naive(x: Any, w: Array, bias: Any = 0.0, stride: Any = 1, padding: Any = 0, groups: int = 1) -> Array:
    full = ungrouped(w, groups)
    return slid(lambda seen: np.einsum("ncij,ocij->no", seen, full) + bias, padded(x, padding), w.shape[2:], stride)


right_conv2d = lambda x, w, *settings: right_conv2d_naive(x, w, 0.0, *settings)


def right_conv2d_input_gradient(g: Array, shape: Any, w: Array, stride: Any, padding: Any, groups: int) -> Array:
    """Each window sends its share of `g` to what it has seen."""
    full, g = ungrouped(w, groups), flat(g)
    return scattered(shape, w.shape[2:], stride, padding, lambda k: np.einsum("no,ocij->ncij", g[:, :, k], full))


def right_conv2d_weight_gradient(g: Array, x: Array, shape: Any, stride: Any, padding: Any, groups: int) -> Array:
    """What each window has seen, times its share of `g`, is added up."""
    image, g = padded(x, padding), flat(g)
    windows = enumerate(places(image.shape[2:], shape[2:], stride))
    total = np.asarray(sum(np.einsum("no,ncij->ocij", g[:, :, k], image[seen]) for k, seen in windows))
    parts = total.reshape(groups, -1, groups, *shape[1:])
    return np.concatenate([parts[i, :, i] for i in range(groups)])


def right_im2col(x: Array, kernel: Any, stride: Any = 1, padding: Any = 0) -> Array:
    size = len(x), x.shape[1] * math.prod(two(kernel))
    return flat(slid(lambda seen: seen.reshape(size), padded(x, padding), kernel, stride))


def right_col2im(columns: Array, shape: Any, kernel: Any, stride: Any = 1, padding: Any = 0) -> Array:
    parts = columns.reshape(*shape[:2], *two(kernel), columns.shape[-1])
    return scattered(shape, kernel, stride, padding, lambda k: parts[..., k])


# How it is asked


def ask(text: str, near: float = 1e-9, dtype: Any = np.float64, right: Any = None, **letters: Array) -> Case:
    """Arrays go in, no Tensors, and are not changed; the numbers of `right` come out, or else those of right_NAME."""

    def check(e: Expression) -> None:
        given = [values.copy(order="K") for values in e.letters.values()]
        with unwatched():
            expected = eval(f"right_{text}", {**globals(), **e.letters}) if right is None else right
        got = e(*given)
        if isinstance(expected, list):
            equal(len(got), len(expected), f"len({e.text})", e.given)
            for number, one in enumerate(expected):
                close(got[number], one, f"({e.text})[{number}]", e.given, near, dtype)
        else:
            close(np.array(got) if isinstance(got, tuple) else got, expected, e.text, e.given, near, dtype)
        for name, values in zip(e.letters, given):
            equal(values, e.letters[name], f"{name}, afterwards", e.given)

    return look.case(check, text, **letters)


def each(texts: str, near: float = 1e-9, dtype: Any = np.float64, **letters: Array) -> list[Case]:
    """A case for each of several expressions, parted by semicolons."""
    return [ask(text, near, dtype, **letters) for text in texts.split("; ")]


def together(cases: Iterable[Case]) -> Case:
    """One case of many: the first of them that fails is told."""
    cases = list(cases)
    return lambda: [case() for case in cases] and None


# Windows

ALL_SIZES = product((5, 6, 7, 8, 32), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2))

test_windows = table(
    ("output_size", "as often as the window can be put down, along the height and along the width"),
    *each("output_size(4, 3); output_size(7, 3, 2); output_size(8, 3, 2); output_size(8, 5, 3, 2)", 0, None),
    *each("output_size((9, 5), 3); output_size(8, (1, 4)); output_size(9, 2, (3, 1))", 0, None),
    *each("output_size(4, 2, 1, (0, 2)); output_size((10, 7), (3, 2), (2, 3), (1, 0))", 0, None),
    *each("output_size((3, 5), (3, 5)); output_size((1, 3), 5, 3, (2, 1))", 0, None),
    together(ask(f"output_size{setting}", 0, None) for setting in ALL_SIZES),
    ("output_size", "a window that does not fit, and what is no size, is a ValueError that names it"),
    look.raises("output_size((4, 9), 5)", ValueError, "(5, 5)", "(4, 9)"),
    look.raises("output_size((9, 4), 5, stride=3)", ValueError, "(5, 5)", "(9, 4)"),
    look.raises("output_size((2, 2), 5, padding=1)", ValueError, "(5, 5)", "(2, 2)"),
    *(look.raises(f"output_size((9, 9), {bad!r})", ValueError, "kernel_size") for bad in (0, -1, (3,), "3", 1.5)),
    look.raises("output_size((9, 9), 3, stride=0)", ValueError, "stride"),
    look.raises("output_size((9, 9), 3, padding=-1)", ValueError, "padding"),
    look.raises("output_size((9, -9), 3)", ValueError, "size"),
    ("window_views", "view i · KW + j holds what each window sees in its row i and column j"),
    *each("window_views(x, 2); window_views(x, 3, 2); window_views(x, (2, 3), (3, 2))", 0, x=numbers(2, 3, 8, 9)),
    *each("window_views(x, 1, 2); window_views(x, (1, 2)); window_views(x, (2, 1), (1, 2))", 0, x=numbers(1, 2, 6, 4)),
    *each("window_views(x.swapaxes(2, 3), 2, 2); window_views(x[:0], 3)", 0, x=numbers(2, 1, 9, 3)),
    ask("window_views(x, (3, 2))", 0, np.uint8, x=np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)),
    look.raises("window_views(x.data, 4)", ValueError, "(4, 4)", x=np.zeros((1, 1, 3, 4))),
)


@exercise("window_views")
def test_views_are_no_copies() -> None:
    """what is written into a view stands in the images"""
    for kernel, stride in (((2, 2), 1), ((3, 2), (2, 1))):
        images = np.zeros((2, 1, 5, 7))
        for view in window_views(images, kernel, stride):
            view += 1.0
        given = f"1 is added to each of window_views(zeros (2, 1, 5, 7), {kernel}, {stride})"
        close(images, scattered(images.shape, kernel, stride, 0, lambda k: 1.0), "images", given, 0)


# Convolution, as it is defined, and columns

NINE = np.arange(9.0).reshape(1, 1, 3, 3)
TENS = np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
BY_HAND = np.array([[[[4310, 5421], [7643, 8754]]]])
SMALL = {"x": numbers(2, 1, 3, 3), "w": numbers(1, 1, 2, 2, seed=1)}
SETTINGS = [*product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2)), ((2, 3), (2, 1), (1, 2))]  # kernel, stride, padding
GROUPS = ((1, 3, 4), (2, 4, 6), (3, 3, 3), (2, 2, 6))  # groups, channels in and out
IMAGES = numbers(2, 2, 4, 5)
ONES = np.ones((1, 9, 9))
COUNTS = np.array([[[[4, 6, 4], [6, 9, 6], [4, 6, 4]]]])
MISFITS = [ONES[:, :, :6], ONES[:, :3], ONES.reshape(1, 81)]


def naive(x: Any, w: Any, *settings: Any) -> Case:
    text = f"conv2d_naive(x, w, b, {', '.join(map(str, settings))})"
    return ask(text, x=numbers(*x), w=numbers(*w, seed=1), b=numbers(w[0], seed=2))


def way_back(shape: Any, *settings: Any) -> Case:
    height, width = math.prod(two(settings[0])), math.prod(right_output_size(shape[2:], *settings))
    text = f"col2im(columns, {shape}, {', '.join(map(str, settings))})"
    return ask(text, 1e-12, columns=numbers(shape[0], shape[1] * height, width))


test_definition = table(
    ("conv2d_naive", "the window is not turned over: 1, 10, 100, 1000 stand where they stood"),
    ask("conv2d_naive(x, w)", right=BY_HAND, x=NINE, w=TENS),
    ask("conv2d_naive(x, w, b)", right=BY_HAND + 2, x=NINE, w=TENS, b=np.array([2.0])),
    *each("conv2d_naive(x, w, padding=2, stride=6); conv2d_naive(x, w, padding=1)", x=NINE, w=TENS),
    ("conv2d_naive", "biases, strides, paddings, groups, and sizes that do not divide"),
    naive((2, 2, 4, 5), (3, 2, 3, 3), 2, 1),
    naive((2, 2, 4, 5), (3, 2, 2, 2), 3, 2),
    naive((2, 2, 4, 5), (3, 2, 1, 1), 2),
    naive((2, 2, 4, 5), (3, 2, 2, 3), (2, 1), (1, 2)),
    *(naive((1, c, 3, 4), (o, c // groups, 2, 2), 1, 0, groups) for groups, c, o in GROUPS),
    ("conv2d_naive", "gives the dtype in which x and weight meet, also for Tensors, whole numbers and no samples"),
    ask("conv2d_naive(x.astype(f4), w.astype(f4))", 1e-5, f4, **SMALL),
    ask("conv2d_naive(x.astype(f4), w.astype(f4), b)", 1e-5, f4, **SMALL, b=np.array([2.0])),
    *each("conv2d_naive(x.astype(f4), w); conv2d_naive(x[:0], w, padding=1)", 1e-5, **SMALL),
    ask("conv2d_naive(x.astype(int), w.astype(int))", 0, int, x=NINE, w=TENS),
    look.gives("conv2d_naive(x, w)", BY_HAND, x=NINE, w=TENS),
    ("conv2d_naive", "shapes that do not fit are a ValueError that names them"),
    look.raises("conv2d_naive(np.ones((4, 5, 5)), np.ones((2, 4, 3, 3)))", ValueError, (4, 5, 5)),
    look.raises("conv2d_naive(np.ones((1, 4, 5, 5)), np.ones((2, 3, 3, 3)))", ValueError, (1, 4, 5, 5), (2, 3, 3, 3)),
    look.raises("conv2d_naive(np.ones((1, 4, 5, 5)), np.ones((2, 4, 3, 3)), groups=2)", ValueError, "2"),
    look.raises("conv2d_naive(np.ones((1, 4, 5, 5)), np.ones((2, 1, 3, 3)), groups=4)", ValueError, "4"),
    look.raises("conv2d_naive(np.ones((1, 4, 5, 5)), np.ones((2, 4, 6, 6)))", ValueError, (6, 6)),
    ("im2col", "row c · KH · KW + i · KW + j, column y · OW + x"),
    ask("im2col(x, 2)", x=np.arange(24.0).reshape(1, 2, 3, 4)),
    *each("im2col(x, 3, 1, 1); im2col(x, 2, (1, 2)); im2col(x, (2, 3), (2, 1), (1, 2))", x=numbers(2, 3, 6, 7)),
    *each("im2col(x, 1, 2); im2col(x, 1, 1, 1); im2col(x, (1, 2)); im2col(x, (2, 1)); im2col(x, (1, 3))", x=IMAGES),
    together(ask(f"im2col(x, {k}, {s}, {p})", x=numbers(2, 3, 7, 6)) for k, s, p in SETTINGS),
    ("im2col", "keeps dtypes, in any order in memory, of any number of samples"),
    *each("im2col(x.astype(f4), 3, 1, 1); im2col(x.astype(f4), 1)", 0, f4, x=IMAGES),
    ask("im2col(x, 3, padding=1)", 0, np.uint8, x=np.arange(80, dtype=np.uint8).reshape(2, 2, 4, 5)),
    *each("im2col(x.swapaxes(2, 3), 3, 1, 1); im2col(x.swapaxes(2, 3), 1); im2col(np.asfortranarray(x), 2)", x=IMAGES),
    *each("im2col(x[:1], 3); im2col(x[:0], 3); im2col(x[:0], 1)", x=IMAGES),
    look.gives("im2col(x, 2)", "right_im2col(x, 2)", x=IMAGES),
    ("im2col", "no image, or one that is too small, is a ValueError"),
    look.raises("im2col(x, 2)", ValueError, (3, 5, 5), x=np.zeros((3, 5, 5))),
    look.raises("im2col(x, 3)", ValueError, (3, 3), x=np.zeros((1, 3, 2, 5))),
    ("col2im", "every number goes back to where im2col took it from, and is added there"),
    ask("col2im(x, (1, 1, 2, 3), 2)", right=[[[[1, 5, 4], [5, 13, 8]]]], x=np.arange(1.0, 9.0).reshape(1, 4, 2)),
    way_back((2, 3, 5, 4), 3, 1, 1),
    way_back((2, 3, 6, 7), 2, (1, 2)),
    way_back((2, 3, 6, 7), (2, 3), (2, 1), (1, 2)),
    way_back((2, 3, 5, 6), 1, 2),
    way_back((2, 2, 3, 4), (1, 2)),
    together(way_back((2, 3, 7, 6), *setting) for setting in SETTINGS),
    ("col2im", "keeps dtypes; no samples stay none; columns that do not fit are refused"),
    ask("col2im(x.astype(f4), (1, 1, 3, 3), 3, padding=1)", 0, f4, right=COUNTS, x=ONES),
    ask("col2im(x.astype(int), (1, 1, 3, 3), 3, padding=1)", 0, int, right=COUNTS, x=ONES),
    ask("col2im(x[:0], (0, 1, 3, 3), 3, padding=1)", x=ONES),
    *(look.raises("col2im(x.data, (1, 1, 3, 3), 3, 1, 1)", ValueError, x.shape, (1, 9, 9), x=x) for x in MISFITS),
)


# Convolution as a matrix product, and its gradients, of arrays

ARGUMENTS = {
    "conv2d": "x{0}, w{0}",
    "conv2d_input_gradient": "g{0}, {1}, w{0}",
    "conv2d_weight_gradient": "g{0}, x{0}, {2}",
}
SOME = [  # images, weight, and what differs from stride 1, padding 0, groups 1
    ((2, 3, 4, 5), (2, 3, 2, 2), 1, 1),
    ((2, 2, 5, 6), (3, 2, 2, 2), 2),
    ((2, 3, 6, 5), (4, 3, 2, 3), (2, 1), (1, 2)),
    ((2, 4, 4, 3), (6, 2, 2, 2), 1, 0, 2),
    ((2, 3, 4, 3), (3, 1, 2, 2), 1, 0, 3),
    ((1, 3, 3, 3), (2, 3, 1, 1)),
    ((2, 1, 3, 3), (1, 1, 2, 2)),
]
BATCHES = [  # none, one, many small images, and more than fit into one block
    ((0, 4, 5, 5), (2, 4, 3, 3), 1, 1),
    ((1, 4, 5, 5), (2, 4, 3, 3), 1, 1),
    ((10, 1, 2, 2), (1, 1, 2, 2)),
    ((10, 1, 3, 3), (2, 1, 2, 2)),
    ((9, 4, 48, 48), (2, 4, 3, 3), 1, 1),
]


def convolve(function: str, x: Any, w: Any, stride: Any = 1, padding: Any = 0, groups: int = 1, kind: str = "") -> Case:
    """conv2d or one of its gradients; `kind` makes float32 of arrays."""
    g = numbers(x[0], w[0], *right_output_size(x[2:], w[2:], stride, padding), seed=3)
    arguments, arrays = ARGUMENTS[function].format(kind, x, w), {"x": numbers(*x), "w": numbers(*w, seed=1), "g": g}
    text = f"{function}({arguments}, {two(stride)}, {two(padding)}, {groups})"
    letters = {name: array for name, array in arrays.items() if name in arguments}
    return ask(text, 1e-5 if kind else 1e-9, f4 if kind else np.float64, **letters)


def convolutions(function: str, says: str, arguments: str, right: Array, **letters: Array) -> list[Any]:
    """Two rows: all 148 settings, the first one followed by hand, and batches of any size, also in float32."""
    return [
        (function, f"{says}, in float64, in all settings"),
        ask(f"{function}({arguments}, {ONCE})", right=right, **letters),
        *(convolve(function, *some) for some in SOME),
        *(
            together(convolve(function, (2, c, 6, 5), (o, c // groups, *two(k)), s, p, groups) for k, s, p in SETTINGS)
            for groups, c, o in GROUPS
        ),
        (function, f"{says}, of any batch; float32 for float32"),
        *(convolve(function, *batch) for batch in BATCHES),
        *(convolve(function, (n, 4, 5, 6), (2, 4, 3, 3), kind=".astype(f4)") for n in (3, 0)),
    ]


ONCE = "(1, 1), (0, 0), 1"
FOUR = {"x": numbers(3, 4, 5, 6), "w": numbers(2, 4, 3, 3, seed=1)}
TO_IMAGE = np.array([[[[2.0, 23.0, 30.0], [200.0, 2300.0, 3000.0]]]])
TWO = np.array([[[[2.0, 3.0]]]])

test_products = table(
    *convolutions("conv2d", "what the definition gives", "x, w", BY_HAND, x=NINE, w=TENS),
    ("conv2d", "in any order in memory, in the dtype in which x and weight meet; a window must fit"),
    *each(f"conv2d(np.asfortranarray(x), w, {ONCE}); conv2d(x.swapaxes(2, 3), w.swapaxes(2, 3), {ONCE})", **FOUR),
    *each(f"conv2d(x.astype(f4), w, {ONCE}); conv2d(x, w.astype(f4), {ONCE})", 1e-5, **FOUR),
    look.raises(f"conv2d(x.data[:, :, :2], w.data, {ONCE})", ValueError, (3, 3), **FOUR),
    *convolutions("conv2d_input_gradient", "the gradient of x", "g, (1, 1, 2, 3), w", TO_IMAGE, g=TWO, w=TENS),
    *convolutions(
        "conv2d_weight_gradient", "the gradient of the weight", "g, x, (1, 1, 2, 2)", BY_HAND, g=TENS, x=NINE
    ),
)


@exercise("conv2d")
def test_convolution_is_fast() -> None:
    """at least twenty times as fast as seven loops in Python, after equal results"""
    x, weight, settings = numbers(1, 8, 12, 12).astype(f4), numbers(16, 8, 3, 3).astype(f4), ((1, 1), (1, 1), 1)
    given = "x (1, 8, 12, 12), weight (16, 8, 3, 3), padding (1, 1), float32"
    close(conv2d(x, weight, *settings), right_conv2d(x, weight, *settings), "conv2d(x, weight, …)", given, 1e-4)

    def seven_loops() -> None:  # for a sixteenth of the work
        image, out = padded(x, 1), np.zeros((1, 4, 12, 12), f4)
        for n, o, i, j in np.ndindex(*out.shape):
            for c, a, b in np.ndindex(2, 3, 3):
                out[n, o, i, j] += image[n, c, i + a, j + b] * weight[o, c, a, b]

    faster = 16 * speed_up(seven_loops, lambda: conv2d(x, weight, *settings))
    ratio(faster, "time of seven loops", "that of conv2d", at_least=20, given=given, seen="slow")


# The layers


@contextmanager
def counting() -> Iterator[list[Any]]:
    """A backend that convolves by the gate's own loops is in use, and notes the settings that it is asked for."""
    asked = []

    def convolve(x: Array, weight: Array, stride: Any, padding: Any, groups: int) -> Array:
        asked.append((stride, padding, groups))
        return right_conv2d(x, weight, stride, padding, groups).astype(np.result_type(x, weight))

    gradients = {name: globals()[f"right_{name}"] for name in ("conv2d_input_gradient", "conv2d_weight_gradient")}
    before = set_backend(SimpleNamespace(conv2d=convolve, matmul=np.matmul, **gradients))
    try:
        yield asked
    finally:
        set_backend(before)


def filled(layer: Any) -> Any:
    """The layer with numbers of the gate's own in its parameters and running statistics."""
    for seed, name in enumerate(("weight", "bias", "running_mean", "running_var"), 1):
        tensor = getattr(layer, name, None)
        if tensor is not None:
            tensor.data[...] = (positive if name == "running_var" else numbers)(*tensor.shape, seed=seed)
    return layer


def parameters(layer: Any) -> dict[str, Tensor]:
    return {name: part for name in ("weight", "bias") if (part := getattr(layer, name, None)) is not None}


def backed(text: str, x: Array, near: float = 1e-5, dtype: Any = f4) -> Case:
    """What a Conv2d gives, and what it asks of the backend, twice."""

    def check(e: Expression) -> None:
        layer = filled(e(x))
        bias = 0.0 if layer.bias is None else layer.bias.data.copy()
        with counting() as asked:
            results = layer(Tensor(x)), layer(Tensor(x))
        equal(len(asked), 2, "calls of the backend's conv2d by layer(x), made twice", e.given)
        settings = layer.stride, layer.padding, layer.groups
        close(np.hstack(asked[0]), np.hstack(settings), "stride, padding, groups it is asked for", e.given, 0)
        for result in results:
            expected = right_conv2d_naive(x, layer.weight.data, bias, *settings)
            close(result, expected, "layer(x)", e.given, near, dtype)

    return look.case(check, text, x=x)


def at_door(text: str, x: Array, **saved: Any) -> Case:
    """The result comes through the door, made of x, weight and bias; what is saved is right, and nobody changes it."""

    def check(e: Expression) -> None:
        layer, tensor = filled(e(x)), leaf(x)
        inputs = [tensor, *parameters(layer).values()]
        with counting():
            through_door(lambda: layer(tensor), type(layer).__name__, inputs, list(saved), e.given)
            found = at_the_door(lambda: layer(tensor), e.given)[2]
        for name in {"running_mean", "running_var"} & set(vars(layer)):
            getattr(layer, name).data += 50
        for name, right in saved.items():
            right = eval(right, {**globals(), "x": x}) if isinstance(right, str) else right
            close(np.asarray(found[name]), right, f"{name}, as saved", e.given)

    return look.case(check, text, x=x)


def slopes(text: str, *shape: int) -> Case:
    """The gradients of x, weight and bias, through the tape, are those by changing every number a little."""

    def check(e: Expression) -> None:
        layer = filled(e())
        names, arrays = ["x", *parameters(layer)], [part.data for part in parameters(layer).values()]

        def result(x: Tensor, *parts: Tensor) -> Tensor:
            vars(layer).update(zip(names[1:], parts))
            return layer(x)

        with counting():
            gradients_match(result, numbers(*shape), *arrays, given=f"{e.given}, x of shape {shape}", names=names)

    return look.case(check, text)


def layers(texts: str, x: Array, near: float = 1e-12, dtype: Any = None) -> list[Case]:
    """A case for each of several expressions, parted by semicolons, of a Tensor x: what right_NAME gives."""
    texts_of = texts.split("; ")
    return [look.gives(text, f"right_{text}", tolerance=near, dtype=dtype or x.dtype, x=x) for text in texts_of]


def refusals(layer: str, channels: str, *shapes: tuple[int, ...]) -> list[Case]:
    return [look.raises(f"{layer}(x)", ValueError, channels, shape, x=np.zeros(shape)) for shape in shapes]


right_Flatten = lambda: lambda x: x.reshape(len(x), math.prod(x.shape[1:]))
IN_GROUPS = "Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2)"

test_layers = table(
    ("Conv2d.forward", "asks the backend in use, at each call, and adds the bias"),
    backed(IN_GROUPS, numbers(2, 4, 7, 6).astype(f4)),
    backed("Conv2d(3, 4, 3, stride=2, padding=1)", numbers(2, 3, 6, 5), 1e-9, np.float64),
    backed("Conv2d(3, 4, 1, bias=False)", numbers(2, 3, 2, 2).astype(f4)),
    backed("Conv2d(3, 4, 1, bias=False)", np.arange(90).reshape(1, 3, 6, 5)),
    backed("Conv2d(3, 4, 3, 2, 1)", np.zeros((0, 3, 6, 5), f4)),
    ("Conv2d.forward", "the result comes through the door, made of x, weight and bias"),
    at_door(IN_GROUPS, numbers(2, 4, 7, 6), stride=(2, 1), padding=(1, 0), groups=2),
    at_door("Conv2d(2, 2, 2, bias=False)", IMAGES, stride=(1, 1), padding=(0, 0), groups=1),
    slopes(IN_GROUPS, 2, 4, 4, 3),
    slopes("Conv2d(2, 3, 2, bias=False)", 1, 2, 3, 3),
    ("Conv2d.forward", "what are no images, or have other channels, is a ValueError that names both"),
    *refusals("Conv2d(3, 4, 3, padding=1)", "3", (3, 8, 8), (1, 4, 8, 8), (1, 1, 8, 8), (8, 3)),
    ("Flatten.forward", "(N, C, H, W) becomes (N, C · H · W) row by row, also without samples, and has a gradient"),
    *(layers("Flatten()(x)", numbers(*shape))[0] for shape in ((2, 3, 2, 2), (1, 2, 1, 3), (2, 5), (3,), (0, 2, 3, 3))),
    *layers("Flatten()(x)", np.arange(12).reshape(2, 3, 2)),
    slopes("Flatten()", 2, 2, 1, 3),
    look.raises("Flatten()(Tensor(1.0))", ValueError),
)


# Pooling

PICTURES = numbers(2, 3, 7, 8)
TIES = np.random.default_rng(5).integers(-3, 1, (2, 3, 7, 8)) / 2  # up to 0, which padding with zeros would tie with
TINY = numbers(10, 1, 2, 2)
LARGE = numbers(3, 2, 300, 300)  # more than fits into one block
NANS = np.where(np.eye(4, k=3) + np.eye(4, k=-1) > 0, np.nan, np.arange(16.0).reshape(4, 4))[None, None]
FOURS = np.arange(16).reshape(1, 1, 4, 4)
NO_IMAGES = [np.zeros((2, 4, 4)), np.zeros((1, 1, 1, 4))]
POOLS = ["2", "3, 2", "2, 1", "1, 2", "3, 1", "(2, 3), (3, 1)", "(1, 2), (2, 1)", "2, 3"]
PADDED = ["3, 2, 1", "2, 2, (1, 0)", "(2, 5), (1, 2), (0, 2)"]  # kernel, stride, padding


def right_MaxPool2d(kernel: Any, stride: Any = None, padding: Any = 0, see: Any = np.max) -> Callable[[Array], Array]:
    return lambda x: slid(lambda seen: see(seen, axis=(2, 3)), padded(x, padding, -np.inf), kernel, stride or kernel)


right_AvgPool2d = lambda kernel, stride=None: right_MaxPool2d(kernel, stride, see=np.mean)


def first_largest(window: Array) -> Array:
    """Zeros, with a 1 where each window's largest number stands first, row by row; NaN is larger than all."""
    numbers = flat(window)
    chosen = np.zeros(numbers.shape)
    np.put_along_axis(chosen, numbers.argmax(axis=-1)[..., None], 1.0, axis=-1)
    return chosen.reshape(window.shape)


def returned(
    x: Array, g: Array, kernel: Any, stride: Any = None, padding: Any = 0, share: Any = first_largest
) -> Array:
    """Each window gives what it sees its number of `g`, in shares."""
    image, g = padded(x, padding, -np.inf), flat(g)
    shares = [share(image[seen]) for seen in places(image.shape[2:], kernel, stride or kernel)]
    return scattered(x.shape, kernel, stride or kernel, padding, lambda k: g[:, :, k, None, None] * shares[k])


equal_shares = lambda window: np.ones(window.shape) / math.prod(window.shape[2:])
gradient_of_MaxPool2d = lambda *settings: lambda x, g: returned(x, g, *settings)
gradient_of_AvgPool2d = lambda *settings: lambda x, g: returned(x, g, *settings, share=equal_shares)


def answer(text: str, x: Array, near: float = 1e-12, dtype: Any = np.float64, right: str = "") -> Case:
    """What a pooling layer's rule answers to random numbers g."""

    def check(e: Expression) -> None:
        tensor = leaf(x, dtype)
        result = e(tensor)
        sent = numbers(*result.shape, seed=3).astype(dtype)
        with unwatched():
            expected = eval(right or f"gradient_of_{text[:-1]}, g)", {**globals(), "x": x, "g": sent})
        given = sent.copy()
        found = result.grad_fn.backward(given)
        close(found[0] if isinstance(found, (tuple, list)) else found, expected, "x.grad", e.given, near, dtype)
        equal(given, sent, "grad_output, afterwards", e.given)
        equal(tensor.data, x.astype(dtype), "x, afterwards", e.given)

    return look.case(check, text, x=x)


def pools(layer: str, settings: list[str], x: Array, near: float = 0) -> list[Case]:
    return layers("; ".join(f"{layer}({each})(x)" for each in settings), x, near)


def rules(layer: str, settings: list[str], x: Array) -> list[Case]:
    return [answer(f"{layer}({each})(x)", x) for each in settings]


PADDED_POOL = "MaxPool2d((3, 2), 2, (1, 0))"
SAVED = {"kernel_size": (3, 2), "stride": (2, 2)}

test_pooling = table(
    ("MaxPool2d.forward", "the largest number of each window, also where all are negative"),
    *pools("MaxPool2d", ["2"], FOURS),
    *pools("MaxPool2d", POOLS, PICTURES - 3),
    *pools("MaxPool2d", PADDED, PICTURES - 3),
    ("MaxPool2d.forward", "of any batch and dtype; NaN is the largest, and padding never is"),
    *pools("MaxPool2d", ["2"], TINY.astype(f4)),
    *pools("MaxPool2d", ["20"], LARGE),
    *pools("MaxPool2d", ["2", "3, 2, 1"], PICTURES[:0].astype(f4)),
    *pools("MaxPool2d", ["2"], FOURS[:, :, ::-1]),
    *pools("MaxPool2d", ["2", "3, 1, 1"], NANS),
    look.gives("MaxPool2d(2, padding=1)(x)", "x", dtype=int, x=-1 - FOURS[:, :, :2, :2]),
    ("MaxPool2d.forward", "comes through the door with what the rule needs; refuses what are no images"),
    at_door(PADDED_POOL, IMAGES, output=f"right_{PADDED_POOL}(x)", padding=(1, 0), **SAVED),
    *(look.raises("MaxPool2d(2)(x)", ValueError, x=x) for x in NO_IMAGES),
    ("MaxPool2dBackward.backward", "the largest number of each window gets its gradient; of several windows, the sum"),
    *rules("MaxPool2d", POOLS, PICTURES),
    *rules("MaxPool2d", PADDED, PICTURES - 3),
    slopes("MaxPool2d(2, 1)", 1, 2, 3, 3),
    ("MaxPool2dBackward.backward", "of equal numbers the first gets all, of NaN the first; the padding gets nothing"),
    *rules("MaxPool2d", ["2"], np.zeros((1, 1, 2, 4))),
    *rules("MaxPool2d", POOLS + PADDED, TIES),
    answer("MaxPool2d(2, padding=1)(x)", np.full((1, 1, 2, 2), -np.inf), right="g"),
    *rules("MaxPool2d", ["2", "2, 1", "3, 1, 1"], NANS),
    ("MaxPool2dBackward.backward", "of any batch; float32 for float32"),
    answer("MaxPool2d(2)(x)", TINY, 1e-6, f4),
    answer("MaxPool2d(20)(x)", LARGE),
    answer("MaxPool2d(2)(x)", PICTURES[:0], 0, f4),
    ("AvgPool2d.forward", "the mean of each window, of any batch; whole numbers become float32"),
    *pools("AvgPool2d", POOLS, PICTURES, 1e-12),
    *pools("AvgPool2d", ["2"], TINY.astype(f4), 1e-6),
    *pools("AvgPool2d", ["20"], LARGE, 1e-12),
    *pools("AvgPool2d", ["2"], PICTURES[:0]),
    *layers("AvgPool2d(2)(x)", FOURS, 1e-6, f4),
    ("AvgPool2d.forward", "comes through the door with what the rule needs; refuses what are no images"),
    at_door("AvgPool2d((3, 2), 2)", IMAGES, **SAVED),
    *(look.raises("AvgPool2d(2)(x)", ValueError, x=x) for x in NO_IMAGES),
    ("AvgPool2dBackward.backward", "all numbers of a window get equal shares; where windows overlap, they add up"),
    *rules("AvgPool2d", POOLS, PICTURES),
    answer("AvgPool2d(2)(x)", TINY, 1e-6, f4),
    answer("AvgPool2d(20)(x)", LARGE),
    answer("AvgPool2d(2)(x)", PICTURES[:0], 0, f4),
    slopes("AvgPool2d((2, 1), 1)", 1, 2, 3, 2),
)


# Batch normalisation


def channels(layer: Any, *names: str) -> list[Array]:
    """What the layer holds by these names, in float64, in shapes that meet images."""
    return [getattr(layer, name).data.astype(float)[:, None, None] for name in names]


def norm_results(x: Array, layer: Any, training: bool, g: Array | None = None) -> list[Array]:
    """In float64: what the layer gives, and the gradients of x, weight and bias."""
    x, g, axes = x.astype(float), np.zeros(x.shape) if g is None else g.astype(float), (0, 2, 3)
    weight, bias, mean, var = channels(layer, "weight", "bias", "running_mean", "running_var")
    if own := training and len(x):
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    root = np.sqrt(var + layer.eps)
    hat = (x - mean) / root
    through = g.mean(axes, keepdims=True) + hat * (g * hat).mean(axes, keepdims=True) if own else 0.0
    return [hat * weight + bias, weight / root * (g - through), (g * hat).sum(axes), g.sum(axes)]


NORM = "filled(BatchNorm2d(2))"
COARSE = "filled(BatchNorm2d(2, eps=2.0))"


def norm(mode: str, x: Array, near: float = 1e-9, dtype: Any = np.float64, layer: str = NORM) -> Case:
    """`mode` is how the layer is called: "(x)", ".eval()(x)", …"""
    right = f"norm_results(x, {layer}, {mode not in ('.eval()(x)', '(x, training=False)')})[0]"
    return look.gives(layer + mode, right, tolerance=near, dtype=dtype, x=x)


def norm_rule(part: str, x: Array, near: float, dtype: Any = float, training: bool = True, layer: str = NORM) -> Case:
    """One part of the rule asked by itself: `to_parameters`, or `to_input` with right gradients of weight and bias."""

    def check(e: Expression) -> None:
        layer, tensor, g = e(x), leaf(x, dtype), numbers(*x.shape, seed=5).astype(dtype)
        with unwatched():
            _, d_x, d_weight, d_bias = norm_results(tensor.data, layer, training, g)
        rule, given = layer(tensor, training=training).grad_fn, g.copy()
        if part == "to_input":
            found = rule.to_input(given, d_weight.astype(dtype), d_bias.astype(dtype))
            close(found, d_x, "x.grad", e.given, near, dtype)
        else:
            for name, found, right in zip(("weight", "bias"), rule.to_parameters(given), (d_weight, d_bias)):
                close(found, right, f"{name}.grad", e.given, near, dtype)
        equal(given, g, "grad_output, afterwards", e.given)

    return look.case(check, f"{layer}{'' if training else '.eval()'}", x=x)


def norm_rules(part: str, says: str) -> list[Any]:
    """Two rows: while training and in evaluation; none, more than fit into one block, float32, a large mean."""
    shapes, symbol = ((2, 2, 2, 3), (1, 2, 2, 2), (4, 2, 1, 1), (3, 2, 1, 2)), f"BatchNorm2dBackward.{part}"
    return [
        (symbol, f"{says}, while training and in evaluation"),
        *(norm_rule(part, numbers(*shape) * 2 + 3, 1e-8) for shape in shapes),
        norm_rule(part, numbers(2, 2, 2, 2), 1e-8, layer=COARSE),
        norm_rule(part, numbers(2, 2, 3, 2), 1e-6, training=False),
        norm_rule(part, numbers(2, 2, 3, 2), 1e-6, training=False, layer=COARSE),
        (symbol, f"{says}, of any batch; float32 for float32, also beside a large mean"),
        norm_rule(part, np.zeros((0, 2, 3, 3)), 0, f4),
        norm_rule(part, LARGE, 1e-8),
        norm_rule(part, numbers(4, 2, 3, 3), 1e-5, f4),
        norm_rule(part, numbers(4, 2, 3, 3), 1e-5, f4, training=False),
        norm_rule(part, numbers(4, 2, 8, 8) + 1000, 2e-4, f4),
    ]


def measured(argument: str, x: Array, near: float = 1e-12) -> Case:
    """Mean and variance of each channel; the mean to the last bits of its dtype."""

    def check(e: Expression) -> None:
        images, axes = eval(argument, {**globals(), "x": x}), (0, 2, 3)
        mean, var = e(x)
        close(mean, images.mean(axes, dtype=np.float64), "mean", e.given, min(near, 3e-7), images.dtype)
        close(var, images.var(axes, dtype=np.float64), "var", e.given, near, images.dtype)

    return look.case(check, f"batch_statistics({argument})", x=x)


def remembered(momentum: float, mean: list[float], var: list[float], count: int) -> Case:
    """A batch of these statistics, and then one of twice as large ones."""

    def check(e: Expression) -> None:
        layer, expected = e(), [np.zeros(2), np.ones(2)]
        for batch in (1, 2):
            new = [np.array(mean, f4) * batch, np.array(var, f4) * batch]
            given = f"{e.given}, batch {batch}: remember({new[0]}, {new[1]}, count={count})"
            layer.remember(*(values.copy() for values in new), count)
            unbiased = new[0], new[1] * count / (count - 1)
            expected = [(1 - momentum) * old + momentum * each for old, each in zip(expected, unbiased)]
            close(layer.running_mean, expected[0], "running_mean", given, 1e-6, f4)
            close(layer.running_var, expected[1], "running_var", given, 1e-6, f4)

    return look.case(check, f"BatchNorm2d(2, momentum={momentum})")


def same_tensors(e: Expression) -> None:
    layer = e()
    tensors = layer.running_mean, layer.running_var
    layer.remember(np.ones(2, f4), np.ones(2, f4), 2)
    same = layer.running_mean is tensors[0] and layer.running_var is tensors[1]
    holds(same, "running_mean and running_var are the Tensors that they were", "others", e.given)


FEW = numbers(3, 2, 2, 4) * 3 + 2
CANCELLING = np.repeat(np.array([2.0**24, 1.0, -(2.0**24)]), 2 * 8 * 8).reshape(3, 2, 8, 8)
OWN = {"mean": "x.mean((0, 2, 3))", "var": "x.var((0, 2, 3))", "eps": 1e-5, "training": 1}
RUNNING = {"mean": numbers(2, seed=3), "var": positive(2, seed=4), "eps": 2.0, "training": 0}

test_normalisation = table(
    ("batch_statistics", "mean and variance of each channel, over samples and places, divided by the count itself"),
    measured("x", np.array([1.0, 3.0, 5.0, 8.0]).reshape(2, 1, 1, 2)),
    *(measured("x * 3 + 2", numbers(*shape)) for shape in ((2, 3, 4, 5), (1, 3, 2, 2), (3, 1, 1, 1), (2, 2, 2, 2))),
    measured("x + 3", LARGE),
    ("batch_statistics", "also in float32, beside a large mean, and where large numbers cancel"),
    measured("x.astype(f4)", numbers(2, 3, 4, 5), 1e-5),
    measured("(x + 3000).astype(f4)", numbers(8, 2, 16, 16), 1e-4),
    measured("x.astype(f4)", CANCELLING, 1e-4),
    ("BatchNorm2d.forward", "while training each channel gets mean 0 and variance 1, then times weight plus bias"),
    *(norm("(x)", numbers(*shape) * 3 + 2) for shape in ((4, 2, 5, 3), (1, 2, 2, 2), (2, 2, 1, 1))),
    norm("(x)", LARGE),
    norm("(x)", FEW, layer=COARSE),
    norm("(x)", numbers(4, 2, 3, 3).astype(f4), 1e-5, f4),
    norm("(x)", (numbers(4, 2, 8, 8) + 1000).astype(f4), 1e-4, f4),
    norm("(x)", np.arange(16).reshape(2, 2, 2, 2), 1e-5, f4),
    norm(".eval()(x, training=True)", FEW),
    ("BatchNorm2d.forward", "in evaluation by running statistics: a sample does not depend on those beside it"),
    *(norm(".eval()(x)", x, 1e-6) for x in (FEW, FEW[:1], FEW[:1, :, :1, :1], FEW[:0])),
    norm(".eval()(x)", FEW.astype(f4), 1e-5, f4),
    *(norm("(x, training=False)", x, 1e-6) for x in (FEW, LARGE)),
    norm("(x, training=False)", FEW, 1e-6, layer=COARSE),
    ("BatchNorm2d.forward", "comes through the door with what the rule needs"),
    at_door("BatchNorm2d(2)", FEW, **OWN),
    at_door("BatchNorm2d(2, eps=2.0).eval()", FEW, **RUNNING),
    ("BatchNorm2d.forward", "other shapes, and a single number per channel while training, are a ValueError"),
    *refusals("BatchNorm2d(2)", "2", (2, 4, 4), (1, 3, 4, 4), (4, 2), (1, 1, 4, 4), (1, 2, 1, 1)),
    ("BatchNorm2d.remember", "the running statistics move by momentum, towards the mean and the unbiased variance"),
    remembered(0.1, [10.0, 20.0], [2.0, 8.0], 5),
    remembered(0.25, [-4.0, 4.0], [6.0, 1.0], 2),
    remembered(1.0, [3.0, 5.0], [6.0, 1.0], 100),
    look.case(same_tensors, "BatchNorm2d(2)"),
    *norm_rules("to_parameters", "Σ G x̂ and Σ G, over samples and places"),
    *norm_rules("to_input", "the gradient of x, also through mean and variance"),
    *(slopes("BatchNorm2d(2)", *shape) for shape in ((2, 2, 2, 2), (3, 2, 1, 2))),
    slopes("BatchNorm2d(2).eval()", 2, 2, 1, 2),
)


@exercise("BatchNorm2d.forward")
def test_what_is_remembered() -> None:
    """a batch while training, once; nothing in evaluation, and nothing of an empty batch"""
    layer, given, x = BatchNorm2d(2), "BatchNorm2d(2), a batch (3, 2, 2, 4) while training", Tensor(FEW)
    expected = [0.1 * FEW.mean((0, 2, 3)), 0.9 + 0.1 * FEW.var((0, 2, 3), ddof=1)]
    for then, act in (
        ("", lambda: layer(x)),
        (", an empty one", lambda: layer(Tensor(FEW[:0]))),
        (", one with training=False", lambda: layer(Tensor(FEW * 2), training=False)),
        (", one after eval()", lambda: layer.eval()(Tensor(FEW * 3))),
    ):
        act()
        given += then
        close(layer.running_mean, expected[0], "running_mean", given, 1e-6, f4)
        close(layer.running_var, expected[1], "running_var", given, 1e-6, f4)
    equal(x.data, FEW, "x, afterwards", given)


# Systems: the same is done, and counted

right_column_bytes = lambda images, kernel, stride=1, padding=0, itemsize=4: (
    right_im2col(np.zeros(images, f"f{itemsize}"), kernel, stride, padding).nbytes
)


def right_conv_flops(images: Any, weight: Any, *settings: Any) -> int:
    """A multiplication and an addition for each turn of the innermost loop."""
    turns = product(*map(range, (images[0], *weight, *right_output_size(images[2:], weight[2:], *settings))))
    return 2 * sum(1 for _ in turns)


def right_receptive_field(layers: list[tuple[int, int]]) -> int:
    """The pixels of a row are changed, one after the other, and one number of the result is looked at."""
    row = np.eye(160)  # 160 rows, each with another pixel changed
    for kernel, stride in layers:
        row = np.stack([row[:, i : i + kernel].sum(axis=1) for i in starts(row.shape[1], kernel, stride)], axis=1)
    changed = np.flatnonzero(row[:, row.shape[1] // 2])
    return int(changed[-1] - changed[0] + 1)


def right_separable_cost(channels: int, outputs: int, kernel_size: int, places: int) -> tuple[int, int]:
    """Both convolutions are done, and their weights and products counted."""
    depthwise, pointwise, count = np.ones((channels, kernel_size, kernel_size)), np.ones((outputs, channels)), 0
    for window in np.ones((places, channels, kernel_size, kernel_size)):
        products = window * depthwise
        count += products.size + (pointwise * products.sum(axis=(1, 2))).size
    return depthwise.size + pointwise.size, 2 * count


# The matrices of F(2×2, 3×3): Lavin and Gray 2016, arXiv:1509.09308, section 4.1
FROM_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)
FROM_WEIGHT = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
TO_TILE = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)


def right_winograd_products(height: int, width: int) -> int:
    """Winograd's algorithm runs, gives what the definition gives, and its products are counted."""
    x, weight, count = numbers(1, 1, height + 2, width + 2), numbers(1, 1, 3, 3, seed=1), 0
    image = np.pad(x[0, 0], ((0, height % 2), (0, width % 2)))
    out, ready = np.zeros((height + 1, width + 1)), FROM_WEIGHT @ weight[0, 0] @ FROM_WEIGHT.T
    for top, left in product(range(0, height, 2), range(0, width, 2)):
        products = ready * (FROM_IMAGE @ image[top : top + 4, left : left + 4] @ FROM_IMAGE.T)
        out[top : top + 2, left : left + 2] = TO_TILE @ products @ TO_TILE.T
        count += products.size
    close(out[:height, :width], right_conv2d(x, weight)[0, 0], "Winograd's result", "as by the definition", 1e-9)
    return count


LAYERS = [[(3, 1)], [(3, 1)] * 2, [(3, 2), (3, 1)], [(3, 1), (2, 2), (3, 1)], [(1, 2), (5, 1)]]
MORE_LAYERS = [[(2, 3), (2, 2), (3, 3)], [(3, 1), (2, 2)] * 3, []]

test_systems = table(
    ("conv_flops", "a multiplication and an addition for each turn of the innermost loop"),
    *each("conv_flops((3, 3, 5, 4), (4, 3, 3, 3), 1, 1); conv_flops((1, 2, 7, 6), (3, 2, 2, 2), (2, 2))", 0, None),
    *each("conv_flops((1, 4, 5, 5), (4, 1, 3, 3), 1, 1); conv_flops((1, 2, 3, 4), (1, 2, 2, 2))", 0, None),
    *each("conv_flops((3, 1, 6, 9), (2, 1, 1, 5), (2, 3), (0, 2)); conv_flops((2, 4, 4, 4), (6, 2, 1, 1), 3)", 0, None),
    ("column_bytes", "as nbytes of the columns has it"),
    *each("column_bytes((2, 3, 8, 7), 3, 1, 1); column_bytes((1, 2, 9, 6), (2, 3), (3, 1), (1, 2), 8)", 0, None),
    *each("column_bytes((8, 4, 16, 16), 5, 2); column_bytes((2, 4, 5, 5), 1, 2, 0, 8)", 0, None),
    ask("column_bytes((2, 3, 8, 8), 3)", 0, None),
    ("receptive_field", "from the first pixel of a row that changes the result to the last one"),
    *(ask(f"receptive_field({layers})", 0, None) for layers in LAYERS + MORE_LAYERS),
    ("separable_cost", "its parameters, its multiplications and additions"),
    *each("separable_cost(3, 4, 3, 25); separable_cost(4, 2, 2, 16); separable_cost(1, 5, 3, 9)", 0, None),
    ask("separable_cost(6, 6, 1, 4)", 0, None),
    ("winograd_products", "as many as the algorithm needs, whose result is right"),
    *each("winograd_products(2, 2); winograd_products(4, 6); winograd_products(5, 3)", 0, None),
    *each("winograd_products(1, 1); winograd_products(8, 7); winograd_products(16, 1)", 0, None),
)
