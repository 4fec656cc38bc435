"""Gate 06: optimizers."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import SGD, AdamW, Optimizer, Tensor
from tinytorch.systems.optimizers import bias_steps, decay_against_l2, decay_half_life, state_bytes, training_bytes
from workshop.checks import close, equal, exercise, holds, raises

# What PyTorch 2.13.0 gives, all in float64: for each optimizer the five values after each of six steps. Made with
#
#     p = torch.tensor([[1.0, -0.5], [0.25, 2.0]], requires_grad=True)
#     q = torch.tensor(-1.5, requires_grad=True)
#     optimizer = torch.optim.SGD([p, q], lr=0.1, momentum=0.9)             # and so on; lr=0.001 for AdamW()
#     for t in range(1, 7):
#         optimizer.param_groups[0]["lr"] = lr if t <= 3 else lr / 2
#         p.grad = torch.tensor([gradient(i, t) for i in range(4)]).reshape(2, 2)
#         q.grad = None if t in (2, 5) else torch.tensor(gradient(4, t))
#         optimizer.step()
#         print([*p.flatten().tolist(), q.item()])
TORCH: dict[str, tuple[tuple[float, ...], ...]] = {
    "SGD(lr=0.1, momentum=0.0)": (
        (1.05, -0.625, -2.25, 2.000075, -1.6),
        (1.025, -0.55, -12.25, 2.000075, -1.6),
        (0.925, -0.55, -2.25, 2, -1.575),
        (0.975, -0.5875, -1, 2.0000625, -1.6),
        (0.9875, -0.525, -3.5, 2.0000875, -1.6),
        (0.9625, -0.5, -9.75, 2.000075, -1.5625),
    ),
    "SGD(lr=0.1, momentum=0.9)": (
        (1.05, -0.625, -2.25, 2.000075, -1.6),
        (1.07, -0.6625, -14.5, 2.0001425, -1.6),
        (0.988, -0.69625, -15.525, 2.00012825, -1.665),
        (1.0011, -0.7489375, -14.73625, 2.0001843375, -1.71925),
        (1.02539, -0.73385625, -16.526375, 2.00025981625, -1.71925),
        (1.022251, -0.695283125, -24.3874875, 2.00031524712, -1.730575),
    ),
    "SGD(lr=0.1, momentum=0.0, weight_decay=0.1)": (
        (1.04, -0.62, -2.2525, 1.980075, -1.585),
        (1.0046, -0.5388, -12.229975, 1.96027425, -1.585),
        (0.894554, -0.533412, -2.10767525, 1.9405965075, -1.54415),
        (0.94008123, -0.56824494, -0.84713687375, 1.93095602496, -1.56142925),
        (0.94788082385, -0.5029037153, -3.34290118938, 1.92132624484, -1.56142925),
        (0.918141419731, -0.475389196723, -9.57618668343, 1.91170711361, -1.51612210375),
    ),
    "SGD(lr=0.1, momentum=0.5, weight_decay=0.2)": (
        (1.03, -0.615, -2.255, 1.960075, -1.57),
        (0.9994, -0.5852, -13.4624, 1.900911, -1.57),
        (0.864112, -0.558596, -8.796852, 1.83323578, -1.5486),
        (0.87164888, -0.58385904, -6.29249648, 1.7980471172, -1.552764),
        (0.8792008312, -0.5281519696, -7.4773937552, 1.76249731463, -1.552764),
        (0.849184798488, -0.470016914704, -14.2450684552, 1.7270849402, -1.50181836),
    ),
    "AdamW()": (
        (1.00098999998, -0.500994999992, 0.2489975, 2.00097998667, -1.50098499999),
        (1.00124632711, -0.501181488075, 0.248110633535, 2.00163002248, -1.50098499999),
        (1.00077898287, -0.501324504795, 0.248062546688, 2.00152413987, -1.5014394583),
        (1.00082406061, -0.501508969559, 0.248092773555, 2.0017130348, -1.50173468815),
        (1.00090510926, -0.501466516941, 0.24802809887, 2.00194345217, -1.50173468815),
        (1.0008899764, -0.5013689355, 0.247819813094, 2.0021007531, -1.50177528562),
    ),
    "AdamW(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.5)": (
        (1.04803921569, -0.574206349206, 0.137539984006, 1.90697674419, -1.52400990099),
        (1.01635496939, -0.558921232066, 0.0402267924783, 1.81479542492, -1.52400990099),
        (0.912591456478, -0.540783997668, 0.0401698903034, 1.72301296186, -1.48963329094),
        (0.896173987262, -0.546154240858, 0.0457217434123, 1.68155420453, -1.48149826025),
        (0.884070652442, -0.524175852319, 0.0386174096671, 1.64134784302, -1.48149826025),
        (0.859735201368, -0.496760375691, 0.0134151616282, 1.60134192655, -1.44450992193),
    ),
    "AdamW(lr=0.05, betas=(0.0, 0.5), weight_decay=0.0)": (
        (1.049999999, -0.5499999996, 0.20000000002, 2.04999933334, -1.5499999995),
        (1.01464466094, -0.510379709234, 0.139697731112, 2.04999933334, -1.5499999995),
        (0.951399108537, -0.510379709234, 0.193424800058, 1.99083946883, -1.52958758531),
        (0.978923202362, -0.537466525787, 0.202873911881, 2.02176864142, -1.55227471522),
        (0.988438315626, -0.506798399628, 0.181459433567, 2.03760539318, -1.55227471522),
        (0.966978439113, -0.491147662855, 0.149586767019, 2.02685991795, -1.52406141088),
    ),
}


def gradient(element: int, step: int) -> float:
    """Exact in float64, of either sign, sometimes zero, large and small."""
    return ((7 * element + 3 * step) % 11 - 5) / 4 * (1, 1, 100, 0.001, 1)[element]


def parameter(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


def two_parameters() -> list[Tensor]:
    return [parameter([[1.0, -0.5], [0.25, 2.0]]), parameter(-1.5)]


def give_gradients(parameters: list[Tensor], step: int) -> None:
    parameters[0].grad = np.array([gradient(i, step) for i in range(4)]).reshape(2, 2)
    parameters[1].grad = None if step in (2, 5) else np.array(gradient(4, step))


MADE: dict[str, Callable[..., Optimizer]] = {
    "SGD(lr=0.1, momentum=0.0)": lambda ps: SGD(ps, lr=0.1, momentum=0.0),
    "SGD(lr=0.1, momentum=0.9)": lambda ps: SGD(ps, lr=0.1, momentum=0.9),
    "SGD(lr=0.1, momentum=0.0, weight_decay=0.1)": lambda ps: SGD(ps, lr=0.1, momentum=0.0, weight_decay=0.1),
    "SGD(lr=0.1, momentum=0.5, weight_decay=0.2)": lambda ps: SGD(ps, lr=0.1, momentum=0.5, weight_decay=0.2),
    "AdamW()": lambda ps: AdamW(ps),
    "AdamW(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.5)": lambda ps: AdamW(ps, 0.1, (0.8, 0.95), 0.01, 0.5),
    "AdamW(lr=0.05, betas=(0.0, 0.5), weight_decay=0.0)": lambda ps: AdamW(ps, 0.05, (0.0, 0.5), weight_decay=0.0),
}


def values(parameters: list[Tensor]) -> np.ndarray:
    return np.concatenate([p.data.ravel() for p in parameters])


def check_steps(name: str) -> None:
    """Every step of TORCH[name]."""
    parameters = two_parameters()
    optimizer = MADE[name](parameters)
    lr = optimizer.lr
    for step, expected in enumerate(TORCH[name], 1):
        optimizer.lr = lr if step <= 3 else lr / 2
        give_gradients(parameters, step)
        optimizer.step()
        close(
            values(parameters),
            expected,
            f"the parameters after step {step}",
            f"{name}, against PyTorch",
            1e-9,
            np.float64,
        )


def check_in_place(make: Callable[..., Optimizer]) -> None:
    p, q = parameter([1.0, 2.0]), parameter([1.0, 2.0, 3.0, 4.0])
    q.data = q.data[::2]  # a view of every second element
    held, optimizer = p.data, make([p, q])
    for _ in range(2):
        p.grad, q.grad = np.array([0.5, -1.0]), np.array([0.5, -1.0])
        optimizer.step()
    holds(p.data is held, "the same array in p.data, changed in place", "a new array", "held = p.data, then two steps")
    close(held, p.data, "an alias of p.data", "after two steps", 0.0)
    holds(not np.array_equal(q.data, [1.0, 3.0]), "a parameter that is a view has moved", q.data, "q.data = array[::2]")


def check_gradients_are_read(make: Callable[..., Optimizer]) -> None:
    """Gradients are neither written to nor kept."""
    p, twin = parameter([1.0, -2.0]), parameter([1.0, -2.0])
    optimizer, other = make([p]), make([twin])
    for step in range(3):
        array = np.array([0.5, -1.0]) * (step + 1)
        p.grad, twin.grad = array, array.copy()
        optimizer.step()
        other.step()
        given = f"step {step + 1} of {step + 1}"
        holds(p.grad is array, "the gradient that p had before the step", p.grad, given)
        close(array, np.array([0.5, -1.0]) * (step + 1), "the gradient after the step", given, 0.0)
        array[...] = 1e6  # whoever owns the array uses it again
    close(p, twin.data, "p", "three steps, each gradient's array overwritten by its owner after its step", 0.0)


def check_dtype(make: Callable[..., Optimizer]) -> None:
    p = parameter([[1.0, 2.0]], np.float32)
    optimizer = make([p])
    for _ in range(2):
        p.grad = np.array([[0.25, -0.5]], np.float32)
        optimizer.step()
        equal(str(p.dtype), "float32", "p.dtype", "a float32 parameter after a step")
    for name, value in optimizer.state[0].items():
        if isinstance(value, np.ndarray):
            equal(str(value.dtype), "float32", f'state["{name}"].dtype', "a float32 parameter after two steps")


def check_parameters_without_gradient(make: Callable[..., Optimizer]) -> None:
    """One that has a gradient now and then, before one that always has: neither disturbs the other."""
    now_and_then, always, alone = parameter([3.0, 4.0]), parameter([1.0, 2.0]), parameter([1.0, 2.0])
    optimizer, other = make([now_and_then, always]), make([alone])
    for step, gradient in enumerate((None, np.array([1.0, 1.0]), None, np.array([2.0, 2.0]), None), 1):
        now_and_then.grad, always.grad, alone.grad = gradient, np.array([1.0, -1.0]), np.array([1.0, -1.0])
        before = now_and_then.data.copy()
        optimizer.step()
        other.step()
        if gradient is None:
            close(now_and_then, before, "a parameter without gradient", f"its gradient is None in step {step}", 0.0)
        close(always, alone.data, "the parameter after it", f"as it goes alone, step {step}", 1e-12)


# Forgetting gradients


@exercise("Optimizer.zero_grad")
def test_zero_grad() -> None:
    """every gradient becomes None, also one that is None already"""
    p, q, r = parameter([1.0]), parameter([2.0]), parameter([3.0])
    optimizer = Optimizer([p, q, r])
    p.grad, r.grad = np.array([5.0]), np.array([6.0])
    optimizer.zero_grad()
    for name, tensor in (("q", q), ("p", p), ("r", r)):
        equal(tensor.grad, None, f"{name}.grad", "p and r had gradients, q had None; zero_grad()")


@exercise("Optimizer.zero_grad")
def test_zero_grad_writes_to_no_array() -> None:
    """an array that somebody else holds keeps its values"""
    p = parameter([1.0, 2.0])
    optimizer, held = SGD([p]), np.array([5.0, 6.0])
    p.grad = held
    optimizer.zero_grad()
    close(held, [5.0, 6.0], "the array", "p.grad = array, then optimizer.zero_grad()", 0.0)


@exercise("Optimizer.zero_grad")
def test_zero_grad_keeps_what_is_remembered() -> None:
    """parameters and the optimizer's state stay as they are"""
    p = parameter([1.0])
    optimizer = SGD([p], lr=0.1)
    optimizer.state[0]["velocity"] = np.array([7.0])
    optimizer.zero_grad()
    close(p, [1.0], "p", "after optimizer.zero_grad()", 0.0)
    equal(list(optimizer.state[0]), ["velocity"], "the names in the state", "after optimizer.zero_grad()")
    close(optimizer.state[0]["velocity"], [7.0], "the velocity", "after optimizer.zero_grad()", 0.0)


