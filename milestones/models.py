"""The models of the milestones, made with the package `tt` that is judged. Benchmarks take them from here too."""

from __future__ import annotations

from typing import Any

HIDDEN = 256  # units of the hidden layer in milestone 2's MLP
CHANNELS = (32, 64, 128)  # of the convolutions in milestone 3's CNN
CONTEXT = 64  # tokens that milestone 4's GPT looks at


def mlp(tt: Any, *sizes: int) -> Any:
    """A Linear layer from each of `sizes` to the next, with a ReLU between two: milestone 2's is of 784, HIDDEN and 10.

    With two sizes it is a single layer, a perceptron.
    """
    layers: list[Any] = []
    for inputs, outputs in zip(sizes, sizes[1:]):
        layers += [tt.ReLU(), tt.Linear(inputs, outputs)]
    return tt.Sequential(*layers[1:])


def image_mlp(tt: Any, hidden: int) -> Any:
    """For images (N, 3, 32, 32): each as a row of numbers, and a hidden layer."""
    return tt.Sequential(tt.Flatten(), tt.Linear(3 * 32 * 32, hidden), tt.ReLU(), tt.Linear(hidden, 10))


def cnn(tt: Any, channels: tuple[int, ...] = CHANNELS) -> Any:
    """For images (N, 3, 32, 32): each block halves height and width, from 32 to 4.

    A bias before batch normalisation would have no effect, and there is none.
    """
    layers: list[Any] = []
    for before, after in zip((3, *channels), channels):
        convolution = tt.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        layers += [convolution, tt.BatchNorm2d(after), tt.ReLU(), tt.MaxPool2d(2)]
    return tt.Sequential(*layers, tt.Flatten(), tt.Linear(channels[-1] * 4 * 4, 10))


def gpt(
    tt: Any,
    vocab_size: int,
    context: int = CONTEXT,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    dropout: float = 0.0,
) -> Any:
    """For tokens (B, T), T up to `context`: milestone 4's has four layers of 128 features with four heads."""
    return tt.GPT(vocab_size, width, layers, heads, context, dropout)
