"""Stage 06: optimizers, which turn gradients into better parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.core.tensor import Tensor

__all__ = ["AdamW", "Optimizer", "SGD"]


class Optimizer:
    """Holds parameters and changes their values, in place, by their gradients, which it only reads.

    Args:
        params: Tensors that require a gradient.
        settings: the numbers that steer the step; each is an attribute that may be changed between steps.

    Attributes:
        state: per parameter, in their order, the arrays that the optimizer remembers, by name.
    """

    def __init__(self, params: Iterable[Tensor], **settings: Any) -> None:
        self.params = list(params)
        for position, parameter in enumerate(self.params):
            if not isinstance(parameter, Tensor) or not parameter.requires_grad:
                raise TypeError(f"{type(self).__name__}: parameter {position} is no Tensor that requires a gradient")
        if not self.params:
            raise ValueError(f"{type(self).__name__}: expected parameters, got none")
        self._settings = tuple(settings)
        vars(self).update(settings)
        self.state: list[dict[str, Any]] = [{} for _ in self.params]

    def with_gradient(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """Each parameter that has a gradient, with its state."""
        return [(p, state) for p, state in zip(self.params, self.state) if p.grad is not None]

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `grad` becomes None, and no array is touched."""
        for parameter in self.params:
            parameter.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        raise TypeError(f"{type(self).__name__} defines no step")

    def state_dict(self) -> dict[str, Any]:
        """A copy of settings and state, from which `load_state_dict` goes on as if nothing had happened."""
        return {
            "settings": {name: getattr(self, name) for name in self._settings},
            "state": [{name: np.copy(value) for name, value in state.items()} for state in self.state],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; nothing is changed unless all of it fits.

        Raises:
            ValueError: other settings, another number of parameters, or arrays of other shapes.
        """
        settings, states = state_dict["settings"], state_dict["state"]
        if set(settings) != set(self._settings):
            raise ValueError(f"load_state_dict: expected settings {sorted(self._settings)}, got {sorted(settings)}")
        if len(states) != len(self.params):
            raise ValueError(f"load_state_dict: expected {len(self.params)} parameters, got {len(states)}")
        for position, (parameter, state) in enumerate(zip(self.params, states)):
            for name, value in state.items():
                if np.shape(value) not in ((), parameter.shape):
                    raise ValueError(
                        f"load_state_dict: {name} of parameter {position} is {np.shape(value)}, not {parameter.shape}"
                    )
        vars(self).update({name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
        self.state = [{name: np.copy(value) for name, value in state.items()} for state in states]


def _not_negative(owner: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not number >= 0:
            raise ValueError(f"{owner}: expected {name} ≥ 0, got {number}")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate.
        momentum: how much of the last step's direction is kept.
        weight_decay: added to the gradient as weight_decay · parameter (an L2 penalty).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        _not_negative("SGD", lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    def step(self) -> None:
        """One step for every parameter that has a gradient.

            g = gradient + weight_decay · p
            velocity = momentum · velocity + g        (the first velocity is g)
            p = p - lr · velocity

        `state["velocity"]` holds the velocity, an array of its own. The gradient itself is only read.
        """
        for parameter, state in self.with_gradient():
            gradient = parameter.grad + self.weight_decay * parameter.data if self.weight_decay else parameter.grad
            if self.momentum:
                if "velocity" in state:
                    state["velocity"] *= self.momentum
                    state["velocity"] += gradient
                else:
                    state["velocity"] = np.array(gradient)
                gradient = state["velocity"]
            parameter.data -= self.lr * gradient


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101).

    Args:
        lr: learning rate.
        betas: how much of the running means of the gradient and of its square is kept at each step.
        eps: added to the root, so that nothing is divided by zero.
        weight_decay: share of the parameter, times lr, taken off at each step.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        _not_negative("AdamW", lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"AdamW: expected betas from 0 up to, not including, 1, got {betas}")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def step(self) -> None:
        """One step for every parameter that has a gradient; t counts the steps of that parameter from 1.

            p = p · (1 - lr · weight_decay)
            mean   = β₁ · mean   + (1 - β₁) · gradient
            square = β₂ · square + (1 - β₂) · gradient²
            p = p - lr · (mean / (1 - β₁ᵗ)) / (√(square / (1 - β₂ᵗ)) + eps)

        `state["mean"]` and `state["square"]` start as zeros; `state["steps"]` holds t. The gradient is only read.
        """
        beta1, beta2 = self.betas
        for parameter, state in self.with_gradient():
            if not state:
                state.update(steps=0, mean=np.zeros_like(parameter.data), square=np.zeros_like(parameter.data))
            state["steps"] = t = int(state["steps"]) + 1
            mean, square, gradient = state["mean"], state["square"], parameter.grad
            parameter.data *= 1 - self.lr * self.weight_decay
            mean *= beta1
            mean += (1 - beta1) * gradient
            scratch = gradient * gradient  # one scratch array, reused: AdamW is bound by memory, not by arithmetic
            scratch *= 1 - beta2
            square *= beta2
            square += scratch
            np.divide(square, 1 - beta2**t, out=scratch)
            np.sqrt(scratch, out=scratch)
            scratch += self.eps
            np.divide(mean, scratch, out=scratch)
            scratch *= self.lr / (1 - beta1**t)
            parameter.data -= scratch
