"""Stage 11, systems: what tables of vectors cost, what a batch leaves untouched, and what a shift of positions is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinytorch.core.layers import Layer
from tinytorch.text.embeddings import Embedding, PositionalEncoding

__all__ = ["idle_rows", "lookup_savings", "position_bytes", "shift_rotation", "table_share"]


def table_share(model: Layer) -> float:
    """The share of a model's parameter bytes that are tables: the weights of the Embeddings in it, at any depth.

    A weight that is used in two places counts once. `model.named_layers()` gives all parts of the model, but not the
    model itself, which may be an Embedding too. The model has at least one parameter.

    >>> from tinytorch.core.layers import Linear, Sequential
    >>> table_share(Sequential(Embedding(30, 4), Linear(4, 30, bias=False)))
    0.5
    """
    layers = [model, *(part for _, part in model.named_layers())]
    tables = {id(layer.weight): layer.weight for layer in layers if isinstance(layer, Embedding)}
    whole = sum(parameter.data.nbytes for parameter in model.parameters())
    return sum(table.data.nbytes for table in tables.values()) / whole


def idle_rows(probabilities: Sequence[float], tokens: int) -> float:
    """How many rows of an embedding's gradient are zero, on average, after a batch of `tokens` tokens.

    The tokens are drawn independently, token i with probabilities[i]. Row i stays zero if none of them is token i, and
    the average number of such rows is the sum of the probabilities with which that happens.

    Args:
        probabilities: of each token of the vocabulary; their sum is 1.

    >>> idle_rows([0.5, 0.25, 0.25], tokens=2)
    1.375
    """
    return float(((1 - np.asarray(probabilities, dtype=np.float64)) ** tokens).sum())


def position_bytes(encoding: PositionalEncoding, remembered: int = 2) -> int:
    """Bytes that an encoding's table takes while it is trained.

    A learned table, one that requires a gradient, needs as many bytes again for its gradient, and for each of the
    arrays that the optimizer remembers. A fixed one needs none of them.

    Args:
        remembered: arrays that the optimizer keeps of each parameter; AdamW keeps 2.

    >>> position_bytes(PositionalEncoding(100, 8)), position_bytes(PositionalEncoding(100, 8, learned=True))
    (3200, 12800)
    """
    table = encoding.positions
    return table.data.nbytes * (2 + remembered if table.requires_grad else 1)


def shift_rotation(shift: int, embed_dim: int) -> np.ndarray:
    """The matrix that moves every row of the sinusoidal table by `shift` positions, whichever position it is of.

    With `table` as in `create_sinusoidal_embeddings`, for each position:

        table[position + shift] = shift_rotation(shift, embed_dim) @ table[position]

    It holds a rotation for each pair of columns 2i and 2i + 1, by shift / 10000^(2i / embed_dim), and zeros elsewhere.
    The formulas behind it are those of sin(a + b) and cos(a + b).

    Args:
        shift: may be negative, and takes back what the positive one does.

    Returns:
        (embed_dim, embed_dim), float64.

    Raises:
        ValueError: `embed_dim` is odd, so that a column has no partner; the message names it.

    >>> shift_rotation(1, 2).round(2)
    array([[ 0.54,  0.84],
           [-0.84,  0.54]])
    """
    if embed_dim % 2:
        raise ValueError(f"shift_rotation: expected an even embed_dim, got {embed_dim}")
    sines = np.arange(0, embed_dim, 2)  # their columns; that of each cosine comes next
    angles = shift / 10000.0 ** (sines / embed_dim)
    rotation = np.zeros((embed_dim, embed_dim))
    rotation[sines, sines] = rotation[sines + 1, sines + 1] = np.cos(angles)
    rotation[sines, sines + 1], rotation[sines + 1, sines] = np.sin(angles), -np.sin(angles)
    return rotation


def lookup_savings(tokens: int, vocab_size: int, embed_dim: int, itemsize: int = 4) -> tuple[int, int]:
    """What picking rows by index saves against the product `one_hot @ table`, which gives the same vectors.

    `one_hot` is (tokens, vocab_size), with a single 1 in each row, in the dtype of `table` (vocab_size, embed_dim).

    Args:
        itemsize: bytes of one number.

    Returns:
        (FLOPs of the product, 2 m k n as in `matmul_flops`, all of which are saved; bytes of `one_hot`).

    >>> lookup_savings(tokens=10, vocab_size=1000, embed_dim=8)
    (160000, 40000)
    """
    return 2 * tokens * vocab_size * embed_dim, tokens * vocab_size * itemsize
