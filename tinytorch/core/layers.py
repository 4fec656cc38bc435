"""Stage 03: layers, which own the parameters that training changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinytorch.core.arrays import as_array
from tinytorch.core.parts import attributes, check_part, exchange, hidden_in, outline
from tinytorch.core.rng import generator
from tinytorch.core.tensor import Tensor, floating

__all__ = ["Dropout", "Layer", "Linear", "Sequential", "he_normal", "xavier_uniform"]


class Layer:
    """A function of tensors that owns parameters.

    Whatever a layer keeps in an attribute without a leading underscore is found by its name: a Tensor belongs
    to its state (and is a parameter if it requires a gradient), a Layer is a part of it, and so are the Tensors
    and Layers in lists and tuples. Where they would not be found, in a dict or in a list within a list, they are a
    TypeError as soon as anybody asks for them.

    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         self.factor = Tensor([2.0], requires_grad=True)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> [name for name, _ in Scale().named_tensors()]
    ['factor']
    """

    training = True

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's result."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def _members(self, kind: Any) -> Iterator[tuple[str, Any]]:
        """Each attribute of `kind`, or element of a list of them, with its name."""
        for name, lost in hidden_in(self):
            if isinstance(lost, Layer) or (isinstance(lost, Tensor) and lost.requires_grad and not lost.grad_fn):
                what = f"{type(self).__name__}.{name} hides a {type(lost).__name__} in a dict or a list within a list"
                raise TypeError(f"{what}: keep layers and parameters in attributes, or in one list or tuple")
        yield from ((name, value) for name, value in attributes(self) if isinstance(value, kind))

    def _paths(self, above: str = "") -> Iterator[tuple[str, Layer, Any]]:
        """Each part at any depth, under each of its names: the name, the layer that holds it, and the part."""
        for name, part in self._members(Callable):
            if not isinstance(part, type):
                yield above + name, self, part
                yield from part._paths(f"{above}{name}.") if isinstance(part, Layer) else ()

    def named_layers(self) -> Iterator[tuple[str, Any]]:
        """Every part at any depth with the path to it: Layers, and whatever else is called, such as activations.

        A part comes before its own parts, and once, under its first name, even if it is used in two places.

        >>> [name for name, _ in Sequential(Linear(2, 3), Sequential(Linear(3, 1))).named_layers()]
        ['0', '1', '1.0']
        """
        seen: set[int] = set()
        for name, _, part in self._paths():
            if id(part) not in seen:
                seen.add(id(part))
                yield name, part

    def replace_layer(self, name: str, new: Callable[..., Any]) -> None:
        """Put `new` in the place of the part called `name`, at any depth; if it is used in several places, in all.

        Raises:
            LookupError: there is no part of that name; the message lists those that there are.
            TypeError: `new` cannot be called.
        """
        check_part(new, f"replace_layer({name!r})")
        paths = list(self._paths())
        old = {path: part for path, _, part in paths}.get(name)
        if old is None:
            raise LookupError(f"no part {name!r} to replace: there are {', '.join(path for path, _, _ in paths)}")
        for owner in {id(owner): owner for _, owner, part in paths if part is old}.values():
            exchange(owner, old, new)

    def __repr__(self) -> str:
        return outline(self)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every Tensor of this layer and its parts, named by the path to it: `"0.weight"`.

        A layer's own Tensors come first, then those of its parts, both in the order in which the attributes were
        set. A Tensor in a list is named by its place there, `"scales.0"`. Tied ones come under each of their names.
        """
        yield from self._members(Tensor)
        for name, part in self._members(Layer):
            yield from ((f"{name}.{inner}", tensor) for inner, tensor in part.named_tensors())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Pairs (name, Tensor) of all that require a gradient: `named_tensors` above finds every Tensor, and its name.

        A Tensor that is used in two places (tied weights) comes once, under its first name: an optimizer that met
        it twice would change it twice. Two Tensors with the same values are not one.

        >>> [name for name, _ in Sequential(Linear(2, 3), Linear(3, 1, bias=False)).named_parameters()]
        ['0.weight', '0.bias', '1.weight']
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Layer.named_parameters is yours to write, see stages/03_layers/README.md")
        # <<<

    def parameters(self) -> list[Tensor]:
        """What an optimizer is given: every parameter, once."""
        return [tensor for _, tensor in self.named_parameters()]

    def state_dict(self) -> dict[str, np.ndarray]:
        """The values of every Tensor of `named_tensors`, parameters or not, by name.

        NumPy arrays, and copies: training, which changes the parameters in place, leaves them as they are.
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Layer.state_dict is yours to write, see stages/03_layers/README.md")
        # <<<

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over the values of `state`, such as `state_dict` returned. All of it fits, or nothing is changed.

        Every Tensor stays the object that it is, since an optimizer holds it, keeps its dtype, and gets values of
        its own: it shares no memory with `state`. Tensors are those of `named_tensors`.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs, even if it would broadcast. The message
                names just the Tensors that do not fit, and for a shape both.
            TypeError: something else than numbers (`as_array` knows what is).
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Layer.load_state_dict is yours to write, see stages/03_layers/README.md")
        # <<<

    def train(self, mode: bool = True) -> Layer:
        """Set `training` of this layer, its parts and their parts to `mode`: training, or with False evaluation.

        `self._members(Layer)` gives the parts. Returns the layer, so that `model = Model().train()` can be written.
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Layer.train is yours to write, see stages/03_layers/README.md")
        # <<<

    def eval(self) -> Layer:
        """Switch this layer and all its parts to evaluation. Returns the layer."""
        return self.train(False)


