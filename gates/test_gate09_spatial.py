"""Gate 09: convolution, pooling and batch normalisation."""

import statistics
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from timeit import default_timer
from typing import Any

import numpy as np

from tinytorch import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Flatten,
    MaxPool2d,
    Tensor,
    col2im,
    conv2d_naive,
    im2col,
    set_backend,
)
from tinytorch.core.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from tinytorch.core.normalization import batch_statistics
from tinytorch.core.windows import output_size, window_views
from tinytorch.systems.spatial import column_bytes, conv_flops, receptive_field, separable_cost, winograd_products
from workshop.checks import close, equal, exercise, holds, raises
from workshop.probes import gradients_match, through_door


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


# What is expected: plain loops over the places where a window stands

PAIRS = ((2, 3), (2, 1), (1, 2))  # kernel, stride and padding, the height's unlike the width's
SETTINGS = [((k, k), (s, s), (p, p)) for k in (1, 2, 3, 5) for s in (1, 2, 3) for p in (0, 1, 2)] + [PAIRS]
GROUPS = ((1, 3, 4), (2, 4, 6), (3, 3, 3), (2, 2, 6))  # groups, channels in and out


def padded(x: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def starts(length: int, kernel: int, stride: int) -> list[int]:
    """Where a window starts, along one side of a padded image."""
    found, start = [], 0
    while start + kernel <= length:
        found.append(start)
        start += stride
    return found


def places(size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int]) -> Iterator[tuple[int, int, Any]]:
    """For each place of the window: where its result stands, and the index of what it sees."""
    for y, top in enumerate(starts(size[0], kernel[0], stride[0])):
        for x, left in enumerate(starts(size[1], kernel[1], stride[1])):
            yield y, x, (..., slice(top, top + kernel[0]), slice(left, left + kernel[1]))