# SGD

SGD_KINDS = ({}, {"momentum": 0.0}, {"weight_decay": 0.1}, {"momentum": 0.0, "weight_decay": 0.1})


@exercise("SGD.step")
def test_sgd_plain() -> None:
    """without momentum, p moves by -lr · gradient, as in PyTorch, step for step"""
    check_steps("SGD(lr=0.1, momentum=0.0)")


@exercise("SGD.step")
def test_sgd_momentum() -> None:
    """momentum gathers the gradients of all steps, as in PyTorch, step for step"""
    check_steps("SGD(lr=0.1, momentum=0.9)")


@exercise("SGD.step")
def test_sgd_weight_decay() -> None:
    """weight decay is added to the gradient, before momentum, as in PyTorch, step for step"""
    check_steps("SGD(lr=0.1, momentum=0.0, weight_decay=0.1)")
    check_steps("SGD(lr=0.1, momentum=0.5, weight_decay=0.2)")


@exercise("SGD.step")
def test_sgd_settings_may_change() -> None:
    """lr, momentum and weight_decay are looked up at each step"""
    p = parameter([1.0])
    optimizer, expected, velocity = SGD([p], lr=0.1, momentum=0.0), 1.0, 0.0
    for lr, momentum, decay in ((0.1, 0.0, 0.0), (0.2, 0.5, 0.0), (0.2, 0.9, 0.1), (0.1, 0.9, 0.0)):
        optimizer.lr, optimizer.momentum, optimizer.weight_decay = lr, momentum, decay
        p.grad = np.array([2.0])
        velocity = momentum * velocity + 2.0 + decay * expected
        expected -= lr * velocity
        optimizer.step()
        velocity = velocity if momentum else 0.0
        given = f"this step: lr={lr}, momentum={momentum}, weight_decay={decay}"
        close(p, [expected], "p", given, 1e-12, np.float64)


