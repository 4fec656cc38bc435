"""Stage 04: losses, one number that says how wrong a prediction is."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from tinytorch.core.tensor import Tensor, floating, gradient_at, result_of

__all__ = ["BinaryCrossEntropyLoss", "CrossEntropyLoss", "MSELoss", "log_softmax"]


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x - log Σ exp(x) along `dim`, through the door as "LogSoftmax", saved: output (the resulting array), dim.

    The result has the shape and the float dtype of `x`; integers become float32. It is finite for logits of ±1e4,
    where exp overflows and log(softmax(x)) is -inf: with the largest element m taken off first, log Σ exp(x) =
    m + log Σ exp(x - m). No digits get lost there either: float32 numbers near 10000 lie 0.001 apart, so take m off x
    before you take off the logarithm. An empty tensor stays empty: give NumPy's max an `initial` value for that.

    >>> log_softmax(Tensor([0.0, 10000.0]))
    Tensor([-10000.      0.], dtype=float32)
    """
    x = floating(x)
    shifted = x.data - x.data.max(axis=dim, keepdims=True, initial=-np.inf)
    total = np.exp(shifted).sum(axis=dim, keepdims=True)
    output = shifted - np.log(np.maximum(total, 1))  # the largest alone gives 1; a sum of nothing would be 0
    return result_of("LogSoftmax", output, x, output=output, dim=dim)


