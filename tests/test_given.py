"""Code that is given: random numbers of a thread's own, what a loss remembers, what an optimizer shows, which settings are refused."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest


def test_backward_after_forward(tt: ModuleType) -> None:
    """`loss.forward(p, t)` is remembered as `loss(p, t)` is: `backward()` gives the gradient of the last of both."""
    p, q, targets = tt.Tensor([0.2, 0.6]), tt.Tensor([0.5, 0.25]), [1.0, 0.0]
    for loss in (tt.MSELoss(), tt.BinaryCrossEntropyLoss()):
        loss(p, targets)
        expected = loss.backward()
        loss(q, targets)
        assert not np.array_equal(loss.backward(), expected)
        loss.forward(p, targets)
        assert np.array_equal(loss.backward(), expected)
        assert np.array_equal(loss.backward(), expected)  # a second time as well
    loss = tt.CrossEntropyLoss()
    loss.forward(tt.Tensor([[0.0, 0.0]]), [1])
    assert loss.backward().tolist() == [[0.5, -0.5]]


def test_backward_of_a_derived_loss(tt: ModuleType) -> None:
    """A loss that hands other predictions on to the one that it is derived from has the gradient for its own."""

    class Tripled(tt.MSELoss):
        def forward(self, predictions: Any, targets: Any) -> Any:
            return super().forward(predictions * 3.0, targets)

    loss = Tripled()
    loss.forward(tt.Tensor([2.0]), [0.0])
    assert loss.backward().tolist() == [36.0]  # of (3 p)²: 18 p


def test_a_loss_without_a_call_has_no_gradient(tt: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="call it with predictions and targets first"):
        tt.MSELoss().backward()


def test_a_loss_keeps_no_graph(tt: ModuleType) -> None:
    loss, p = tt.MSELoss(), tt.Tensor([1.0], requires_grad=True)
    loss(p * 2.0, [0.0])
    assert loss._last[0].grad_fn is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"settings": {"lr": 1.0}}, "expected settings ['lr', 'momentum', 'weight_decay'], got ['lr']"),
        ({"state": [{}]}, "expected state for 2 parameters, got 1"),
        ({"state": [{}, {"count": 1, "velocity": np.zeros(3)}]}, "velocity of parameter 1 is (3,), not (2, 1)"),
        ({"state": [{"velocity": np.zeros(1), "other": np.zeros(2)}, {}]}, "other of parameter 0 is (2,), not (1,)"),
    ],
)
def test_an_optimizer_says_what_does_not_fit(tt: ModuleType, changed: dict[str, Any], says: str) -> None:
    """The message names the entry, the parameter, and the shapes: first the one that came."""
    optimizer = tt.SGD([tt.Tensor(np.ones(shape), requires_grad=True) for shape in ((1,), (2, 1))])
    optimizer.check_fits(optimizer.state_dict() | {"state": [{}, {"velocity": np.zeros((2, 1))}]})
    with pytest.raises(ValueError) as raised:
        optimizer.check_fits(optimizer.state_dict() | changed)
    assert str(raised.value) == f"load_state_dict: {says}"


def test_optimizers_show_their_settings(tt: ModuleType) -> None:
    p = tt.Tensor([1.0], requires_grad=True)
    optimizer = tt.SGD([p], lr=0.5)
    optimizer.momentum = 0.25
    assert repr(optimizer) == "SGD(lr=0.5, momentum=0.25, weight_decay=0.0)"
    assert repr(tt.AdamW([p])) == "AdamW(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"


def test_sgd_says_that_it_has_momentum(tt: ModuleType) -> None:
    """Who ports code from PyTorch, where it is 0, reads of it in the docstring's first line."""
    assert tt.SGD([tt.Tensor([1.0], requires_grad=True)]).momentum == 0.9
    first = tt.SGD.__doc__.splitlines()[0]
    assert "momentum" in first and "0.9" in first and "PyTorch" in first


@pytest.mark.parametrize("wrong", [-0.1, math.inf, math.nan])
def test_optimizers_refuse(tt: ModuleType, wrong: float) -> None:
    p = tt.Tensor([1.0], requires_grad=True)
    for kind, names in ((tt.SGD, ("lr", "momentum", "weight_decay")), (tt.AdamW, ("lr", "eps", "weight_decay"))):
        for name in names:
            with pytest.raises(ValueError, match=f"{kind.__name__}: expected a finite {name} ≥ 0, got {wrong}"):
                kind([p], **{name: wrong})
    with pytest.raises(ValueError, match="betas"):
        tt.AdamW([p], betas=(0.9, wrong))