def empty_result(x: np.ndarray, channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> np.ndarray:
    rows, columns = (len(starts(n, k, s)) for n, k, s in zip(x.shape[2:], kernel, stride))
    return np.zeros((len(x), channels, rows, columns), x.dtype)


def ungrouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """Weights of the same convolution in one group: zero between the groups."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), inputs * groups, *weight.shape[2:]))
    for g in range(groups):
        full[g * outputs : (g + 1) * outputs, g * inputs : (g + 1) * inputs] = weight[g * outputs : (g + 1) * outputs]
    return full


def convolved(
    x: np.ndarray, weight: np.ndarray, bias: Any = 0.0, stride: Any = (1, 1), padding: Any = (0, 0), groups: int = 1
) -> np.ndarray:
    full, image = ungrouped(weight, groups), padded(x, padding)
    out = empty_result(image, len(weight), weight.shape[2:], stride)
    for i, j, seen in places(image.shape[2:], weight.shape[2:], stride):
        out[:, :, i, j] = np.tensordot(image[seen], full, ((1, 2, 3), (1, 2, 3))) + bias
    return out


def convolution_gradients(
    x: np.ndarray, weight: np.ndarray, upstream: np.ndarray, stride: Any, padding: Any, groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Of x and of the weight: each window sends its share of `upstream` to what it has seen, and to the weights."""
    full, image = ungrouped(weight, groups), padded(x, padding)
    d_image, d_full = np.zeros_like(image), np.zeros_like(full)
    for i, j, seen in places(image.shape[2:], weight.shape[2:], stride):
        d_image[seen] += np.tensordot(upstream[:, :, i, j], full, (1, 0))
        d_full += np.tensordot(upstream[:, :, i, j], image[seen], (0, 0))
    outputs, inputs = len(weight) // groups, weight.shape[1]
    own = [d_full[g * outputs : (g + 1) * outputs, g * inputs : (g + 1) * inputs] for g in range(groups)]
    (ph, pw), (height, width) = padding, x.shape[2:]
    return d_image[:, :, ph : ph + height, pw : pw + width], np.concatenate(own)


def seven_loops(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Convolution with 3 × 3 windows, stride 1 and padding 1, number by number."""
    image, out = padded(x, (1, 1)), np.zeros((len(x), len(weight), *x.shape[2:]), x.dtype)
    for n in range(len(x)):
        for o in range(len(weight)):
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    total = 0.0
                    for c in range(x.shape[1]):
                        for a in range(3):
                            for b in range(3):
                                total += image[n, c, i + a, j + b] * weight[o, c, a, b]
                    out[n, o, i, j] = total
    return out


def layer_with(weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, groups: int = 1) -> Conv2d:
    """A Conv2d that holds these Tensors, or Tensors made of these arrays."""
    weight = weight if isinstance(weight, Tensor) else Tensor(weight)
    channels = weight.shape[1] * groups
    layer = Conv2d(channels, weight.shape[0], weight.shape[2:], stride, padding, groups, bias=bias is not None)
    layer.weight = weight
    if bias is not None:
        layer.bias = bias if isinstance(bias, Tensor) else Tensor(bias)
    return layer


def every_convolution() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any], str]]:
    """x, weight, bias and settings in all combinations, and the words for them. Images of 7 × 6, in float64."""
    for groups, channels, outputs in GROUPS:
        for kernel, stride, padding in SETTINGS:
            x, weight = numbers(2, channels, 7, 6), numbers(outputs, channels // groups, *kernel, seed=1)
            settings = {"stride": stride, "padding": padding, "groups": groups}
            given = (
                f"x (2, {channels}, 7, 6), weight {weight.shape}, stride {stride}, padding {padding}, groups {groups}"
            )
            yield x, weight, numbers(outputs, seed=2), settings, given


# Windows


@exercise("output_size")
def test_how_often_a_window_fits() -> None:
    """as often as it can be put down, counted by putting it down"""
    for size in (5, 6, 7, 8, 32):
        for kernel in (1, 2, 3, 5):
            for stride in (1, 2, 3):
                for padding in (0, 1, 2):
                    count = len(starts(size + 2 * padding, kernel, stride))
                    given = f"output_size({size}, kernel_size={kernel}, stride={stride}, padding={padding})"
                    close(np.array(output_size(size, kernel, stride, padding)), (count, count), "OH, OW", given)
    close(np.array(output_size(4, 3)), (2, 2), "OH, OW", "output_size(4, 3)")


@exercise("output_size")
def test_height_and_width_are_told_apart() -> None:
    """pairs are (height, width), for each of the four"""
    for size, kernel, stride, padding in (
        ((9, 5), 3, 1, 0),
        (8, (1, 4), 1, 0),
        (9, 2, (3, 1), 0),
        (4, 2, 1, (0, 2)),
        ((10, 7), (3, 2), (2, 3), (1, 0)),
    ):
        full = [value if isinstance(value, tuple) else (value, value) for value in (size, kernel, stride, padding)]
        count = tuple(len(starts(n + 2 * p, k, s)) for n, k, s, p in zip(*full))
        close(
            np.array(output_size(size, kernel, stride, padding)),
            count,
            "OH, OW",
            f"output_size({size}, {kernel}, {stride}, {padding})",
        )


@exercise("output_size")
def test_a_window_that_does_not_fit() -> None:
    """is a ValueError that names the window and the image; one that just fits is none"""
    close(np.array(output_size((3, 5), (3, 5))), (1, 1), "OH, OW", "output_size((3, 5), (3, 5))")
    close(
        np.array(output_size((1, 3), 5, padding=(2, 1), stride=3)),
        (1, 1),
        "OH, OW",
        "output_size((1, 3), 5, padding=(2, 1), stride=3)",
    )
    raises(ValueError, lambda: output_size((4, 9), 5), "output_size((4, 9), 5)", ["(5, 5)", "(4, 9)"])
    raises(
        ValueError, lambda: output_size((9, 4), 5, stride=3), "output_size((9, 4), 5, stride=3)", ["(5, 5)", "(9, 4)"]
    )
    raises(ValueError, lambda: output_size((2, 2), 5, padding=1), "output_size((2, 2), 5, padding=1)", ["(5, 5)"])
    for bad in (0, -1, (3,), "3", 1.5):
        raises(ValueError, lambda: output_size((9, 9), bad), f"output_size((9, 9), {bad!r})", ["kernel_size"])
    raises(ValueError, lambda: output_size((9, 9), 3, stride=0), "output_size((9, 9), 3, stride=0)", ["stride"])
    raises(ValueError, lambda: output_size((9, 9), 3, padding=-1), "output_size((9, 9), 3, padding=-1)", ["padding"])


@exercise("window_views")
def test_what_the_windows_see() -> None:
    """view i · KW + j holds what each window sees in its row i and column j"""
    for kernel, stride, x in (
        (2, 1, numbers(1, 1, 3, 3)),
        (3, 2, numbers(2, 3, 8, 7)),
        ((2, 3), (3, 2), numbers(2, 3, 8, 9)),
        (1, 2, numbers(1, 2, 5, 4)),
        (2, 2, numbers(2, 1, 9, 3).transpose(0, 1, 3, 2)),
        (3, 1, numbers(0, 2, 4, 4)),
    ):
        (kh, kw), (sh, sw) = (value if isinstance(value, tuple) else (value, value) for value in (kernel, stride))
        given = f"window_views(images {x.shape}, {kernel}, {stride})"
        views = list(window_views(x, kernel, stride))
        equal(len(views), kh * kw, "number of views", given)
        for number, view in enumerate(views):
            expected = empty_result(x, x.shape[1], (kh, kw), (sh, sw))
            for y, column, seen in places(x.shape[2:], (kh, kw), (sh, sw)):
                expected[:, :, y, column] = x[seen][:, :, number // kw, number % kw]
            close(view, expected, f"view {number}", given)


@exercise("window_views")
def test_views_are_no_copies() -> None:
    """what is written into a view stands in the images, and what stands in the images is seen"""
    images = np.zeros((1, 1, 3, 4))
    views = window_views(images, (2, 2))
    for view in views:
        view += 1.0
    given = "1 added to each of the window_views(zeros (1, 1, 3, 4), (2, 2))"
    close(images[0, 0], [[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]], "images", given)
    raises(ValueError, lambda: window_views(images, 4), "window_views(images (1, 1, 3, 4), 4)", ["(4, 4)"])


# Convolution, as defined


@exercise("conv2d_naive")
def test_the_definition_by_hand() -> None:
    """a window is not turned over: 1, 10, 100, 1000 stand where they stood"""
    x, weight = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    given = "x = 0 … 8 as (1, 1, 3, 3), weight [[1, 10], [100, 1000]]"
    close(conv2d_naive(x, weight), [[[[4310, 5421], [7643, 8754]]]], "conv2d_naive(x, weight)", given)
    close(conv2d_naive(x, weight, np.array([0.5])), [[[[4310.5, 5421.5], [7643.5, 8754.5]]]], "with bias 0.5", given)
    close(conv2d_naive(x, weight, padding=2, stride=6), [[[[0]]]], "with padding 2, stride 6", given)
    expected = convolved(x, weight, padding=(1, 1))
    close(conv2d_naive(x, weight, padding=1), expected, "with padding 1", given)


@exercise("conv2d_naive")
def test_the_definition_in_all_settings() -> None:
    """strides, paddings, groups, and sizes that do not divide"""
    for kernel, stride, padding in (
        ((3, 3), (2, 2), (1, 1)),
        ((2, 2), (3, 3), (2, 2)),
        ((1, 1), (2, 2), (0, 0)),
        PAIRS,
    ):
        x, weight, bias = numbers(2, 2, 4, 5), numbers(3, 2, *kernel, seed=1), numbers(3, seed=2)
        given = f"x {x.shape}, weight {weight.shape}, stride {stride}, padding {padding}"
        expected = convolved(x, weight, bias, stride, padding)
        close(conv2d_naive(x, weight, bias, stride, padding), expected, "out", given, 1e-9, np.float64)
    for groups, channels, outputs in GROUPS:
        x, weight = numbers(1, channels, 3, 3), numbers(outputs, channels // groups, 2, 2, seed=1)
        given = f"x {x.shape}, weight {weight.shape}, groups {groups}"
        expected = convolved(x, weight, groups=groups)
        close(conv2d_naive(x, weight, groups=groups), expected, "out", given, 1e-9, np.float64)


@exercise("conv2d_naive")
def test_the_definition_keeps_dtypes() -> None:
    """float32 stays float32, an empty batch stays empty, and nothing that went in is changed"""
    x, weight = numbers(1, 1, 3, 3).astype(np.float32), numbers(1, 1, 2, 2).astype(np.float32)
    given = "x (1, 1, 3, 3), weight (1, 1, 2, 2), both float32"
    expected = convolved(x, weight)
    close(conv2d_naive(x, weight), expected, "out", given, dtype=np.float32)
    close(conv2d_naive(Tensor(x), Tensor(weight)), expected, "out", f"{given}, as Tensors", dtype=np.float32)
    bias = np.array([2.0])
    conv2d_naive(x, weight, bias, padding=1)
    equal(bias, np.array([2.0]), "the bias, afterwards", given)
    equal(conv2d_naive(x[:0], weight, padding=1).shape, (0, 1, 4, 4), "out.shape", "x (0, 1, 3, 3), padding 1")


@exercise("conv2d_naive")
def test_the_definition_refuses() -> None:
    """shapes that do not fit, by a ValueError that names them"""
    x, weight = np.zeros((1, 4, 5, 5)), np.zeros((2, 4, 3, 3))
    for images, weights, groups, mentions in (
        (x[0], weight, 1, [(4, 5, 5)]),
        (x, weight[:, :3], 1, [x.shape, (2, 3, 3, 3)]),
        (x, weight, 2, ["2"]),
        (x, weight[:, :1], 4, ["4"]),
    ):
        given = f"x {images.shape}, weight {weights.shape}, groups {groups}"
        raises(ValueError, lambda: conv2d_naive(images, weights, groups=groups), given, mentions)
    raises(ValueError, lambda: conv2d_naive(x[:, :, :2], weight), "x (1, 4, 2, 5), weight (2, 4, 3, 3)", ["(3, 3)"])


# Columns


def columns_of(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> np.ndarray:
    image = padded(x, padding)
    seen = [
        image[window].reshape(len(x), x.shape[1] * kernel[0] * kernel[1])
        for _, _, window in places(image.shape[2:], kernel, stride)
    ]
    return np.stack(seen, axis=-1)


@exercise("im2col")
def test_columns_hold_what_windows_see() -> None:
    """row c · KH · KW + i · KW + j, column y · OW + x"""
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    close(im2col(x, 2), columns_of(x, (2, 2), (1, 1), (0, 0)), "im2col(x, 2)", "x = 0 … 23 as (1, 2, 3, 4)")
    for kernel, stride, padding in SETTINGS:
        x = numbers(2, 3, 7, 6)
        given = f"im2col(x {x.shape}, kernel {kernel}, stride {stride}, padding {padding})"
        close(
            im2col(x, kernel, stride, padding),
            columns_of(x, kernel, stride, padding),
            "columns",
            given,
            1e-12,
            np.float64,
        )


@exercise("im2col")
def test_columns_keep_dtypes_and_images() -> None:
    """any dtype, any N, any order in memory; x is not changed"""
    x = numbers(2, 2, 4, 5)
    for name, images in (
        ("float32", x.astype(np.float32)),
        ("uint8", np.arange(80, dtype=np.uint8).reshape(x.shape)),
        ("not contiguous", x.transpose(0, 1, 3, 2)),
        ("Fortran's order", np.asfortranarray(x)),
        ("one sample", x[:1]),
        ("no samples", x[:0]),
    ):
        before = images.copy()
        expected = columns_of(before, (3, 3), (1, 1), (1, 1))
        close(
            im2col(images, 3, padding=1),
            expected,
            "im2col(x, 3, padding=1)",
            f"x {images.shape}, {name}",
            dtype=images.dtype,
        )
        equal(images, before, "x, afterwards", name)
        flat = images.reshape(*images.shape[:2], 20)
        close(im2col(images, 1), flat, "im2col(x, 1)", f"x {images.shape}, {name}", dtype=images.dtype)
    close(im2col(Tensor(x), 2), columns_of(x, (2, 2), (1, 1), (0, 0)), "im2col(x, 2)", "x (2, 2, 4, 5), a Tensor")


@exercise("im2col")
def test_columns_of_something_else() -> None:
    """no image, or one that is too small, is a ValueError"""
    raises(ValueError, lambda: im2col(np.zeros((3, 5, 5)), 2), "im2col(x (3, 5, 5), 2)", [(3, 5, 5)])
    raises(ValueError, lambda: im2col(np.zeros((1, 3, 2, 5)), 3), "im2col(x (1, 3, 2, 5), 3)", [(3, 3)])


@exercise("col2im")
def test_every_number_goes_back() -> None:
    """to the place in the image where im2col took it from; where windows overlap, numbers add up"""
    columns = np.arange(1.0, 9.0).reshape(1, 4, 2)
    expected, given = [[[[1, 2 + 3, 4], [5, 6 + 7, 8]]]], "col2im(1 … 8 as (1, 4, 2), shape (1, 1, 2, 3), kernel 2)"
    close(col2im(columns, (1, 1, 2, 3), 2), expected, "image", given)
    for kernel, stride, padding in SETTINGS:
        shape = (2, 3, 7, 6)
        image = np.zeros(padded(np.zeros(shape), padding).shape)
        inside = list(places(image.shape[2:], kernel, stride))
        columns = numbers(2, 3 * kernel[0] * kernel[1], len(inside))
        before = columns.copy()
        for number, (_, _, seen) in enumerate(inside):
            image[seen] += columns[:, :, number].reshape(2, 3, *kernel)
        expected = image[:, :, padding[0] : padding[0] + 7, padding[1] : padding[1] + 6]
        given = f"col2im(columns {columns.shape}, {shape}, kernel {kernel}, stride {stride}, padding {padding})"
        close(col2im(columns, shape, kernel, stride, padding), expected, "image", given, 1e-12, np.float64)
        equal(columns, before, "the columns, afterwards", given)


@exercise("col2im")
def test_images_keep_dtypes() -> None:
    """float32 stays float32, no samples stay no samples, and columns that do not fit are refused"""
    ones = np.ones((1, 9, 9), np.float32)
    counted = [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    close(
        col2im(ones, (1, 1, 3, 3), 3, padding=1)[0, 0],
        counted,
        "image",
        "ones (1, 9, 9), kernel 3, padding 1",
        dtype=np.float32,
    )
    equal(col2im(ones[:0], (0, 1, 3, 3), 3, padding=1).shape, (0, 1, 3, 3), "shape", "columns (0, 9, 9)")
    for wrong in (ones[:, :, :6], ones[:, :3], ones.reshape(1, 81)):
        raises(
            ValueError,
            lambda: col2im(wrong, (1, 1, 3, 3), 3, padding=1),
            f"columns {wrong.shape}",
            [wrong.shape, (1, 9, 9)],
        )


# Convolution as a matrix product, and its gradients, of arrays


@exercise("conv2d")
def test_convolution_in_all_settings() -> None:
    """kernels 1, 2, 3, 5, strides 1 to 3, paddings 0 to 2, groups 1, 2 and depthwise, to 1e-9 in float64"""
    for x, weight, _, settings, given in every_convolution():
        got = conv2d(x, weight, **settings)
        close(got, convolved(x, weight, **settings), "conv2d(x, weight, …)", given, 1e-9, np.float64)


@exercise("conv2d")
def test_convolution_of_any_batch() -> None:
    """none, one, more than fit into a block; float32 for float32; in any order in memory; nothing is changed"""
    weight, settings = numbers(2, 4, 3, 3), {"stride": (1, 1), "padding": (1, 1), "groups": 1}
    for shape in ((0, 4, 5, 5), (1, 4, 5, 5), (40, 4, 48, 48)):
        x = numbers(*shape)
        got, given = conv2d(x, weight, **settings), f"x {shape}, weight (2, 4, 3, 3), padding (1, 1)"
        close(got, convolved(x, weight, padding=(1, 1)), "conv2d(x, weight, …)", given, 1e-9, np.float64)
    x = numbers(3, 5, 6, 4).transpose(0, 3, 2, 1)
    before = x.copy(), weight.copy()
    got = conv2d(x, weight, **settings)
    close(got, convolved(x, weight, padding=(1, 1)), "conv2d(x, weight, …)", "x (3, 4, 6, 5), not contiguous", 1e-9)
    equal(x, before[0], "x, afterwards", "conv2d(x, weight, …)")
    equal(weight, before[1], "weight, afterwards", "conv2d(x, weight, …)")
    small = x.astype(np.float32), weight.astype(np.float32)
    got = conv2d(*small, **settings)
    close(got, convolved(x, weight, padding=(1, 1)), "conv2d(x, weight, …)", "both float32", 1e-5, np.float32)


@exercise("conv2d")
def test_convolution_refuses_small_images() -> None:
    """a window that does not fit is a ValueError that names it"""
    x, weight = numbers(1, 3, 4, 8), numbers(4, 3, 5, 5)
    given = "x (1, 3, 4, 8), weight (4, 3, 5, 5)"
    raises(ValueError, lambda: conv2d(x, weight, (1, 1), (0, 0), 1), given, ["(5, 5)"])


@exercise("conv2d")
def test_convolution_is_fast() -> None:
    """at least twenty times as fast as seven loops in Python, after equal results"""
    x, weight = numbers(1, 8, 12, 12).astype(np.float32), numbers(16, 8, 3, 3).astype(np.float32)
    settings: Any = ((1, 1), (1, 1), 1)
    close(conv2d(x, weight, *settings), seven_loops(x, weight), "out", "x (1, 8, 12, 12), 16 channels, padding 1", 1e-4)

    def seconds(action: Callable[[], Any], times: int) -> float:
        start = default_timer()
        for _ in range(times):
            action()
        return (default_timer() - start) / times

    small = x[:, :2]  # a quarter of the work, so that the gate need not wait
    ratios = [
        4 * seconds(lambda: seven_loops(small, weight[:, :2]), 1) / seconds(lambda: conv2d(x, weight, *settings), 3)
        for _ in range(3)
    ]
    ratio = statistics.median(ratios)
    holds(
        ratio >= 20,
        "at least 20 times as fast as seven loops",
        f"{ratio:.1f} times as fast",
        "x (1, 8, 12, 12), 16 channels",
    )


def upstream_of(x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any) -> np.ndarray:
    """Random numbers of the shape that a convolution's result has."""
    shape = empty_result(padded(x, padding), len(weight), weight.shape[2:], stride).shape
    return numbers(*shape, seed=3)


@exercise("conv2d_input_gradient")
def test_gradient_of_the_images() -> None:
    """to 1e-8 in float64, in all settings"""
    for x, weight, _, settings, given in every_convolution():
        grad = upstream_of(x, weight, settings["stride"], settings["padding"])
        got = conv2d_input_gradient(grad, x.shape, weight, **settings)
        expected, _ = convolution_gradients(x, weight, grad, **settings)
        close(got, expected, "the gradient of x", given, 1e-8, np.float64)


@exercise("conv2d_input_gradient")
def test_gradient_of_any_batch_of_images() -> None:
    """none, one, many; also of small images in large batches"""
    for shape, kernel in (((0, 4, 5, 5), 3), ((1, 4, 5, 5), 3), ((40, 4, 48, 48), 3), ((10, 1, 2, 2), 2)):
        x, weight = numbers(*shape), numbers(2, shape[1], kernel, kernel)
        padding = (kernel // 2 if kernel == 3 else 0,) * 2
        grad = upstream_of(x, weight, (1, 1), padding)
        before = grad.copy()
        got = conv2d_input_gradient(grad, shape, weight, (1, 1), padding, 1)
        expected, _ = convolution_gradients(x, weight, grad, (1, 1), padding)
        given = f"x {shape}, weight {weight.shape}, padding {padding}"
        close(got, expected, "the gradient of x", given, 1e-8, np.float64)
        equal(grad, before, "grad, afterwards", given)


@exercise("conv2d_input_gradient")
def test_gradient_of_the_images_in_float32() -> None:
    """float32 for float32"""
    x, weight = numbers(2, 4, 5, 5), numbers(2, 4, 3, 3)
    grad = upstream_of(x, weight, (1, 1), (0, 0)).astype(np.float32)
    got = conv2d_input_gradient(grad, x.shape, weight.astype(np.float32), (1, 1), (0, 0), 1)
    expected, _ = convolution_gradients(x, weight, grad, (1, 1), (0, 0))
    close(got, expected, "the gradient of x", "grad and weight of float32", 1e-5, np.float32)


@exercise("conv2d_weight_gradient")
def test_gradient_of_the_weights() -> None:
    """to 1e-8 in float64, in all settings"""
    for x, weight, _, settings, given in every_convolution():
        grad = upstream_of(x, weight, settings["stride"], settings["padding"])
        got = conv2d_weight_gradient(grad, x, weight.shape, **settings)
        _, expected = convolution_gradients(x, weight, grad, **settings)
        close(got, expected, "the gradient of the weight", given, 1e-8, np.float64)


@exercise("conv2d_weight_gradient")
def test_gradient_of_the_weights_from_any_batch() -> None:
    """zeros from none, one, many, also of small images"""
    for shape, kernel in (((0, 4, 5, 5), 3), ((1, 4, 5, 5), 3), ((40, 4, 48, 48), 3), ((10, 1, 2, 2), 2)):
        x, weight = numbers(*shape), numbers(2, shape[1], kernel, kernel)
        padding = (kernel // 2 if kernel == 3 else 0,) * 2
        grad = upstream_of(x, weight, (1, 1), padding)
        before = grad.copy()
        got = conv2d_weight_gradient(grad, x, weight.shape, (1, 1), padding, 1)
        _, expected = convolution_gradients(x, weight, grad, (1, 1), padding)
        given = f"x {shape}, weight {weight.shape}, padding {padding}"
        close(got, expected, "the gradient of the weight", given, 1e-8, np.float64)
        equal(grad, before, "grad, afterwards", given)


@exercise("conv2d_weight_gradient")
def test_gradient_of_the_weights_in_float32() -> None:
    """float32 for float32, also from an empty batch"""
    x, weight = numbers(2, 3, 5, 5).astype(np.float32), numbers(2, 3, 3, 3).astype(np.float32)
    for batch in (x, x[:0]):
        grad = upstream_of(batch, weight, (1, 1), (0, 0)).astype(np.float32)
        got = conv2d_weight_gradient(grad, batch, weight.shape, (1, 1), (0, 0), 1)
        _, expected = convolution_gradients(batch, weight, grad, (1, 1), (0, 0))
        close(got, expected, "the gradient of the weight", f"x {batch.shape} float32", 1e-5, np.float32)


# The layer


class Counting:
    """A backend that convolves by the gate's own loops, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.matmul(a, b)

    def conv2d(self, x: np.ndarray, weight: np.ndarray, stride: Any, padding: Any, groups: int) -> np.ndarray:
        self.asked.append((x.shape, weight.shape, stride, padding, groups))
        return convolved(x, weight, 0.0, stride, padding, groups).astype(np.result_type(x, weight))

    def conv2d_input_gradient(self, grad: Any, x_shape: Any, weight: Any, *settings: Any) -> np.ndarray:
        return convolution_gradients(np.zeros(x_shape), weight, grad, *settings)[0].astype(grad.dtype)

    def conv2d_weight_gradient(self, grad: Any, x: Any, weight_shape: Any, *settings: Any) -> np.ndarray:
        return convolution_gradients(x, np.zeros(weight_shape), grad, *settings)[1].astype(grad.dtype)


@contextmanager
def counting() -> Iterator[Counting]:
    """A backend of the gate's own, in use for a while."""
    backend = Counting()
    before = set_backend(backend)
    try:
        yield backend
    finally:
        set_backend(before)


@exercise("Conv2d.forward")
def test_the_backend_is_asked() -> None:
    """for each convolution, with arrays, stride and padding as pairs, and groups"""
    x, layer = Tensor(numbers(2, 4, 7, 6).astype(np.float32)), Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2)
    layer.bias.data[...] = np.arange(6.0)
    with counting() as backend:
        out = layer(x)
        again = layer(x)
    given = "Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2), x (2, 4, 7, 6), a backend that counts"
    equal(len(backend.asked), 2, "calls of the backend's conv2d, after layer(x) and layer(x)", given)
    expected = ((2, 4, 7, 6), (6, 2, 3, 2), (2, 1), (1, 0), 2)
    equal(tuple(backend.asked[0]), expected, "x.shape, weight.shape, stride, padding, groups of the call", given)
    expected = convolved(x.data, layer.weight.data, np.arange(6.0), (2, 1), (1, 0), 2)
    close(out, expected, "out", given, 1e-5, np.float32)
    close(again, expected, "out of the second call", given, 1e-5, np.float32)


@exercise("Conv2d.forward")
def test_a_convolution_as_it_is_born() -> None:
    """numbers for kernel, stride and padding; float32; the bias in it; no bias if none is wanted"""
    layer = Conv2d(3, 4, 3, stride=2, padding=1)
    layer.bias.data[...] = [1.0, -2.0, 3.0, 4.0]
    x = numbers(2, 3, 6, 5).astype(np.float32)
    bare, integers = Conv2d(3, 4, 1, bias=False), np.arange(90).reshape(1, 3, 6, 5)
    with counting():
        got, without, of_integers, of_none = (
            layer(Tensor(x)),
            bare(Tensor(x)),
            bare(Tensor(integers)),
            layer(Tensor(x[:0])),
        )
    expected = convolved(x, layer.weight.data, layer.bias.data, (2, 2), (1, 1))
    given = "Conv2d(3, 4, 3, stride=2, padding=1), x (2, 3, 6, 5) float32"
    close(got, expected, "out", given, 1e-5, np.float32)
    close(without, convolved(x, bare.weight.data), "out", "Conv2d(3, 4, 1, bias=False)", 1e-5, np.float32)
    expected = convolved(integers.astype(float), bare.weight.data)
    close(of_integers, expected, "out", "Conv2d(3, 4, 1, bias=False), x of int64", 1e-5, np.float32)
    equal(of_none.shape, (0, 4, 3, 3), "out.shape", "Conv2d(3, 4, 3, stride=2, padding=1), x (0, 3, 6, 5)")
    close(layer.bias, [1.0, -2.0, 3.0, 4.0], "the bias, afterwards", given)


@exercise("Conv2d.forward")
def test_convolution_is_recorded() -> None:
    """the result comes through the door, made of x, weight and bias"""
    layer, x = Conv2d(2, 2, 2), leaf(numbers(1, 2, 3, 3))
    with counting():
        through_door(lambda: layer(x), "Conv2d", [x, layer.weight, layer.bias], given="Conv2d(2, 2, 2)")
        bare = Conv2d(2, 2, 2, bias=False)
        through_door(lambda: bare(x), "Conv2d", [x, bare.weight], given="Conv2d(2, 2, 2, bias=False)")


@exercise("Conv2d.forward")
def test_convolution_refuses() -> None:
    """what are no images, and other numbers of channels"""
    layer = Conv2d(3, 4, 3, padding=1)
    with counting():
        for shape in ((3, 8, 8), (1, 4, 8, 8), (1, 1, 8, 8), (8, 3)):
            x = Tensor(np.zeros(shape))
            raises(ValueError, lambda: layer(x), f"Conv2d(3, 4, 3, padding=1), x {shape}", ["3", shape])


@exercise("Conv2d.forward")
def test_gradients_of_convolution_by_differences() -> None:
    """as by changing each number of x, weight and bias a little"""
    for groups, channels, outputs in GROUPS:
        arrays = numbers(2, channels, 4, 3), numbers(outputs, channels // groups, 3, 2), numbers(outputs, seed=1)
        given = f"Conv2d({channels}, {outputs}, (3, 2), (2, 1), (1, 0), groups={groups}): x, y weight, z bias"

        def convolution(x: Tensor, weight: Tensor, bias: Tensor, groups: int = groups) -> Tensor:
            return layer_with(weight, bias, (2, 1), (1, 0), groups)(x)

        with counting():
            gradients_match(convolution, *arrays, given=given, tolerance=1e-8, eps=1e-2)


@exercise("Conv2d.forward")
def test_gradients_of_a_convolution_add_up() -> None:
    """in x, weight and bias over two passes; what requires none gets none"""
    x, layer = leaf(numbers(2, 3, 5, 5), np.float32), Conv2d(3, 2, 3)
    grad = numbers(2, 2, 3, 3, seed=3)
    d_x, d_weight = convolution_gradients(x.data, layer.weight.data, grad, (1, 1), (0, 0))
    given = "Conv2d(3, 2, 3), x (2, 3, 5, 5) float32, two passes"
    with counting():
        for _ in range(2):
            layer(x).backward(grad.astype(np.float32))
        frozen, pictures = layer_with(layer.weight.detach()), Tensor(x.data)
        frozen(x).backward(grad.astype(np.float32))
        layer(pictures).backward(grad.astype(np.float32))
    close(x.grad, 3 * d_x, "x.grad after a third pass, with a weight that requires none", given, 1e-5, np.float32)
    close(
        layer.weight.grad, 3 * d_weight, "weight.grad after a pass with x that requires none", given, 1e-5, np.float32
    )
    close(layer.bias.grad, 3 * grad.sum(axis=(0, 2, 3)), "bias.grad", given, 1e-5, np.float32)
    equal(frozen.weight.grad, None, "weight.grad", "a weight that requires no gradient")
    equal(pictures.grad, None, "x.grad", "x that requires no gradient")


@exercise("Flatten.forward")
def test_flatten() -> None:
    """(N, C, H, W) becomes (N, C · H · W) in row-major order, with its gradient; also no samples, also one axis"""
    for shape in ((2, 3, 2, 2), (1, 2, 1, 3), (2, 5), (3,), (0, 2, 3, 3)):
        x = numbers(*shape)
        expected = x.reshape(shape[0], int(np.prod(shape[1:])))
        close(Flatten()(Tensor(x)), expected, "out", f"Flatten()(x), x {shape}", dtype=np.float64)
    gradients_match(Flatten(), numbers(2, 2, 1, 3), given="Flatten()(x), x (2, 2, 1, 3)")
    raises(ValueError, lambda: Flatten()(Tensor(1.0)), "Flatten()(Tensor(1.0))")


# Pooling

POOLS = [
    ((2, 2), None),
    ((3, 3), (2, 2)),
    ((2, 2), (1, 1)),
    ((1, 1), (2, 2)),
    ((3, 3), (1, 1)),
    ((2, 3), (3, 1)),
    ((2, 2), (3, 3)),
]


def pooled(x: np.ndarray, kernel: tuple[int, int], stride: Any, reduce: Callable[..., Any]) -> np.ndarray:
    out = empty_result(x, x.shape[1], kernel, stride or kernel)
    for i, j, seen in places(x.shape[2:], kernel, stride or kernel):
        out[:, :, i, j] = reduce(x[seen], axis=(2, 3))
    return out


def first_largest(window: np.ndarray) -> np.ndarray:
    """(N, C, KH, KW) of zeros, with a 1 where each window's largest number stands first, row by row."""
    flat = window.reshape(*window.shape[:2], window.shape[2] * window.shape[3])
    chosen = np.zeros_like(flat)
    np.put_along_axis(chosen, flat.argmax(axis=-1)[..., None], 1.0, axis=-1)
    return chosen.reshape(window.shape)


def pooling_gradient(
    x: np.ndarray, kernel: tuple[int, int], stride: Any, upstream: np.ndarray, share: Callable[[np.ndarray], Any]
) -> np.ndarray:
    d_x = np.zeros(x.shape)
    for i, j, seen in places(x.shape[2:], kernel, stride or kernel):
        d_x[seen] += upstream[:, :, i, j, None, None] * share(x[seen])
    return d_x


def with_ties(*shape: int) -> np.ndarray:
    """Halves between -1.5 and 1: most windows have several numbers that are the largest."""
    return np.random.default_rng(5).integers(-3, 3, shape) / 2


@exercise("MaxPool2d.forward")
def test_largest_of_each_window() -> None:
    """kernels and strides, overlapping or with gaps; negative numbers; windows that do not reach the end"""
    for kernel, stride in POOLS:
        x = numbers(2, 3, 7, 8) - 3
        given = f"MaxPool2d({kernel}, {stride}), x {x.shape}, all below 1"
        close(MaxPool2d(kernel, stride)(Tensor(x)), pooled(x, kernel, stride, np.max), "out", given, 0, np.float64)
    close(MaxPool2d(2)(Tensor(x)), pooled(x, (2, 2), (2, 2), np.max), "out", "MaxPool2d(2), x (2, 3, 7, 8)", 0)
    close(MaxPool2d(3, 1)(Tensor(x)), pooled(x, (3, 3), (1, 1), np.max), "out", "MaxPool2d(3, 1), x (2, 3, 7, 8)", 0)


@exercise("MaxPool2d.forward")
def test_largest_of_any_batch() -> None:
    """none, one, many; float32 and integers stay; NaN is not lost; no images are refused"""
    for shape in ((0, 2, 4, 4), (1, 2, 4, 4), (20, 8, 50, 50)):
        x = numbers(*shape).astype(np.float32)
        close(
            MaxPool2d(2)(Tensor(x)), pooled(x, (2, 2), None, np.max), "out", f"MaxPool2d(2), x {shape}", 0, np.float32
        )
    x = np.arange(16).reshape(1, 1, 4, 4)[:, :, ::-1]
    tensor = Tensor(x)
    close(MaxPool2d(2)(tensor), [[[[13, 15], [5, 7]]]], "out", "x of int64, upside down", dtype=np.int64)
    equal(tensor.data, np.ascontiguousarray(x), "x, afterwards", "MaxPool2d(2)")
    x = np.where(np.eye(4, k=3) > 0, np.nan, 1.0)[None, None]
    close(MaxPool2d(2)(Tensor(x)), [[[[1.0, np.nan], [1.0, 1.0]]]], "out", "x (1, 1, 4, 4) of ones, NaN in a corner")
    for shape in ((2, 4, 4), (1, 1, 1, 4)):
        raises(ValueError, lambda: MaxPool2d(2)(Tensor(np.zeros(shape))), f"MaxPool2d(2), x {shape}")
    x = leaf(numbers(1, 1, 4, 4))
    through_door(lambda: MaxPool2d(2)(x), "MaxPool2d", [x], given="MaxPool2d(2)")


def pool_gradient(layer: Any, x: Tensor) -> tuple[Any, np.ndarray]:
    out = layer(x)
    upstream = numbers(*out.shape, seed=3)
    sent = upstream.astype(x.dtype)
    before = sent.copy()
    out.backward(sent)
    equal(sent, before, "the upstream gradient, afterwards", type(layer).__name__)
    return x.grad, upstream


@exercise("MaxPool2dBackward.backward")
def test_gradient_goes_to_the_largest() -> None:
    """and nowhere else; windows that overlap add up"""
    for kernel, stride in POOLS:
        x = numbers(2, 3, 7, 8)
        given = f"MaxPool2d({kernel}, {stride}), x {x.shape}"
        got, upstream = pool_gradient(MaxPool2d(kernel, stride), leaf(x))
        close(got, pooling_gradient(x, kernel, stride, upstream, first_largest), "x.grad", given, 1e-12, np.float64)


@exercise("MaxPool2dBackward.backward")
def test_gradient_of_ties() -> None:
    """of several numbers that are the largest, the first one, row by row, gets all of it, as in PyTorch"""
    for kernel, stride in POOLS:
        x = with_ties(2, 3, 7, 8)
        given = f"MaxPool2d({kernel}, {stride}), x {x.shape} with many ties"
        got, upstream = pool_gradient(MaxPool2d(kernel, stride), leaf(x))
        close(got, pooling_gradient(x, kernel, stride, upstream, first_largest), "x.grad", given, 1e-12, np.float64)
    x = leaf(np.zeros((1, 1, 2, 4)))
    MaxPool2d(2)(x).backward(np.array([[[[3.0, 5.0]]]]))
    close(x.grad, [[[[3, 0, 5, 0], [0, 0, 0, 0]]]], "x.grad", "MaxPool2d(2), x zeros (1, 1, 2, 4), upstream [3, 5]")


@exercise("MaxPool2dBackward.backward")
def test_gradient_of_the_largest_of_any_batch() -> None:
    """none, one, many; float32 for float32"""
    for shape in ((0, 2, 4, 4), (1, 2, 4, 4), (20, 8, 50, 50)):
        x = with_ties(*shape)
        got, upstream = pool_gradient(MaxPool2d(2), leaf(x, np.float32))
        expected = pooling_gradient(x, (2, 2), None, upstream, first_largest)
        close(got, expected, "x.grad", f"MaxPool2d(2), x {shape}", 1e-6, np.float32)


@exercise("AvgPool2d.forward")
def test_mean_of_each_window() -> None:
    """kernels and strides; none, one, many; integers as float32"""
    for kernel, stride in POOLS:
        x = numbers(2, 3, 7, 8)
        given = f"AvgPool2d({kernel}, {stride}), x {x.shape}"
        close(AvgPool2d(kernel, stride)(Tensor(x)), pooled(x, kernel, stride, np.mean), "out", given, 1e-12, np.float64)
    close(AvgPool2d(3)(Tensor(x)), pooled(x, (3, 3), None, np.mean), "out", "AvgPool2d(3), x (2, 3, 7, 8)", 1e-12)
    for shape in ((0, 2, 4, 4), (1, 2, 4, 4), (20, 8, 50, 50)):
        x = numbers(*shape).astype(np.float32)
        close(
            AvgPool2d(2)(Tensor(x)),
            pooled(x, (2, 2), None, np.mean),
            "out",
            f"AvgPool2d(2), x {shape}",
            1e-6,
            np.float32,
        )
    x = np.arange(16).reshape(1, 1, 4, 4)
    close(AvgPool2d(2)(Tensor(x)), [[[[2.5, 4.5], [10.5, 12.5]]]], "out", "AvgPool2d(2), x of int64", dtype=np.float32)
    for shape in ((2, 4, 4), (1, 1, 1, 4)):
        raises(ValueError, lambda: AvgPool2d(2)(Tensor(np.zeros(shape))), f"AvgPool2d(2), x {shape}")


@exercise("AvgPool2dBackward.backward")
def test_gradient_is_shared() -> None:
    """equally among the numbers of a window; windows that overlap add up"""
    for kernel, stride in POOLS:
        x = numbers(2, 3, 7, 8)
        given = f"AvgPool2d({kernel}, {stride}), x {x.shape}"
        got, upstream = pool_gradient(AvgPool2d(kernel, stride), leaf(x))
        share = 1 / (kernel[0] * kernel[1])
        close(
            got, pooling_gradient(x, kernel, stride, upstream, lambda window: share), "x.grad", given, 1e-12, np.float64
        )
    for shape in ((0, 2, 4, 4), (1, 2, 4, 4)):
        got, upstream = pool_gradient(AvgPool2d(2), leaf(numbers(*shape), np.float32))
        expected = np.repeat(np.repeat(upstream, 2, axis=2), 2, axis=3) / 4
        close(got, expected, "x.grad", f"AvgPool2d(2), x {shape}", 1e-6, np.float32)


# Batch normalisation


def normalised(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """As while training; for complex numbers too."""
    x = x - x.mean(axis=(0, 2, 3), keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=(0, 2, 3), keepdims=True) + eps)
    return x * weight[:, None, None] + bias[:, None, None]


def by_complex_steps(upstream: np.ndarray, *arrays: np.ndarray, eps: float = 1e-5) -> list[np.ndarray]:
    """Gradients of Σ upstream · normalised(*arrays), exact to the last bits: f(x + ih) = f(x) + ih f'(x), h tiny."""
    gradients = [np.zeros(array.shape) for array in arrays]
    for position, array in enumerate(arrays):
        for index in np.ndindex(array.shape):
            moved = array.astype(complex)
            moved[index] += 1e-30j
            result = normalised(*arrays[:position], moved, *arrays[position + 1 :], eps=eps)
            gradients[position][index] = (result * upstream).sum().imag / 1e-30
    return gradients


def norm_with(weight: Any, bias: Any, **settings: Any) -> BatchNorm2d:
    layer = BatchNorm2d(len(weight), **settings)
    layer.weight, layer.bias = (part if isinstance(part, Tensor) else Tensor(part) for part in (weight, bias))
    return layer


@exercise("batch_statistics")
def test_mean_and_variance_of_a_channel() -> None:
    """over samples and places; the variance divided by the count itself"""
    for shape in ((2, 3, 4, 5), (1, 3, 2, 2), (3, 1, 1, 1), (2, 2, 2, 2), (40, 4, 48, 48)):
        x, given = numbers(*shape) * 3 + 2, f"batch_statistics(x), x {shape}"
        mean, var = batch_statistics(x)
        close(mean, x.mean(axis=(0, 2, 3)), "mean", given, 1e-12, np.float64)
        close(var, x.var(axis=(0, 2, 3)), "var", given, 1e-12, np.float64)


@exercise("batch_statistics")
def test_variance_beside_a_large_mean() -> None:
    """in float32 a mean of 3000 does not drown a variance of 1"""
    x = (numbers(8, 2, 16, 16) + 3000).astype(np.float32)
    mean, var = batch_statistics(x)
    exact = x.astype(np.float64)
    given = "batch_statistics(x), x (8, 2, 16, 16) float32 around 3000"
    close(mean, exact.mean(axis=(0, 2, 3)), "mean", given, 3e-7, np.float32)
    close(var, exact.var(axis=(0, 2, 3)), "var", given, 1e-4, np.float32)


@exercise("BatchNorm2d.forward")
def test_training_takes_the_batch_statistics() -> None:
    """every channel around 0 with variance 1, then times weight plus bias"""
    weight, bias = np.array([1.5, -0.5, 2.0]), np.array([0.5, 1.0, -3.0])
    for shape in ((4, 3, 5, 2), (1, 3, 2, 2), (2, 3, 1, 1), (40, 3, 48, 50)):
        x, given = numbers(*shape) * 3 + 2, f"BatchNorm2d(3), training, x {shape}"
        tensor = Tensor(x)
        close(norm_with(weight, bias)(tensor), normalised(x, weight, bias), "out", given, 1e-9, np.float64)
        equal(tensor.data, x, "x, afterwards", given)
    x = numbers(2, 3, 2, 2) * 1e-3
    expected = normalised(x, weight, bias, eps=0.1)
    close(norm_with(weight, bias, eps=0.1)(Tensor(x)), expected, "out", "BatchNorm2d(3, eps=0.1), small x", 1e-9)
    x = (numbers(4, 2, 8, 8) + 1000).astype(np.float32)
    expected = normalised(x.astype(np.float64), np.ones(2), np.zeros(2))
    close(BatchNorm2d(2)(Tensor(x)), expected, "out", "BatchNorm2d(2), x float32 around 1000", 1e-4, np.float32)


def remembering(dtype: Any = np.float64) -> BatchNorm2d:
    """A layer of two channels that has seen something."""
    layer = norm_with(np.array([1.5, -0.5], dtype), np.array([0.5, 1.0], dtype))
    layer.running_mean.data, layer.running_var.data = np.array([1.0, -2.0], dtype), np.array([4.0, 0.25], dtype)
    return layer


def by_running_statistics(x: np.ndarray) -> np.ndarray:
    """What the layer of `remembering` shall make of x in evaluation."""
    mean, var, weight, bias = (np.array(v)[:, None, None] for v in ([1.0, -2.0], [4.0, 0.25], [1.5, -0.5], [0.5, 1.0]))
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


@exercise("BatchNorm2d.forward")
def test_evaluation_takes_the_running_statistics() -> None:
    """so that a sample's result does not depend on those beside it, and may be a single number"""
    x = numbers(3, 2, 2, 4)
    for dtype in (np.float64, np.float32):
        layer, given = (
            remembering(dtype).eval(),
            f"BatchNorm2d(2) with running mean [1, -2], var [4, 0.25] of {np.dtype(dtype)}",
        )
        near = 1e-9 if dtype == np.float64 else 1e-6  # the arithmetic may be done in the buffers' dtype
        for part in (x[:1, :, :1, :1], x[:1], x, x[:0]):
            close(
                layer(Tensor(part)),
                by_running_statistics(part),
                "out",
                f"{given}, eval(), x {part.shape}",
                near,
                np.float64,
            )


@exercise("BatchNorm2d.forward")
def test_training_can_be_said() -> None:
    """training=True and training=False come before the layer's mode"""
    x, layer = numbers(3, 2, 2, 4), remembering().eval()
    expected = normalised(x, np.array([1.5, -0.5]), np.array([0.5, 1.0]))
    close(layer(Tensor(x), training=True), expected, "out", "a BatchNorm2d(2) after eval(), training=True", 1e-9)
    expected = by_running_statistics(x)
    given = "BatchNorm2d(2) with running mean [1, -2], var [4, 0.25], training=False"
    close(remembering()(Tensor(x), training=False), expected, "out", given, 1e-9)


@exercise("BatchNorm2d.forward")
def test_evaluation_changes_nothing() -> None:
    """the running statistics stay what they are"""
    layer, x, given = (
        remembering().eval(),
        numbers(3, 2, 2, 4),
        "BatchNorm2d(2) with running mean [1, -2], var [4, 0.25], eval()",
    )
    layer(Tensor(x), training=False)
    close(layer.running_mean, [1.0, -2.0], "running_mean, afterwards", f"{given}, training=False")
    layer(Tensor(x))
    close(layer.running_mean, [1.0, -2.0], "running_mean, afterwards", given)
    close(layer.running_var, [4.0, 0.25], "running_var, afterwards", given)


@exercise("BatchNorm2d.forward")
def test_training_is_remembered_once() -> None:
    """by buffers that belong to the state and are no parameters; an empty batch teaches nothing"""
    layer = BatchNorm2d(2)
    x = numbers(4, 2, 3, 3) * 2 + 5
    layer(Tensor(x))
    mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3), ddof=1)
    given = "BatchNorm2d(2), one batch (4, 2, 3, 3) while training"
    close(layer.running_mean, 0.1 * mean, "running_mean", given, 1e-6, np.float32)
    close(layer.running_var, 0.9 + 0.1 * var, "running_var", given, 1e-6, np.float32)
    equal(layer(Tensor(x[:0])).shape, (0, 2, 3, 3), "out.shape", "then an empty batch")
    close(layer.running_mean, 0.1 * mean, "running_mean", "then an empty batch", 1e-6, np.float32)
    names = sorted(name for name, _ in layer.named_parameters())
    equal(",".join(names), "bias,weight", "names of the parameters", given)
    close(layer.state_dict()["running_var"], 0.9 + 0.1 * var, 'state_dict()["running_var"]', given, 1e-6, np.float32)


@exercise("BatchNorm2d.forward")
def test_batch_norm_is_recorded_and_refuses() -> None:
    """the door gets x, weight and bias; other shapes, and a single number per channel, are a ValueError"""
    layer, x = BatchNorm2d(2), leaf(numbers(2, 2, 2, 2))
    through_door(lambda: layer(x), "BatchNorm2d", [x, layer.weight, layer.bias], given="BatchNorm2d(2)")
    for shape in ((2, 4, 4), (1, 3, 4, 4), (4, 2), (1, 1, 4, 4)):
        raises(ValueError, lambda: layer(Tensor(np.zeros(shape))), f"BatchNorm2d(2), x {shape}", ["2", shape])
    raises(
        ValueError,
        lambda: layer(Tensor(np.zeros((1, 2, 1, 1)))),
        "BatchNorm2d(2), training, x (1, 2, 1, 1)",
        [(1, 2, 1, 1)],
    )
    close(
        layer(Tensor(np.arange(8).reshape(2, 2, 1, 2))).data.mean(axis=(0, 2, 3)),
        [0, 0],
        "mean",
        "x of int64",
        dtype=np.float32,
    )


@exercise("BatchNorm2d.remember")
def test_running_statistics() -> None:
    """move by momentum towards the batch's mean, and towards its unbiased variance"""
    for momentum, mean, var, count in ((0.1, [10.0, 20.0], [2.0, 8.0], 5), (0.25, [-4.0, 4.0], [6.0, 1.0], 2)):
        layer = BatchNorm2d(2, momentum=momentum)
        before, means, variances = (layer.running_mean, layer.running_var), np.zeros(2), np.ones(2)
        for number in (1, 2):
            new_mean, new_var = np.array(mean, np.float32) * number, np.array(var, np.float32) * number
            layer.remember(new_mean, new_var, count)
            means = (1 - momentum) * means + momentum * np.array(mean) * number
            variances = (1 - momentum) * variances + momentum * np.array(var) * number * count / (count - 1)
            given = f"momentum {momentum}, batch {number}: remember({new_mean}, {new_var}, count={count})"
            close(layer.running_mean, means, "running_mean", given, 1e-6, np.float32)
            close(layer.running_var, variances, "running_var", given, 1e-6, np.float32)
            close(new_mean, np.array(mean) * number, "the batch's mean, afterwards", given)
            close(new_var, np.array(var) * number, "the batch's variance, afterwards", given)
        same = layer.running_mean is before[0] and layer.running_var is before[1]
        holds(same, "the same Tensors as before", "others", "running_mean and running_var")
    layer = BatchNorm2d(1)
    layer.remember(np.array([1.0]), np.array([1.0]), 3)
    close(layer.running_mean, [0.1], "running_mean", "remember of float64 in a layer of float32", dtype=np.float32)


SHAPES = ((2, 2, 2, 3), (1, 3, 2, 2), (4, 1, 1, 1), (3, 2, 1, 2))


def norm_gradients(x: Any, weight: Any, bias: Any, training: bool = True, eps: float = 1e-5) -> np.ndarray:
    """Leaves gradients in those of the Tensors that require one; returns what was sent back."""
    layer = norm_with(weight, bias, eps=eps)
    layer.running_mean.data, layer.running_var.data = (np.linspace(a, a + 1, len(weight)) for a in (-1, 0.5))
    out = layer(x, training=training)
    upstream = numbers(*x.shape, seed=3)
    sent = upstream.astype(out.dtype)
    before = sent.copy()
    out.backward(sent)
    equal(sent, before, "the upstream gradient, afterwards", "BatchNorm2d")
    return upstream


@exercise("BatchNorm2dBackward.to_parameters")
def test_gradients_of_weight_and_bias() -> None:
    """to 1e-8 in float64, while training and in evaluation"""
    for shape in SHAPES:
        x, weight, bias = numbers(*shape) * 2 + 3, numbers(shape[1], seed=1), numbers(shape[1], seed=2)
        tensors = leaf(weight), leaf(bias)
        upstream = norm_gradients(Tensor(x), *tensors)
        _, expected, total = by_complex_steps(upstream, x, weight, bias)
        close(tensors[0].grad, expected, "weight.grad", f"BatchNorm2d, training, x {shape}", 1e-8, np.float64)
        close(tensors[1].grad, total, "bias.grad", f"BatchNorm2d, training, x {shape}", 1e-8, np.float64)
        tensors = leaf(weight), leaf(bias)
        norm_gradients(Tensor(x), *tensors, training=False)
        mean, var = (np.linspace(a, a + 1, shape[1])[:, None, None] for a in (-1, 0.5))
        expected = (upstream * (x - mean) / np.sqrt(var + 1e-5)).sum(axis=(0, 2, 3))
        close(tensors[0].grad, expected, "weight.grad", f"BatchNorm2d, evaluation, x {shape}", 1e-8)
        close(tensors[1].grad, upstream.sum(axis=(0, 2, 3)), "bias.grad", f"BatchNorm2d, evaluation, x {shape}", 1e-8)
    tensor = leaf(weight)
    upstream = norm_gradients(Tensor(x), tensor, Tensor(bias), eps=2.0)
    _, expected, _ = by_complex_steps(upstream, x, weight, bias, eps=2.0)
    close(tensor.grad, expected, "weight.grad", f"BatchNorm2d with eps=2, training, x {shape}", 1e-8)


@exercise("BatchNorm2dBackward.to_parameters")
def test_gradients_of_weight_and_bias_from_any_batch() -> None:
    """zeros from none, many; float32 for float32, also beside a large mean"""
    for shape, offset, dtype in (
        ((0, 2, 3, 3), 0, np.float32),
        ((40, 4, 48, 48), 0, np.float64),
        ((4, 2, 8, 8), 1000, np.float32),
    ):
        x = (numbers(*shape) + offset).astype(dtype)
        tensors = leaf(np.ones(shape[1]), dtype), leaf(np.zeros(shape[1]), dtype)
        upstream = norm_gradients(Tensor(x), *tensors)
        exact = x.astype(np.float64)
        hat = normalised(exact, np.ones(shape[1]), np.zeros(shape[1])) if len(x) else exact
        given, near = (
            f"BatchNorm2d, training, x {shape} {np.dtype(dtype)} around {offset}",
            1e-8 if dtype == np.float64 else 2e-4,
        )
        close(tensors[0].grad, (upstream * hat).sum(axis=(0, 2, 3)), "weight.grad", given, near, dtype)
        close(tensors[1].grad, upstream.sum(axis=(0, 2, 3)), "bias.grad", given, near, dtype)


@exercise("BatchNorm2dBackward.to_input")
def test_gradient_through_mean_and_variance() -> None:
    """of x, to 1e-8 in float64, while training"""
    for shape in SHAPES:
        x, weight, bias = numbers(*shape) * 2 + 3, numbers(shape[1], seed=1), numbers(shape[1], seed=2)
        tensor = leaf(x)
        upstream = norm_gradients(tensor, Tensor(weight), Tensor(bias))
        expected, _, _ = by_complex_steps(upstream, x, weight, bias)
        close(tensor.grad, expected, "x.grad", f"BatchNorm2d, training, x {shape}", 1e-8, np.float64)
        given = f"BatchNorm2d, training, x {shape}"
        gradients_match(norm_with(weight, bias), x, given=given, tolerance=1e-5)
    tensor = leaf(x)
    upstream = norm_gradients(tensor, Tensor(weight), Tensor(bias), eps=2.0)
    expected, _, _ = by_complex_steps(upstream, x, weight, bias, eps=2.0)
    close(tensor.grad, expected, "x.grad", f"BatchNorm2d with eps=2, training, x {shape}", 1e-8)


@exercise("BatchNorm2dBackward.to_input")
def test_gradient_in_evaluation() -> None:
    """mean and variance are constants then, also if the running ones change before the way back"""
    x, weight = numbers(2, 2, 3, 2), np.array([1.5, -0.5])
    tensor = leaf(x)
    upstream = norm_gradients(tensor, Tensor(weight), Tensor(np.zeros(2)), training=False)
    expected = upstream * (weight / np.sqrt(np.array([0.5, 1.5]) + 1e-5))[:, None, None]
    close(tensor.grad, expected, "x.grad", "BatchNorm2d(2), evaluation, running var [0.5, 1.5]", 1e-8, np.float64)
    tensor, layer = leaf(x), remembering()
    out = layer(tensor, training=False)
    layer(Tensor(x + 50))
    out.backward(upstream)
    expected = upstream * (weight / np.sqrt(np.array([4.0, 0.25]) + 1e-5))[:, None, None]
    close(tensor.grad, expected, "x.grad", "evaluation, then a batch while training, then backward()", 1e-8)


@exercise("BatchNorm2dBackward.to_input")
def test_gradient_of_any_batch_to_normalise() -> None:
    """none, many; float32 for float32, also beside a large mean"""
    for shape, offset, dtype in (
        ((0, 2, 3, 3), 0, np.float32),
        ((40, 4, 48, 48), 0, np.float64),
        ((4, 2, 8, 8), 1000, np.float32),
    ):
        x, weight = (numbers(*shape) + offset).astype(dtype), np.linspace(1, 2, shape[1])
        tensor = leaf(x, dtype)
        upstream = norm_gradients(tensor, Tensor(weight.astype(dtype)), Tensor(np.zeros(shape[1], dtype)))
        exact, axes = x.astype(np.float64), (0, 2, 3)
        hat = normalised(exact, np.ones(shape[1]), np.zeros(shape[1])) if len(x) else exact
        scale = (weight / np.sqrt(exact.var(axis=axes) + 1e-5))[:, None, None] if len(x) else 1.0
        means = [g.mean(axis=axes, keepdims=True) if len(x) else g for g in (upstream, upstream * hat)]
        given, near = (
            f"BatchNorm2d, training, x {shape} {np.dtype(dtype)} around {offset}",
            1e-8 if dtype == np.float64 else 2e-4,
        )
        close(tensor.grad, scale * (upstream - means[0] - hat * means[1]), "x.grad", given, near, dtype)


# Systems


@exercise("conv_flops")
def test_flops_are_those_of_the_loops() -> None:
    """a multiplication and an addition for each turn of the innermost loop, counted"""
    for images, weight, stride, padding in (
        ((3, 3, 5, 4), (4, 3, 3, 3), 1, 1),
        ((1, 2, 7, 6), (3, 2, 2, 2), (2, 2), 0),
        ((1, 4, 5, 5), (4, 1, 3, 3), 1, 1),
        ((3, 1, 6, 9), (2, 1, 1, 5), (2, 3), (0, 2)),
        ((2, 4, 4, 4), (6, 2, 1, 1), 3, 0),
    ):
        count = 0
        (sh, sw), (ph, pw) = (value if isinstance(value, tuple) else (value, value) for value in (stride, padding))
        for _ in range(images[0] * weight[0]):
            for _ in places((images[2] + 2 * ph, images[3] + 2 * pw), weight[2:], (sh, sw)):
                for _ in np.ndindex(weight[1:]):
                    count += 2
        given = f"conv_flops({images}, {weight}, stride={stride}, padding={padding})"
        equal(conv_flops(images, weight, stride, padding), count, "FLOPs", given)


@exercise("column_bytes")
def test_columns_are_weighed() -> None:
    """as nbytes has it, and as tracemalloc sees it grow"""
    for shape, kernel, stride, padding, dtype in (
        ((2, 3, 8, 7), 3, 1, 1, np.float32),
        ((1, 2, 9, 6), (2, 3), (3, 1), (1, 2), np.float64),
        ((8, 4, 32, 32), 5, 2, 0, np.float32),
        ((2, 4, 5, 5), 1, 2, 0, np.float64),
    ):
        full = [value if isinstance(value, tuple) else (value, value) for value in (kernel, stride, padding)]
        tracemalloc.start()
        columns = columns_of(np.zeros(shape, dtype), *full)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        size = np.dtype(dtype).itemsize
        got, given = (
            column_bytes(shape, kernel, stride, padding, size),
            f"column_bytes({shape}, {kernel}, {stride}, {padding}, {size})",
        )
        equal(got, columns.nbytes, "bytes", given)
        holds(abs(got - held) < 8192, f"about the {held} bytes that tracemalloc counted", got, given)
    equal(column_bytes((2, 3, 8, 8), 3), 2 * 27 * 36 * 4, "bytes", "column_bytes((2, 3, 8, 8), 3)")


@exercise("receptive_field")
def test_receptive_field_is_probed() -> None:
    """by changing the pixels of a row, one after the other, and looking at one number of the result"""
    for layers in (
        [(3, 1)],
        [(3, 1), (3, 1)],
        [(3, 2), (3, 1)],
        [(3, 1), (2, 2), (3, 1)],
        [(1, 2), (5, 1)],
        [(2, 3), (2, 2), (3, 3)],
        [(3, 1), (2, 2)] * 3,
        [],
    ):
        row = np.eye(160)  # 160 rows, each with another pixel changed
        for kernel, stride in layers:
            row = np.stack(
                [row[:, start : start + kernel].sum(axis=1) for start in starts(row.shape[1], kernel, stride)], axis=1
            )
        changed = np.flatnonzero(row[:, row.shape[1] // 2])
        equal(receptive_field(layers), int(changed[-1] - changed[0] + 1), "pixels", f"receptive_field({layers})")


@exercise("separable_cost")
def test_separable_convolution_is_counted() -> None:
    """its parameters and its multiplications and additions, by doing it"""
    for channels, outputs, kernel, size in ((3, 4, 3, 5), (4, 2, 2, 4), (1, 5, 3, 3), (6, 6, 1, 2)):
        depthwise, pointwise = np.ones((channels, kernel, kernel)), np.ones((outputs, channels))
        flops, ones = 0, np.ones((channels, size + kernel - 1, size + kernel - 1))
        for _, _, seen in places(ones.shape[1:], (kernel, kernel), (1, 1)):
            products = ones[seen] * depthwise
            mixed = pointwise * products.sum(axis=(1, 2))
            flops += 2 * products.size + 2 * mixed.size
        given = f"separable_cost({channels}, {outputs}, kernel_size={kernel}, places={size * size})"
        got = separable_cost(channels, outputs, kernel, size * size)
        close(np.array(got), (depthwise.size + pointwise.size, flops), "parameters, FLOPs", given, 0)


# The matrices of F(2×2, 3×3): Lavin and Gray 2016, arXiv:1509.09308, section 4.1
FROM_IMAGE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)
FROM_WEIGHT = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
TO_TILE = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)


@exercise("winograd_products")
def test_winograd_is_counted() -> None:
    """by doing it, and seeing that the result is right"""
    for height, width in ((2, 2), (4, 6), (5, 3), (1, 1), (8, 7), (16, 1)):
        x, weight, count = numbers(1, 1, height + 2, width + 2), numbers(1, 1, 3, 3, seed=1), 0
        image = np.pad(x[0, 0], ((0, height % 2), (0, width % 2)))
        out, ready = np.zeros((height + 1, width + 1)), FROM_WEIGHT @ weight[0, 0] @ FROM_WEIGHT.T
        for top in range(0, height, 2):
            for left in range(0, width, 2):
                products = ready * (FROM_IMAGE @ image[top : top + 4, left : left + 4] @ FROM_IMAGE.T)
                out[top : top + 2, left : left + 2] = TO_TILE @ products @ TO_TILE.T
                count += products.size
        close(out[:height, :width], convolved(x, weight)[0, 0], "Winograd's result", "as by the definition", 1e-9)
        equal(winograd_products(height, width), count, "multiplications", f"winograd_products({height}, {width})")


# More inputs at which wrong code has passed


@exercise("im2col")
def test_columns_of_flat_windows() -> None:
    """a window of one row, or of one column, is a window like any other"""
    for kernel in ((1, 2), (2, 1), (1, 3)):
        x = numbers(2, 2, 3, 4)
        expected = columns_of(x, kernel, (1, 1), (0, 0))
        close(im2col(x, kernel), expected, f"im2col(x, {kernel})", "x (2, 2, 3, 4)", 1e-12, np.float64)


@exercise("conv2d")
def test_convolution_of_one_channel() -> None:
    """one channel in and one out, and a batch of small images"""
    x, weight = numbers(10, 1, 2, 2), numbers(1, 1, 2, 2, seed=1)
    got, given = conv2d(x, weight, (1, 1), (0, 0), 1), "x (10, 1, 2, 2), weight (1, 1, 2, 2)"
    close(got, convolved(x, weight), "conv2d(x, weight, …)", given, 1e-9, np.float64)


@exercise("conv2d_input_gradient")
def test_gradient_of_images_with_one_channel() -> None:
    """one channel in and one out"""
    x, weight, grad = numbers(2, 1, 3, 3), numbers(1, 1, 2, 2, seed=1), numbers(2, 1, 2, 2, seed=3)
    expected, _ = convolution_gradients(x, weight, grad, (1, 1), (0, 0))
    got = conv2d_input_gradient(grad, x.shape, weight, (1, 1), (0, 0), 1)
    close(got, expected, "the gradient of x", "x (2, 1, 3, 3), weight (1, 1, 2, 2)", 1e-8, np.float64)


@exercise("conv2d_weight_gradient")
def test_gradient_of_a_single_window() -> None:
    """one channel in and one out"""
    x, weight, grad = numbers(2, 1, 3, 3), numbers(1, 1, 2, 2, seed=1), numbers(2, 1, 2, 2, seed=3)
    _, expected = convolution_gradients(x, weight, grad, (1, 1), (0, 0))
    got = conv2d_weight_gradient(grad, x, weight.shape, (1, 1), (0, 0), 1)
    close(got, expected, "the gradient of the weight", "x (2, 1, 3, 3), weight (1, 1, 2, 2)", 1e-8, np.float64)


def with_padding(x: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=-np.inf)


PADDED_POOLS = (((3, 3), (2, 2), (1, 1)), ((2, 2), (2, 2), (1, 0)), ((2, 5), (1, 2), (0, 2)))  # kernel, stride, padding


@exercise("MaxPool2d.forward")
def test_largest_with_padding() -> None:
    """padding never counts as the largest, also beside negative numbers, -inf and integers"""
    x = numbers(2, 3, 7, 8) - 3
    for kernel, stride, padding in PADDED_POOLS:
        expected = pooled(with_padding(x, padding), kernel, stride, np.max)
        got, given = (
            MaxPool2d(kernel, stride, padding)(Tensor(x)),
            f"MaxPool2d({kernel}, {stride}, {padding}), x below 1",
        )
        close(got, expected, "out", given, 0, np.float64)
    integers = -np.arange(1, 5).reshape(1, 1, 2, 2)
    got = MaxPool2d(2, padding=1)(Tensor(integers))
    close(got, integers, "out", "MaxPool2d(2, padding=1), x [[-1, -2], [-3, -4]]", 0, np.int64)
    got = MaxPool2d(3, 2, padding=1)(Tensor(x[:0]))
    equal(got.shape, (0, 3, 4, 4), "out.shape", "MaxPool2d(3, 2, padding=1), x (0, 3, 7, 8)")


@exercise("MaxPool2d.forward")
def test_largest_of_many_small_images() -> None:
    """all samples of the batch"""
    x = numbers(10, 1, 2, 2)
    close(MaxPool2d(2)(Tensor(x)), pooled(x, (2, 2), None, np.max), "out", "MaxPool2d(2), x (10, 1, 2, 2)", 0)


@exercise("MaxPool2dBackward.backward")
def test_gradient_with_padding() -> None:
    """goes to the largest number of the image, and none of it to the padding"""
    for kernel, stride, padding in PADDED_POOLS:
        x = with_ties(2, 3, 7, 8) - 1  # up to 0, which padding with zeros would tie with
        got, upstream = pool_gradient(MaxPool2d(kernel, stride, padding), leaf(x))
        expected = pooling_gradient(with_padding(x, padding), kernel, stride, upstream, first_largest)
        expected = expected[:, :, padding[0] : padding[0] + 7, padding[1] : padding[1] + 8]
        close(got, expected, "x.grad", f"MaxPool2d({kernel}, {stride}, {padding}), x with many ties", 1e-12, np.float64)
    x = leaf(np.full((1, 1, 2, 2), -np.inf))
    MaxPool2d(2, padding=1)(x).backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    close(x.grad, [[[[1, 2], [3, 4]]]], "x.grad", "MaxPool2d(2, padding=1), all of x -inf, upstream [[1, 2], [3, 4]]")


@exercise("MaxPool2dBackward.backward")
def test_gradient_of_nan() -> None:
    """goes to the NaN that was the largest, the first of several"""
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1] = x[0, 0, 2, 3] = x[0, 0, 3, 2] = np.nan
    tensor = leaf(x)
    MaxPool2d(2)(tensor).backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    expected = [[[[0, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 4], [0, 3, 0, 0]]]]
    close(
        tensor.grad, expected, "x.grad", "MaxPool2d(2), x = 0 … 15 with NaN at (0, 1), (2, 3), (3, 2); upstream 1 … 4"
    )


def answers(out: Tensor) -> tuple[np.ndarray, ...]:
    """What the rule of the operation that made `out` answers to ones, before anything is done with it."""
    found = out.grad_fn.backward(np.ones(out.shape, out.dtype))
    return found if isinstance(found, tuple) else (found,)


@exercise("MaxPool2dBackward.backward")
def test_the_rule_of_the_largest_keeps_float32() -> None:
    """its own answer is float32 for float32, for all samples of the batch"""
    x = numbers(10, 1, 2, 2)
    expected = pooling_gradient(x, (2, 2), None, np.ones((10, 1, 1, 1)), first_largest)
    got, given = answers(MaxPool2d(2)(leaf(x, np.float32)))[0], "MaxPool2d(2), x (10, 1, 2, 2) float32"
    close(got, expected, "the rule's answer", given, 1e-6, np.float32)


@exercise("AvgPool2dBackward.backward")
def test_the_rule_of_the_mean_keeps_float32() -> None:
    """its own answer is float32 for float32"""
    got = answers(AvgPool2d(2)(leaf(numbers(3, 1, 2, 2), np.float32)))[0]
    expected = np.full((3, 1, 2, 2), 0.25)
    close(got, expected, "the rule's answer", "AvgPool2d(2), x (3, 1, 2, 2) float32", 1e-6, np.float32)


@exercise("batch_statistics")
def test_the_mean_is_summed_in_float64() -> None:
    """of large numbers that cancel, what remains is right"""
    x = np.repeat(np.array([2.0**24, 1.0, -(2.0**24)], np.float32), 2 * 8 * 8).reshape(3, 2, 8, 8)
    given = "batch_statistics(x), x (3, 2, 8, 8) float32: a sample of 16,777,216, one of 1, one of -16,777,216"
    close(batch_statistics(x)[0], [1 / 3, 1 / 3], "mean", given, 1e-6, np.float32)


@exercise("BatchNorm2dBackward.to_parameters")
def test_the_rule_keeps_float32_for_parameters() -> None:
    """its own answers for weight and bias are float32 for float32, also from an empty batch"""
    layer, x = BatchNorm2d(2), numbers(4, 2, 3, 3)
    hat = normalised(x, np.ones(2), np.zeros(2))
    for part, sums in ((x, hat.sum(axis=(0, 2, 3))), (x[:0], np.zeros(2))):
        _, d_weight, d_bias = answers(layer(leaf(part, np.float32)))
        given = f"BatchNorm2d(2), training, x {part.shape} float32, upstream ones"
        close(d_weight, sums, "the rule's answer for the weight", given, 1e-4, np.float32)
        close(d_bias, np.full(2, 9.0 * len(part)), "the rule's answer for the bias", given, 1e-5, np.float32)


@exercise("BatchNorm2dBackward.to_input")
def test_the_rule_keeps_float32_for_images() -> None:
    """its own answer for x is float32 for float32, while training and in evaluation"""
    x = numbers(4, 2, 3, 3)
    for training, expected in ((True, np.zeros(x.shape)), (False, np.full(x.shape, 1 / np.sqrt(1 + 1e-5)))):
        got = answers(BatchNorm2d(2)(leaf(x, np.float32), training=training))[0]
        given = f"BatchNorm2d(2), training={training}, x {x.shape} float32, upstream ones"
        close(got, expected, "the rule's answer for x", given, 1e-5, np.float32)
