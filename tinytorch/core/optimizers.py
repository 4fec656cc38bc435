"""Stage 06: optimizers, which turn gradients into better parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from tinytorch.core.tensor import Tensor

__all__ = ["AdamW", "Optimizer", "SGD"]


class Optimizer:
    """Holds parameters, and changes their values in place by their gradients, which it only reads.

    Args:
        params: Tensors that require a gradient, such as `model.parameters()`; each may come only once.
        settings: the numbers that control the step; each is an attribute that may be changed between steps.

    Attributes:
        params: the parameters, a list.
        state: for each parameter, in that order, a dict of what the optimizer remembers of it, which is empty at first.
    """

    def __init__(self, params: Iterable[Tensor], **settings: Any) -> None:
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected a list of parameters, got a Tensor; write [parameter]")
        self.params = list(params)
        _check_parameters(type(self).__name__, self.params)
        self._settings = tuple(settings)
        vars(self).update(settings)
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.settings().items())})"

    def with_gradient(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """Each parameter that has a gradient, with its state."""
        return [(p, state) for p, state in zip(self.params, self.state) if p.grad is not None]

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `grad` becomes None.

        No array is written to, because somebody else may still hold it.
        """
        # >>> stage 06: your code
        raise NotImplementedError("stage 06: Optimizer.zero_grad is yours to write, see stages/06_optimizers/README.md")
        # <<<

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        raise TypeError(f"{type(self).__name__} defines no step")

    def settings(self) -> dict[str, Any]:
        """The numbers that control the step, as they are now: `{"lr": 0.01, …}`."""
        return {name: getattr(self, name) for name in self._settings}

    def state_dict(self) -> dict[str, Any]:
        """`{"settings": …, "state": …}`: `settings()` and `self.state` as they are now.

        Both are copies, which later steps leave alone. An optimizer that loads them goes on as this one would have.
        """
        # >>> stage 06: your code
        raise NotImplementedError("stage 06: Optimizer.state_dict is yours to write, see stages/06_optimizers/README.md")
        # <<<

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of the settings and the state that `state_dict()` returned, here or in another program.

        `check_fits` raises the error if they do not fit; then nothing is changed.

        Raises:
            ValueError: there are other settings, another number of parameters, or arrays of other shapes.
        """
        # >>> stage 06: your code
        raise NotImplementedError("stage 06: Optimizer.load_state_dict is yours to write, see stages/06_optimizers/README.md")
        # <<<

    def check_fits(self, state_dict: dict[str, Any]) -> None:
        """Raise a ValueError unless `state_dict` is one of such an optimizer, with parameters of these shapes."""
        settings, states = state_dict.get("settings", {}), state_dict.get("state", [])
        if set(settings) != set(self._settings):
            raise ValueError(f"load_state_dict: expected settings {sorted(self._settings)}, got {sorted(settings)}")
        if len(states) != len(self.params):
            raise ValueError(f"load_state_dict: expected state for {len(self.params)} parameters, got {len(states)}")
        for position, (parameter, state) in enumerate(zip(self.params, states)):
            for name, value in state.items():
                if isinstance(value, np.ndarray) and value.shape != parameter.shape:
                    raise ValueError(
                        f"load_state_dict: {name} of parameter {position} is {value.shape}, not {parameter.shape}"
                    )


def _check_parameters(owner: str, parameters: list[Any]) -> None:
    if not parameters:
        raise ValueError(f"{owner}: expected parameters, got none")
    for position, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor) or not parameter.requires_grad:
            raise TypeError(f"{owner}: parameter {position} is no Tensor that requires a gradient")
        if parameter.grad_fn is not None:
            raise ValueError(f"{owner}: parameter {position} is the result of an operation; expected a leaf")
    if len({id(parameter) for parameter in parameters}) < len(parameters):
        raise ValueError(f"{owner}: a parameter comes twice, and would take two steps for one")


def _check_numbers(owner: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:  # NaN is not either
            raise ValueError(f"{owner}: expected a finite {name} ≥ 0, got {number}")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, which is 0.9 by default; PyTorch's SGD has 0.

    Write SGD(params, momentum=0.0) for plain gradient descent, also where you port code from PyTorch.

    Args:
        lr: learning rate.
        momentum: the share of the last velocity that is kept at each step.
        weight_decay: weight_decay · parameter is added to the gradient (an L2 penalty).

    Raises:
        ValueError: a setting is negative, infinite or NaN.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        _check_numbers("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def step(self) -> None:
        """One step for every parameter p that has a gradient; `self.with_gradient()` gives them with their state.

            g = gradient + weight_decay · p
            velocity = momentum · velocity + g        (the first velocity is g)
            p = p - lr · velocity

        p changes in place and keeps its dtype, so whoever holds `p.data` sees the change. The gradient is only read:
        it is not written to and not kept. The velocity is an array of its own, `state["velocity"]`, of p's shape and
        dtype. With momentum 0, p moves by g, and nothing is remembered.
        """
        # >>> stage 06: your code
        raise NotImplementedError("stage 06: SGD.step is yours to write, see stages/06_optimizers/README.md")
        # <<<


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Args:
        lr: learning rate.
        betas: β₁ and β₂, the shares of the running means of the gradient and of its square that are kept at each step.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: at each step the parameter shrinks by lr · weight_decay of itself.

    Raises:
        ValueError: a setting is negative, infinite or NaN, or a beta is 1 or more.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        _check_numbers("AdamW", lr=lr, eps=eps, weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"AdamW: expected two betas from 0 up to, not including, 1, got {betas}")
        super().__init__(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay)

    def step(self) -> None:
        """One step for every parameter p that has a gradient; `self.with_gradient()` gives them with their state.

            p = p · (1 - lr · weight_decay)
            mean   = β₁ · mean   + (1 - β₁) · gradient
            square = β₂ · square + (1 - β₂) · gradient²
            p = p - lr · (mean / (1 - β₁ᵗ)) / (√(square / (1 - β₂ᵗ)) + eps)

        t counts the steps of this parameter from 1; a step in which it has no gradient does not count. Keep t, an
        integer, and the two means, arrays of p's shape and dtype that start as zeros, in `state`, by names of your
        own; keep no other array there. p changes in place and keeps its dtype, so whoever holds `p.data` sees the
        change. The gradient is only read: it is not written to and not kept.
        """
        # >>> stage 06: your code
        raise NotImplementedError("stage 06: AdamW.step is yours to write, see stages/06_optimizers/README.md")
        # <<<