@exercise("SGD.step")
def test_sgd_in_place() -> None:
    """p.data changes in place: whoever holds the array sees it"""
    for kind in SGD_KINDS:
        check_in_place(lambda parameters, kind=kind: SGD(parameters, **kind))


@exercise("SGD.step")
def test_sgd_only_reads_gradients() -> None:
    """the gradient is neither changed nor kept"""
    for kind in SGD_KINDS:
        check_gradients_are_read(lambda parameters, kind=kind: SGD(parameters, **kind))


@exercise("SGD.step")
def test_sgd_skips_parameters_without_gradient() -> None:
    """a parameter without a gradient stays where it is, whatever its velocity"""
    check_parameters_without_gradient(lambda parameters: SGD(parameters, weight_decay=0.1))


@exercise("SGD.step")
def test_sgd_dtype() -> None:
    """float32 stays float32, also in the velocity"""
    for kind in SGD_KINDS:
        check_dtype(lambda parameters, kind=kind: SGD(parameters, **kind))


@exercise("SGD.step")
def test_sgd_state() -> None:
    """state["velocity"] is the velocity; without momentum nothing is remembered"""
    p = parameter([1.0, 2.0])
    for momentum in (0.5, 0.0):
        optimizer = SGD([p], momentum=momentum)
        for _ in range(2):
            p.grad = np.array([1.0, -2.0])
            optimizer.step()
        names = ["velocity"] if momentum else []
        given = f"momentum={momentum}, two steps with the gradient [1, -2]"
        equal(list(optimizer.state[0]), names, "the names in the state", given)
        if momentum:
            close(optimizer.state[0]["velocity"], [1.5, -3.0], 'state["velocity"]', given, 1e-12, np.float64)