class Loss:
    """Something that is called with predictions and targets, and answers with their mean loss, a single number."""

    _last: tuple[Tensor, Any] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "forward" in vars(cls):
            cls.forward = _remembering(cls.forward)

    def __call__(self, predictions: Tensor, targets: Any) -> Tensor:
        return self.forward(predictions, targets)

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        """The mean loss, a tensor of shape ()."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self) -> np.ndarray:
        """The gradient of the last loss for its predictions (from stage 05 on)."""
        if self._last is None:
            raise RuntimeError(f"{type(self).__name__}.backward(): call it with predictions and targets first")
        predictions, targets = self._last
        return gradient_at(lambda leaf: self.forward(leaf, targets), floating(predictions))


def _remembering(forward: Any) -> Any:
    """`forward` of a loss, which then also notes for `backward` what it was called with, whoever calls it."""

    @wraps(forward)
    def remembered(self: Loss, predictions: Tensor, targets: Any) -> Tensor:
        result = forward(self, predictions, targets)
        self._last = (predictions.detach(), targets)  # the values alone: the graph behind them may be large
        return result

    return remembered


def values_of(targets: Any) -> np.ndarray:
    """The values of `targets`, a Tensor or anything that NumPy makes an array of."""
    return targets.data if isinstance(targets, Tensor) else np.asarray(targets)


def same_shape(name: str, predictions: Tensor, targets: np.ndarray) -> None:
    """Raise a ValueError that names both shapes unless they are equal: (n, 1) against (n,) would make (n, n)."""
    if predictions.shape != targets.shape:
        raise ValueError(f"{name}: predictions {predictions.shape} and targets {targets.shape} differ in shape")
    if targets.size == 0:
        raise ValueError(f"{name}: the mean over no elements, shape {targets.shape}, does not exist")


class MSELoss(Loss):
    """Mean squared error."""

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        """mean((predictions - targets)²), a tensor of shape ().

        It is made of tensor operations, so it needs no rule of its own, and a gradient reaches the predictions and
        also targets that require one.

        Args:
            predictions: of any shape; integers count as float32.
            targets: a Tensor, an array or a list of the same shape. An array or a list takes the float dtype that
                the predictions have or become: an array of float64 would draw the whole way back into float64.

        Raises:
            ValueError: the shapes differ, even where they would broadcast, or there are no elements; the message
                names both shapes (`same_shape` above checks this).

        >>> MSELoss()(Tensor([1.0, 2.0]), Tensor([1.0, 4.0])).item()
        2.0
        """
        same_shape("MSELoss", predictions, values_of(targets))
        predictions = floating(predictions)
        targets = targets if isinstance(targets, Tensor) else Tensor(targets, dtype=predictions.dtype)
        difference = predictions - targets
        return (difference * difference).mean()


class BinaryCrossEntropyLoss(Loss):
    """-t log p - (1 - t) log(1 - p), the mean over all elements; p predicted, t wanted."""

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        """The loss of probabilities `predictions`, through the door as "BinaryCrossEntropy", saved: targets.

        Logarithms below -100 count as -100, as in PyTorch, so that a certain mistake costs 100 and not infinity.

        Args:
            predictions: probabilities from 0 to 1, of any shape, such as Sigmoid gives; integers count as float32.
            targets: a Tensor, an array or a list of the same shape, from 0 to 1. They are saved as an array of the
                float dtype that the predictions have or become.

        Returns:
            A tensor of shape (), of that dtype.

        Raises:
            ValueError: the shapes differ (`same_shape` checks this, and names both), or a prediction lies outside 0
                to 1 or is NaN; then the message names the smallest and the largest prediction.

        >>> round(BinaryCrossEntropyLoss()(Tensor([0.5, 1.0]), Tensor([1.0, 1.0])).item(), 4)
        0.3466
        """
        predictions = floating(predictions)
        p, t = predictions.data, values_of(targets).astype(predictions.dtype)
        same_shape("BinaryCrossEntropyLoss", predictions, t)
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError(f"BinaryCrossEntropyLoss: expected probabilities, got {p.min()} to {p.max()}")
        with np.errstate(divide="ignore"):  # log(0) is -inf, and counts as -100
            log_p, log_not_p = np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)
        loss = -(t * log_p + (1 - t) * log_not_p).mean()
        return result_of("BinaryCrossEntropy", loss, predictions, targets=t)


class CrossEntropyLoss(Loss):
    """-log of the probability that softmax gives the right class, the mean over the batch.

    Args:
        label_smoothing: ε from 0 to 1. The right class gets the target probability 1 - ε, and ε is shared equally by
            all classes, the right one among them. Source: Szegedy et al. 2016, arXiv:1512.00567.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: expected label_smoothing from 0 to 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def target_probabilities(self, classes: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """The probabilities that the model should give, (batch, number of classes); each row sums to 1.

        Every class gets ε / (number of classes), and the right one gets 1 - ε on top of that.

        Args:
            classes: the right class of each row, integers (batch,).
            logits: (batch, number of classes); the result has their shape and dtype.

        >>> CrossEntropyLoss(label_smoothing=0.2).target_probabilities(np.array([1]), np.zeros((1, 4))).round(2)
        array([[0.05, 0.85, 0.05, 0.05]])
        """
        count = logits.shape[1]
        targets = np.full(logits.shape, self.label_smoothing / count, logits.dtype)
        targets[np.arange(len(classes)), classes] += 1 - self.label_smoothing
        return targets

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        """The mean over the batch of -Σ target_probabilities · log softmax(predictions), a tensor of shape ().

        The result comes through the door as "CrossEntropy" with `predictions` as its input, saved: log_probabilities
        and target_probabilities, both arrays (batch, classes). `log_softmax` of a detached tensor gives the values
        without asking the tape; `checked` below looks at the arguments. Where a target probability is 0 nothing is
        added, even for a logit of -inf.

        Args:
            predictions: logits (batch, classes), any real numbers; -inf rules a class out. Integers count as float32.
            targets: the right classes, integers (batch,): a Tensor, an array or a list.

        Raises:
            ValueError: shapes that do not fit, or a class that does not exist; the message names both shapes, or
                that class.
            TypeError: targets that are not integers; the message names their dtype.

        >>> round(CrossEntropyLoss()(Tensor([[0.0, 0.0], [0.0, 10.0]]), [0, 1]).item(), 4)
        0.3466
        """
        predictions = floating(predictions)
        classes = self.checked(predictions, values_of(targets))
        log_probabilities = log_softmax(predictions.detach()).data  # (batch, classes)
        wanted = self.target_probabilities(classes, log_probabilities)  # (batch, classes)
        some = wanted > 0  # 0 · -inf would be NaN
        loss = -(wanted[some] * log_probabilities[some]).sum() / predictions.dtype.type(len(classes))
        saved = {"log_probabilities": log_probabilities, "target_probabilities": wanted}
        return result_of("CrossEntropy", loss, predictions, **saved)

    @staticmethod
    def checked(predictions: Tensor, classes: np.ndarray) -> np.ndarray:
        """`classes`, if they are integers (batch,) that name columns of `predictions`; else an error that says why."""
        if predictions.ndim != 2 or classes.shape != predictions.shape[:1] or classes.size == 0:
            raise ValueError(
                f"CrossEntropyLoss: expected (batch, classes) and (batch,), got {predictions.shape} and {classes.shape}"
            )
        if classes.dtype.kind not in "iu":
            raise TypeError(f"CrossEntropyLoss: expected integer classes, got {classes.dtype}")
        if classes.min() < 0 or classes.max() >= predictions.shape[1]:
            wrong = classes[(classes < 0) | (classes >= predictions.shape[1])][0]
            raise ValueError(f"CrossEntropyLoss: class {wrong} does not exist among {predictions.shape[1]}")
        return classes