def xavier_uniform(fan_in: int, fan_out: int) -> np.ndarray:
    """Weights (fan_in, fan_out) as float32, uniform in ±√(6 / (fan_in + fan_out)); from the package's `generator()`.

    Their variance, 2 / (fan_in + fan_out), keeps signals and gradients from growing or fading through layers
    that are linear around 0, such as those with Tanh. Source: Glorot and Bengio 2010, "Understanding the
    difficulty of training deep feedforward neural networks", equation 16.
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: xavier_uniform is yours to write, see stages/03_layers/README.md")
    # <<<


def he_normal(fan_in: int, fan_out: int) -> np.ndarray:
    """Weights (fan_in, fan_out) as float32, normal with variance 2 / fan_in; from the package's `generator()`.

    The 2 makes up for the half that ReLU sets to zero. Source: He et al. 2015, arXiv:1502.01852, equation 10.
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: he_normal is yours to write, see stages/03_layers/README.md")
    # <<<


class Linear(Layer):
    """x @ weight + bias.

    Args:
        in_features: length of the last axis of the input, fan_in.
        out_features: length of the last axis of the result, fan_out.
        bias: whether to add one.

    Attributes:
        weight: Tensor (in_features, out_features), float32, from `xavier_uniform`; requires a gradient.
        bias: Tensor (out_features,) of zeros, which requires a gradient; or None.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear: expected positive numbers of features, got {in_features} and {out_features}")
        self.in_features, self.out_features = in_features, out_features
        self.weight = Tensor(xavier_uniform(in_features, out_features), requires_grad=True)
        self.bias = Tensor(np.zeros(out_features, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features), for any number of leading axes, also none.

        Made of tensor operations, through which gradients reach `x`, `self.weight` and `self.bias`.

        Raises:
            ValueError: the last axis of `x` has another length than `in_features`; the message names the layer
                (Linear), `in_features` and the shape of `x`.

        >>> Linear(3, 2)(Tensor([1.0, 2.0, 3.0])).shape
        (2,)
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Linear.forward is yours to write, see stages/03_layers/README.md")
        # <<<


class Sequential(Layer):
    """Layers and activations, one after the other: `Sequential(Linear(2, 8), ReLU(), Linear(8, 1))`.

    Parameters are named by position, "0.weight". `len(model)`, `for layer in model`, `model[0]`, `model[-1] = Linear(8,
    2)` work as with a list; `model[:2]` is a Sequential of the same layers.
    """

    def __init__(self, *layers: Callable[[Tensor], Tensor]) -> None:
        for position, layer in enumerate(layers):
            setattr(self, str(position), layer)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.isdigit():
            check_part(value, f"Sequential, position {name}")
        super().__setattr__(name, value)

    @property
    def _layers(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The layers in their order. They are attributes called "0", "1", …, and are kept nowhere else."""
        return tuple(layer for name, layer in vars(self).items() if name.isdigit())

    def forward(self, x: Tensor) -> Tensor:
        """The result of the last of `self._layers`, each being called with what the one before it returned.

        Without parts, `x` itself.
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Sequential.forward is yours to write, see stages/03_layers/README.md")
        # <<<

    def __getitem__(self, position: Any) -> Any:
        found = self._layers[position]
        return Sequential(*found) if isinstance(position, slice) else found

    def __setitem__(self, position: int, layer: Callable[[Tensor], Tensor]) -> None:
        setattr(self, str(range(len(self))[position]), layer)

    def __iter__(self) -> Iterator[Callable[[Tensor], Tensor]]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


class Dropout(Layer):
    """Sets each element to zero with probability `p` while training, and does nothing in evaluation.

    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected a probability from 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor, training: bool | None = None) -> Tensor:
        """`x` with each element set to zero with probability p, and the others divided by 1 - p.

        The division keeps the expected value of each element what it was. Every element, and every call, draws
        anew from the package's `generator()`. With p = 1 all are zero. In evaluation, or with p = 0, `x` itself
        comes back. Made of tensor operations, through which the gradient reaches those elements that were kept.

        Args:
            x: floats, of any shape.
            training: whether to drop; None means the layer's mode, `self.training`.
        """
        # >>> stage 03: your code
        raise NotImplementedError("stage 03: Dropout.forward is yours to write, see stages/03_layers/README.md")
        # <<<