# AdamW


@exercise("AdamW.step")
def test_adamw_defaults() -> None:
    """AdamW(params) does what PyTorch's does, step for step"""
    check_steps("AdamW()")


@exercise("AdamW.step")
def test_adamw_settings() -> None:
    """lr, betas, eps and weight_decay have the places that they have in PyTorch, step for step"""
    check_steps("AdamW(lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.5)")
    check_steps("AdamW(lr=0.05, betas=(0.0, 0.5), weight_decay=0.0)")


@exercise("AdamW.step")
def test_adamw_first_step() -> None:
    """thanks to bias correction the first step is as long as lr, however large the gradient"""
    p = parameter([1.0, 1.0, 1.0])
    optimizer = AdamW([p], lr=0.1, eps=1e-12, weight_decay=0.0)
    p.grad = np.array([1000.0, -1.0, 0.001])
    optimizer.step()
    close(p, [0.9, 1.1, 0.9], "p", "p = [1, 1, 1], gradient [1000, -1, 0.001], lr=0.1", 1e-8)


@exercise("AdamW.step")
def test_adamw_decay_is_decoupled() -> None:
    """where the gradient is zero, a parameter shrinks by lr · weight_decay and nothing else"""
    p = parameter([2.0, -4.0])
    optimizer = AdamW([p], lr=0.1, weight_decay=0.5)
    for step in (1, 2):
        p.grad = np.array([0.0, 0.0])
        optimizer.step()
        expected = np.array([2.0, -4.0]) * 0.95**step
        close(p, expected, f"p after step {step}", "lr=0.1, weight_decay=0.5, all gradients zero", 1e-12)


