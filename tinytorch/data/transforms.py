"""Stage 08: random changes of images that leave what they show as it is, so that one image becomes many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["Compose", "RandomCrop", "RandomHorizontalFlip", "Transform", "image_shape"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (images, rng) → changed images


def image_shape(images: np.ndarray) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a batch of images.

    Raises:
        ValueError: `images` has not four axes; the message names its shape.
    """
    if images.ndim != 4:
        raise ValueError(f"expected a batch of images, (N, C, H, W), got shape {images.shape}")
    return images.shape


class RandomHorizontalFlip:
    """Mirrors an image, left to right, with probability `p`."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip: expected 0 ≤ p ≤ 1, got {p}")
        self.p = p

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A new batch in which each image, independently of the others, is mirrored with probability `p`.

        Args:
            images: (N, C, H, W) of any dtype, which the result has too; they stay as they are.
            rng: everything random is drawn from it.

        Raises:
            ValueError: `images` has not four axes; the message names its shape (`image_shape` raises it).

        >>> RandomHorizontalFlip(p=1.0)(np.array([[[[1, 2, 3]]]]), np.random.default_rng(0))
        array([[[[3, 2, 1]]]])
        """
        # >>> stage 08: your code
        raise NotImplementedError("stage 08: RandomHorizontalFlip.__call__ is yours to write, see stages/08_dataloader/README.md")
        # <<<


class RandomCrop:
    """Surrounds an image with zeros, and cuts a square out of it at a random place.

    Args:
        size: height and width of the square.
        padding: rows and columns of zeros on each of the four sides.
    """

    def __init__(self, size: int, padding: int = 0) -> None:
        if size < 1 or padding < 0:
            raise ValueError(f"RandomCrop: expected size ≥ 1 and padding ≥ 0, got {size} and {padding}")
        self.size, self.padding = size, padding

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A new batch, (N, C, size, size), of a square of each image, whose place is the same in all its channels.

        Each image has a place of its own. Every place where the square fits into the padded image, (H + 2 padding,
        W + 2 padding), is as likely as any other: the first row is one of 0 … H + 2 padding - size, both included, and
        the first column is drawn likewise, independently of it. The padding is 0, in the images' dtype.

        Args:
            images: (N, C, H, W) of any dtype, which the result has too; they stay as they are.
            rng: everything random is drawn from it.

        Raises:
            ValueError: the square is larger than the padded image, and the message names `size` and the shape of
                `images`; or `images` has not four axes (`image_shape` raises it).

        >>> RandomCrop(size=2)(np.array([[[[1, 2], [3, 4]]]]), np.random.default_rng(0))
        array([[[[1, 2],
                 [3, 4]]]])
        """
        # >>> stage 08: your code
        raise NotImplementedError("stage 08: RandomCrop.__call__ is yours to write, see stages/08_dataloader/README.md")
        # <<<


class Compose:
    """Several transforms, one after the other.

    >>> augment = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip()])
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The result of the last transform: the first gets `images`, each other what the one before it returned.

        All of them draw from the same `rng`.
        """
        # >>> stage 08: your code
        raise NotImplementedError("stage 08: Compose.__call__ is yours to write, see stages/08_dataloader/README.md")
        # <<<