@pytest.mark.parametrize(
    ("wrong", "error"), [(1.5, TypeError), (2.0, TypeError), (True, TypeError), ("2", TypeError), (-1, ValueError)]
)
def test_whole_numbers(tt: ModuleType, wrong: Any, error: type[Exception]) -> None:
    """Settings that count something are integers; NumPy's are taken too."""
    data, model = tt.TensorDataset(tt.Tensor(np.zeros((4, 2)))), tt.Linear(2, 2)
    settings = {"batch_size": 1, "seed": 0, "prefetch": 0}
    makers = [lambda v, n=name: tt.DataLoader(data, **(settings | {n: v})) for name in settings]
    makers.append(lambda v: tt.Trainer(model, tt.SGD(model.parameters()), tt.MSELoss(), accumulate=v))
    makers.append(tt.EarlyStopping)
    names = [*settings, "accumulate", "patience"]
    for make, name in zip(makers, names, strict=True):
        with pytest.raises(error, match=f"expected {name} to be an integer ≥ [01], got {wrong!r}"):
            make(wrong)
        json.dumps(vars(make(np.int64(3))).get(name))  # kept as an int of Python, such as a checkpoint can hold
        if name in ("seed", "prefetch"):
            make(0)
        else:
            with pytest.raises(ValueError, match=f"expected {name}"):
                make(0)


def test_a_batch_of_a_seed_that_is_none(tt: ModuleType) -> None:
    data = tt.TensorDataset(tt.Tensor(np.zeros((4, 2))))
    assert tt.DataLoader(data, 2).seed is None


def test_mnist_takes_files_from_a_folder(tt: ModuleType, tmp_path: Path) -> None:
    images, labels = np.arange(3 * 784).astype(np.uint8).reshape(3, 28, 28), np.array([3, 1, 2], np.uint8)
    for name, array in (("train-images-idx3", images), ("train-labels-idx1", labels)):
        shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
        (tmp_path / f"{name}-ubyte").write_bytes(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())
    data = tt.MNIST(folder=str(tmp_path))
    assert data.images.dtype == np.uint8 and np.array_equal(data.images, images[:, None])
    assert data.labels.dtype == np.int64 and data.labels.tolist() == [3, 1, 2]


def test_cifar10_takes_five_files_to_train_with_in_their_order_and_one_for_the_test(
    tt: ModuleType, tmp_path: Path
) -> None:
    for label, name in enumerate([*(f"data_batch_{n}" for n in (1, 2, 3, 4, 5)), "test_batch"]):
        (tmp_path / f"{name}.bin").write_bytes(bytes([label, *range(256)] + [label] * 2816))
    train, test = (tt.CIFAR10(train=train, folder=tmp_path) for train in (True, False))
    assert train.labels.tolist() == [0, 1, 2, 3, 4] and test.labels.tolist() == [5]
    assert train.images.shape == (5, 3, 32, 32) and train.images[:, 0, 0, 9].tolist() == [9] * 5
    assert train.images[:, 2, 31, 31].tolist() == [0, 1, 2, 3, 4]


def test_a_thread_draws_from_a_generator_of_its_own(tt: ModuleType) -> None:
    """Inside `drawing_from` this thread's numbers come from there, and the package's own stream goes on untouched."""
    tt.manual_seed(7)
    expected = np.random.default_rng(7).random(3).tolist()
    drawn = [tt.generator().random()]
    with tt.drawing_from(np.random.default_rng(1)):
        assert tt.generator().random() == np.random.default_rng(1).random()
        with ThreadPoolExecutor(1) as other:
            drawn.append(other.submit(lambda: tt.generator().random()).result())
        with pytest.raises(KeyError), tt.drawing_from(np.random.default_rng(2)):
            raise KeyError
        assert tt.generator().random() == np.random.default_rng(1).random(2)[1]
    drawn.append(tt.generator().random())
    assert drawn == expected


@pytest.mark.parametrize("shape", [(), (0,), (3,), (40, 1000), (2, 3, 20_000)])
def test_formulas_in_pieces(tt: ModuleType, shape: tuple[int, ...]) -> None:
    """The same numbers as at once, of any size, and in the first array's dtype."""
    rng = np.random.default_rng(3)
    a, b = rng.random(shape), rng.random(shape).astype(np.float32)
    pieces = import_module(f"{tt.__name__}.core.activations").in_pieces
    for first, second in ((a, b), (b, a)):
        found = pieces(lambda x, y: x * y + x, first, second)
        assert found.dtype == first.dtype and np.array_equal(found, (first * second + first).astype(first.dtype))


def test_products_with_one_matrix(tt: ModuleType) -> None:
    """`NumPyBackend` makes one product of a batch and a matrix, whatever the memory's order; the values are NumPy's."""
    rng, matmul = np.random.default_rng(4), tt.get_backend().matmul
    batch, matrix = rng.random((2, 3, 4, 5)), rng.random((5, 6))
    for a in (batch, np.asfortranarray(batch), batch[:, ::2], batch[:0], batch[..., :0]):
        b = matrix[: a.shape[-1]]
        assert matmul(a, b).shape == (a @ b).shape and np.allclose(matmul(a, b), a @ b, rtol=1e-14, atol=0)
        assert np.allclose(matmul(a, b.copy().T.T), a @ b, rtol=1e-14, atol=0)