@exercise("AdamW.step")
def test_adamw_counts_steps_per_parameter() -> None:
    """a parameter whose first gradient comes late takes its first step then"""
    p, late = parameter([1.0]), parameter([1.0])
    optimizer = AdamW([p, late], lr=0.1, weight_decay=0.0)
    for step in range(1, 5):
        p.grad, late.grad = np.array([1.0]), np.array([3.0]) if step >= 3 else None
        optimizer.step()
    close(late, [0.8], "the late parameter", "lr=0.1, gradient None in steps 1 and 2, 3.0 in steps 3 and 4", 1e-7)


@exercise("AdamW.step")
def test_adamw_settings_may_change() -> None:
    """lr, betas, eps and weight_decay are looked up at each step"""
    p, expected, mean, square = parameter([1.0]), 1.0, 0.0, 0.0
    optimizer = AdamW([p])
    for t, (lr, betas, eps, decay) in enumerate(((0.1, (0.9, 0.9), 1e-8, 0.0), (0.2, (0.5, 0.9), 0.1, 0.5)), 1):
        optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay = lr, betas, eps, decay
        p.grad = np.array([2.0 * t])
        mean, square = betas[0] * mean + (1 - betas[0]) * 2 * t, betas[1] * square + (1 - betas[1]) * 4 * t * t
        expected *= 1 - lr * decay
        expected -= lr * mean / (1 - betas[0] ** t) / (np.sqrt(square / (1 - betas[1] ** t)) + eps)
        optimizer.step()
        close(
            p, [expected], "p", f"this step: lr={lr}, betas={betas}, eps={eps}, weight_decay={decay}", 1e-12, np.float64
        )


@exercise("AdamW.step")
def test_adamw_in_place() -> None:
    """p.data changes in place: whoever holds the array sees it"""
    check_in_place(AdamW)


@exercise("AdamW.step")
def test_adamw_only_reads_gradients() -> None:
    """the gradient is neither changed nor kept"""
    check_gradients_are_read(AdamW)
    check_gradients_are_read(lambda parameters: AdamW(parameters, betas=(0.0, 0.0)))


@exercise("AdamW.step")
def test_adamw_skips_parameters_without_gradient() -> None:
    """a parameter without a gradient stays where it is, and does not decay"""
    check_parameters_without_gradient(lambda parameters: AdamW(parameters, lr=0.1, weight_decay=0.5))


@exercise("AdamW.step")
def test_adamw_dtype() -> None:
    """float32 stays float32, also in the running means"""
    check_dtype(AdamW)


@exercise("AdamW.step")
def test_adamw_state() -> None:
    """of each parameter that had a gradient it remembers two arrays of its shape, by whatever names"""
    p, q = parameter([[1.0, 2.0, 3.0]]), parameter([1.0, 2.0])
    optimizer = AdamW([p, q])
    for _ in range(2):
        p.grad = np.array([[1.0, -2.0, 0.5]])
        optimizer.step()
    given = "two steps; p, (1, 3), had a gradient, and q, (2,), had none"
    for tensor, expected in ((p, [(1, 3), (1, 3)]), (q, [])):
        state = optimizer.state[0 if tensor is p else 1]
        shapes = [value.shape for value in state.values() if isinstance(value, np.ndarray)]
        equal(str(shapes), str(expected), f"shapes of the arrays remembered of {'p' if tensor is p else 'q'}", given)


# Saving and going on

OTHER_SETTINGS: dict[type, Callable[..., Optimizer]] = {
    SGD: lambda parameters: SGD(parameters, lr=7.0, momentum=0.2, weight_decay=0.7),
    AdamW: lambda parameters: AdamW(parameters, lr=7.0, betas=(0.1, 0.2), eps=0.5, weight_decay=0.7),
}
KINDS: tuple[tuple[str, Callable[..., Optimizer]], ...] = (
    ("SGD(lr=0.1, weight_decay=0.1)", lambda parameters: SGD(parameters, lr=0.1, weight_decay=0.1)),
    ("AdamW(lr=0.1)", lambda parameters: AdamW(parameters, lr=0.1)),
)


def stepped(make: Callable[..., Optimizer], steps: range, parameters: list[Tensor], optimizer: Any = None) -> Optimizer:
    """The optimizer, by default a new one, after these steps."""
    optimizer = optimizer or make(parameters)
    for step in steps:
        give_gradients(parameters, step)
        optimizer.step()
    return optimizer


def arrays_of(state_dict: dict[str, Any]) -> np.ndarray:
    """All numbers in the state of a state_dict."""
    numbers = [np.ravel(value) for state in state_dict["state"] for _, value in sorted(state.items())]
    return np.concatenate([[0.0], *numbers])


@exercise("Optimizer.state_dict")
def test_state_dict_holds() -> None:
    """it holds the settings as they are now, and the state of each parameter"""
    p, q = parameter([1.0, 2.0]), parameter([3.0])
    optimizer = SGD([p, q], lr=0.1, momentum=0.5)
    optimizer.state[0]["velocity"] = np.array([1.0, -1.0])
    optimizer.lr = 0.25
    found, given = optimizer.state_dict(), "SGD(lr=0.1, momentum=0.5), a velocity for p alone, then lr = 0.25"
    equal(sorted(found), ["settings", "state"], "its keys", given)
    settings = {"lr": 0.25, "momentum": 0.5, "weight_decay": 0.0}
    holds(found["settings"] == settings, f"settings {settings}", found["settings"], given)
    holds(len(found["state"]) == 2, "a state for each of 2 parameters", len(found["state"]), given)
    close(found["state"][0]["velocity"], [1.0, -1.0], "the velocity of p", given, 0.0)
    holds(found["state"][1] == {}, "an empty state for q, which had no gradient", found["state"][1], given)


@exercise("Optimizer.state_dict")
def test_state_dict_is_a_copy() -> None:
    """later steps and settings leave a state_dict alone, and changing it leaves the optimizer alone"""
    for name, make in KINDS:
        parameters = two_parameters()
        optimizer = stepped(make, range(1, 3), parameters)
        optimizer.state_dict()["state"][0]["note"] = 1
        equal(
            "note" in optimizer.state[0], False, "whether the optimizer got it", 'state_dict()["state"][0]["note"] = 1'
        )
        found = optimizer.state_dict()
        before, lr = arrays_of(found), found["settings"]["lr"]
        stepped(make, range(3, 5), parameters, optimizer)
        optimizer.lr = 99.0
        close(arrays_of(found), before, "the numbers in an earlier state_dict", f"{name}, after two more steps", 0.0)
        equal(found["settings"]["lr"], lr, "the lr in an earlier state_dict", "optimizer.lr = 99 afterwards")
        now = arrays_of(optimizer.state_dict())
        for state in optimizer.state_dict()["state"]:
            for value in state.values():
                if isinstance(value, np.ndarray):
                    value[...] = 1e6
        close(
            arrays_of(optimizer.state_dict()), now, "the optimizer's state", f"{name}, its state_dict overwritten", 0.0
        )


@exercise("Optimizer.load_state_dict")
def test_load_goes_on_exactly() -> None:
    """a new optimizer that loads a state_dict goes on bit for bit, with the settings of the old one"""
    for name, make in KINDS:
        straight = two_parameters()
        optimizer = stepped(make, range(1, 4), straight)
        optimizer.lr = 0.05
        resumed = two_parameters()
        for new, old in zip(resumed, straight):
            new.data[...] = old.data
        other = OTHER_SETTINGS[type(optimizer)](resumed)
        saved = optimizer.state_dict()
        other.load_state_dict(saved)
        given = f"{name}, 3 steps, then lr=0.05; loaded into one where every setting is another"
        now = other.state_dict()["settings"]
        holds(now == saved["settings"], f"settings {saved['settings']}", now, given)
        for step in range(4, 7):
            stepped(make, range(step, step + 1), straight, optimizer)
            stepped(make, range(step, step + 1), resumed, other)
            close(values(resumed), values(straight), f"the resumed parameters after step {step}", given, 0.0)


@exercise("Optimizer.load_state_dict")
def test_load_takes_a_copy() -> None:
    """two optimizers that load the same state_dict share no memory, and the state_dict stays as it was"""
    for name, make in KINDS:
        saved = stepped(make, range(1, 3), two_parameters()).state_dict()
        before = arrays_of(saved)
        first, second = two_parameters(), two_parameters()
        one, two = make(first), make(second)
        one.load_state_dict(saved)
        two.load_state_dict(saved)
        stepped(make, range(3, 6), first, one)
        close(arrays_of(saved), before, "the state_dict", f"{name}, loaded, then three steps", 0.0)
        close(arrays_of(two.state_dict()), before, "the state of the other optimizer", f"{name}, both loaded it", 0.0)


@exercise("Optimizer.load_state_dict")
def test_load_refuses_what_does_not_fit() -> None:
    """another kind, number or shape of parameters is a ValueError, and nothing is changed"""
    for name, make in KINDS:
        parameters = two_parameters()
        optimizer = stepped(make, range(1, 4), parameters)
        settings, before = optimizer.state_dict()["settings"], arrays_of(optimizer.state_dict())
        other_kind = KINDS[1 - [kind for kind, _ in KINDS].index(name)][1]
        strangers = (
            ("that of another kind of optimizer", stepped(other_kind, range(1, 3), two_parameters())),
            ("that of three parameters", make([*two_parameters(), parameter([1.0])])),
            ("that of parameters of other shapes", _stepped_once(make, [parameter([1.0, 2.0]), parameter(-1.5)])),
            ("that of shapes which broadcast", _stepped_once(make, [parameter([[1.0], [2.0]]), parameter(-1.5)])),
        )
        for what, stranger in strangers:
            stranger.lr = 5.0
            saved = stranger.state_dict()
            raises(ValueError, lambda saved=saved: optimizer.load_state_dict(saved), f"{name} loads {what}")
            close(arrays_of(optimizer.state_dict()), before, "the state afterwards", f"{name} refused {what}", 0.0)
            now = optimizer.state_dict()["settings"]
            holds(now == settings, f"settings {settings}", now, f"{name} refused {what}")


def _stepped_once(make: Callable[..., Optimizer], parameters: list[Tensor]) -> Optimizer:
    optimizer = make(parameters)
    for tensor in parameters:
        tensor.grad = np.ones_like(tensor.data)
    optimizer.step()
    return optimizer


# Systems


@exercise("state_bytes")
def test_state_bytes_measured() -> None:
    """what tracemalloc finds that the first step left behind"""
    for name, make in (("AdamW", AdamW), ("SGD with momentum", SGD), ("SGD without", lambda ps: SGD(ps, momentum=0.0))):
        parameters = [parameter(np.ones((200, 100)), np.float32), parameter(np.ones(5000)), parameter(np.ones(9000))]
        optimizer = make(parameters)
        equal(state_bytes(optimizer), 0, "state_bytes", f"{name}, before the first step")
        for tensor in parameters[:2]:
            tensor.grad = np.ones_like(tensor.data)
        _stepped_once(make, [parameter([1.0])])  # the first step in a process leaves caches behind
        tracemalloc.start()
        optimizer.step()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        answer = state_bytes(optimizer)
        given = f"{name}: (200, 100) float32, (5000,) float64, and (9000,) without gradient"
        holds(abs(answer - kept) < 5000, f"about {kept} bytes (measured)", answer, given)


@exercise("state_bytes")
def test_state_bytes_of_any_state() -> None:
    """arrays of every dtype count by their bytes, numbers not at all"""
    optimizer = Optimizer([parameter([1.0]), parameter([2.0])])
    optimizer.state = [
        {},
        {"seen": np.zeros(7, np.int8), "steps": 3, "a": np.zeros((2, 3)), "b": np.zeros((), np.float32)},
    ]
    equal(
        state_bytes(optimizer),
        7 + 48 + 4,
        "state_bytes",
        "arrays of 7 int8, 6 float64 and a single float32, and a number",
    )


@exercise("training_bytes")
def test_training_bytes() -> None:
    """what parameters, gradients and state have in nbytes after the first step; known before it"""
    for name, make in (("AdamW", AdamW), ("SGD", SGD), ("SGD(momentum=0)", lambda ps: SGD(ps, momentum=0.0))):
        parameters = [parameter(np.ones((30, 20)), np.float32), parameter(np.ones(50))]
        optimizer = make(parameters)
        answer = training_bytes(optimizer)
        given = f"{name}: (30, 20) float32 and (50,) float64"
        close(parameters[1], np.ones(50), "a parameter afterwards", "training_bytes takes no step", 0.0)
        for tensor in parameters:
            tensor.grad = np.ones_like(tensor.data)
        optimizer.step()
        arrays = [tensor.data for tensor in parameters] + [tensor.grad for tensor in parameters]
        arrays += [value for state in optimizer.state for value in state.values() if isinstance(value, np.ndarray)]
        equal(answer, sum(array.nbytes for array in arrays), "training_bytes", given)


@exercise("bias_steps")
def test_bias_steps() -> None:
    """what counting the steps of a running mean of ones gives"""
    for beta, tolerance in ((0.9, 0.01), (0.9, 0.1), (0.5, 0.3), (0.99, 0.001), (0.0, 0.01), (0.999, 0.05)):
        mean, steps = 0.0, 0
        while abs(mean - 1) > tolerance:
            mean, steps = beta * mean + (1 - beta), steps + 1
        equal(bias_steps(beta, tolerance), steps, "bias_steps", f"beta={beta}, tolerance={tolerance}")


@exercise("decay_half_life")
def test_decay_half_life() -> None:
    """what counting the steps of a shrinking parameter gives"""
    for lr, decay in ((0.1, 0.1), (0.001, 1.0), (0.01, 0.2), (0.5, 0.9), (1.0, 0.7), (0.3, 0.3)):
        left, steps = 1.0, 0
        while left > 0.5:
            left, steps = left * (1 - lr * decay), steps + 1
        equal(decay_half_life(lr, decay), steps, "decay_half_life", f"lr={lr}, weight_decay={decay}")
    equal(decay_half_life(0.1, 0.0), float("inf"), "decay_half_life", "lr=0.1, weight_decay=0: nothing decays")


def adam_end(gradients: np.ndarray, weight: float, lr: float, decay: float, penalty: float) -> float:
    """Where a weight ends, by the formulas, with Python's numbers."""
    mean = square = 0.0
    for t, each in enumerate(gradients, 1):
        total = each + penalty * weight
        mean, square = 0.9 * mean + 0.1 * total, 0.999 * square + 0.001 * total * total
        weight -= lr * decay * weight + lr * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)) ** 0.5 + 1e-8)
    return weight


@exercise("decay_against_l2")
def test_decay_against_l2() -> None:
    """what a simulation of both in plain numbers gives"""
    for scale, start, lr, decay in (
        (1.0, 2.0, 0.01, 0.5),
        (100.0, 2.0, 0.01, 0.5),
        (0.1, -1.0, 0.05, 0.1),
        (0.0, 3.0, 0.1, 0.2),
    ):
        gradients = np.random.default_rng(3).normal(size=40) * scale
        expected = [adam_end(gradients, start, lr, decay, 0.0), adam_end(gradients, start, lr, 0.0, decay)]
        found = decay_against_l2(gradients, start, lr, decay)
        given = f"40 random gradients of size {scale:g}, start {start}, lr {lr}, weight_decay {decay}"
        holds(len(found) == 2, "two numbers", found, given)
        close(np.array([float(end) for end in found]), expected, "(decoupled, penalty)", given, 1e-9)
