"""Gate 06: optimizers."""

from collections.abc import Callable
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import numpy as np

from tinytorch import SGD, AdamW, Optimizer
from tinytorch.systems.optimizers import bias_steps, decay_against_l2, decay_half_life, state_bytes, training_bytes
from workshop.checks import close, equal, holds
from workshop.probes import leaf
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
Memory = dict[str, Any]

# What one step makes of a parameter by the formulas, in NumPy


def sgd(p: Any, g: Any, memory: Memory, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0) -> Any:
    g = g + weight_decay * p
    if momentum:
        memory["velocity"] = g = momentum * memory.get("velocity", 0.0) + g
    return p - lr * g


def adamw(
    p: Any, g: Any, memory: Memory, lr: float = 0.001, betas: Any = (0.9, 0.999), eps: float = 1e-8, **decay: float
) -> Any:
    memory["t"] = t = memory.get("t", 0) + 1
    memory["mean"] = betas[0] * memory.get("mean", 0.0) + (1 - betas[0]) * g
    memory["square"] = betas[1] * memory.get("square", 0.0) + (1 - betas[1]) * g * g
    mean, square = memory["mean"] / (1 - betas[0] ** t), memory["square"] / (1 - betas[1] ** t)
    return p * (1 - lr * decay.get("weight_decay", 0.01)) - lr * mean / (np.sqrt(square) + eps)


FORMULAS = {SGD: sgd, AdamW: adamw}
GRADIENTS = ([0.5, -1.0], [0.25, 3.0], [-2.0, 0.125])
ONE, ZEROS = ([3.0, -5.0],), ([0.0, 0.0], [0.0, 0.0])


def made(kind: type, params: str, settings: dict[str, Any]) -> str:
    """The expression that makes an optimizer: "SGD([p], lr=0.1)"."""
    return f"{kind.__name__}([{params}]{''.join(f', {name}={value!r}' for name, value in settings.items())})"


def gradient(element: int, step: int) -> float:
    """Exact in float64, of either sign, sometimes zero, large and small."""
    return ((7 * element + 3 * step) % 11 - 5) / 4 * (1, 1, 100, 0.001, 1)[element]


# The values of p and q after six steps with PyTorch 2.13.0, all in float64:
#
#     p = torch.tensor([[1.0, -0.5], [0.25, 2.0]], requires_grad=True)
#     q = torch.tensor(-1.5, requires_grad=True)
#     optimizer = torch.optim.SGD([p, q], lr=0.1, momentum=0.9)             # and so on; lr=0.001 for AdamW()
#     for t in range(1, 7):
#         optimizer.param_groups[0]["lr"] = lr if t <= 3 else lr / 2
#         p.grad = torch.tensor([gradient(i, t) for i in range(4)]).reshape(2, 2)
#         q.grad = None if t in (2, 5) else torch.tensor(gradient(4, t))
#         optimizer.step()
#     print([*p.flatten().tolist(), q.item()])
PLAIN, HEAVY = "SGD([q, p], lr=0.1, momentum=0.0)", "SGD([q, p], lr=0.1, momentum=0.9)"
PLAIN_DECAY = "SGD([q, p], lr=0.1, momentum=0.0, weight_decay=0.1)"
HEAVY_DECAY = "SGD([q, p], lr=0.1, momentum=0.5, weight_decay=0.2)"
ADAMW, FAST_ADAMW = "AdamW([q, p])", "AdamW([q, p], 0.1, (0.8, 0.95), 0.01, 0.5)"
FORGETFUL_ADAMW = "AdamW([q, p], 0.05, betas=(0.0, 0.5), weight_decay=0.0)"
TORCH = {
    PLAIN: [0.9625, -0.5, -9.75, 2.000075, -1.5625],
    HEAVY: [1.022251, -0.695283125, -24.3874875, 2.00031524712, -1.730575],
    PLAIN_DECAY: [0.918141419731, -0.475389196723, -9.57618668343, 1.91170711361, -1.51612210375],
    HEAVY_DECAY: [0.849184798488, -0.470016914704, -14.2450684552, 1.7270849402, -1.50181836],
    ADAMW: [1.0008899764, -0.5013689355, 0.247819813094, 2.0021007531, -1.50177528562],
    FAST_ADAMW: [0.859735201368, -0.496760375691, 0.0134151616282, 1.60134192655, -1.44450992193],
    FORGETFUL_ADAMW: [0.966978439113, -0.491147662855, 0.149586767019, 2.02685991795, -1.52406141088],
}


def check_end(e: Expression) -> None:
    q, p = (leaf(value) for value in e.letters.values())
    optimizer = e(q, p)
    lr = optimizer.lr
    for step in range(1, 7):
        optimizer.lr = lr if step <= 3 else lr / 2
        p.grad = np.array([gradient(i, step) for i in range(4)]).reshape(2, 2)
        q.grad = None if step in (2, 5) else np.array(gradient(4, step))
        optimizer.step()
    given = f"{e.given}, lr halved after 3 steps, q.grad None in 2 and 5"
    close(np.array([*p.data.ravel(), q.item()]), TORCH[e.text], "p and q after six steps in PyTorch", given, 1e-9)


def as_torch(*texts: str) -> list[Case]:
    """Six steps from p and q, with the gradients of `gradient`, end where PyTorch's end."""
    return [look.case(check_end, text, q=-1.5, p=[[1.0, -0.5], [0.25, 2.0]]) for text in texts]


def check_path(e: Expression, kind: type, settings: dict[str, Any], changes: Any, dtype: Any) -> None:
    p, path, expected, memory = leaf(e.letters["p"], dtype), [], [e.letters["p"]], {}
    optimizer, now = e(p), dict(settings)
    for gradient, change in zip_longest(e.letters["gradients"], changes, fillvalue={}):
        vars(optimizer).update(change)
        now.update(change)
        p.grad = None if gradient is None else np.array(gradient, dtype)
        optimizer.step()
        path.append(p.data.copy())
        right = expected[-1] if gradient is None else FORMULAS[kind](expected[-1], np.array(gradient), memory, **now)
        expected.append(right)
    given = e.given + (f", settings changed before the steps: {changes}" if changes else "")
    tolerance = 1e-6 if dtype == np.float32 else 1e-10
    close(np.array(path), np.array(expected[1:]), "p after each step", given, tolerance, dtype)


def walks(
    kind: type, gradients: Any = GRADIENTS, *changes: dict[str, float], dtype: Any = np.float64, **settings: Any
) -> Case:
    """p goes by the formulas, one step for each gradient; a gradient may be None, and `changes` are new settings."""
    letters = {"p": [1.0, -2.0], "gradients": gradients}
    return look.case(check_path, made(kind, "p", settings), kind, settings, changes, dtype, **letters)


def in_place(e: Expression, kind: type, settings: dict[str, Any]) -> None:
    """The array that p.data is, here a view, gets the new values."""
    whole, p, memory = np.array([[1.0, 5.0], [-2.0, 6.0]]), leaf(np.zeros((2, 2))), {}
    p.data = held = whole.T
    optimizer, expected = e(p), whole.T.copy()
    for gradient in GRADIENTS:
        p.grad = np.array([gradient, gradient[::-1]])
        optimizer.step()
        expected = FORMULAS[kind](expected, p.grad, memory, **settings)
    given = f"{e.given}, held = p.data = array.T, three steps"
    close(p, expected, "p", given, 1e-10)
    close(held, expected, "held", given, 1e-10)
    holds(p.data is held, "p.data, which still is held", "another array", given)


def gradient_read(e: Expression, kind: type, settings: dict[str, Any]) -> None:
    """The gradient's array is neither written to nor kept."""
    p, expected, memory = leaf([1.0, -2.0]), np.array([1.0, -2.0]), {}
    optimizer = e(p)
    for gradient in GRADIENTS:
        p.grad = array = np.array(gradient)
        optimizer.step()
        close(array, gradient, "the gradient's array after the step", e.given, 0.0)
        holds(p.grad is array, "p.grad, which still is that array", p.grad, e.given)
        array[...] = 1e6  # whoever owns the array uses it again
        expected = FORMULAS[kind](expected, np.array(gradient), memory, **settings)
    close(p, expected, "p after three steps", f"{e.given}, each gradient's array overwritten after its step", 1e-10)


def whether(check: Callable[..., None], kind: type, **settings: Any) -> Case:
    """`check` of one parameter that an optimizer moves with the gradients above."""
    return look.case(check, made(kind, "p", settings), kind, settings, p=[1.0, -2.0])


def check_remembered(e: Expression, expected: dict[str, Any], arrays: int) -> None:
    p, other = leaf([[1.0, -2.0, 3.0]], np.float32), leaf([1.0, 2.0])
    optimizer = e(other, p)
    for _ in range(2):
        p.grad = np.array([[1.0, -2.0, 0.5]], np.float32)
        optimizer.step()
    given, state = f"{e.given}, float32; two steps, in which other had no gradient", optimizer.state
    found = [value for value in state[1].values() if isinstance(value, np.ndarray)]
    equal(sum(array.nbytes for array in found), arrays * p.data.nbytes, "bytes of the arrays remembered of p", given)
    equal(str([array.shape for array in found]), str([(1, 3)] * arrays), "their shapes", given)
    equal(sum(isinstance(each, np.ndarray) for each in state[0].values()), 0, "arrays remembered of other", given)
    for name, value in expected.items():
        holds(name in state[1], f"{name!r} in the state of p", list(state[1]), given)
        close(state[1][name], value, f"state[{name!r}] of p", given, 1e-6, np.float32)


def remembers(kind: type, arrays: int, expected: dict[str, Any] | None = None, **settings: Any) -> Case:
    """Of a float32 parameter that had two gradients so many arrays of its shape and dtype are kept."""
    return look.case(check_remembered, made(kind, "other, p", settings), expected or {}, arrays, other=0, p=0)


MOMENTUM, DECAY = {"momentum": 0.0}, {"weight_decay": 0.1}
SGD_KINDS = ({}, MOMENTUM, DECAY, MOMENTUM | DECAY)
ADAMW_KINDS = ({"lr": 0.1}, {"lr": 0.1, "betas": (0.0, 0.0)}, {"lr": 0.1, "weight_decay": 0.0})

test_steps = table(
    ("SGD.step", "without momentum p moves by -lr · gradient, as in PyTorch"),
    *as_torch(PLAIN),
    walks(SGD, lr=0.1, momentum=0.0),
    walks(SGD, ONE, lr=0.2, momentum=0.0),
    ("SGD.step", "with momentum p moves by the velocity, which gathers the gradients of all steps, as in PyTorch"),
    *as_torch(HEAVY),
    walks(SGD),
    walks(SGD, lr=0.1, momentum=0.5),
    walks(SGD, ONE, lr=0.1),
    ("SGD.step", "weight decay is added to the gradient, before momentum, as in PyTorch"),
    *as_torch(PLAIN_DECAY, HEAVY_DECAY),
    walks(SGD, ZEROS, lr=0.1, momentum=0.0, weight_decay=0.5),
    walks(SGD, lr=0.1, momentum=0.5, weight_decay=0.5),
    ("SGD.step", "lr, momentum and weight_decay are looked up at each step"),
    walks(SGD, GRADIENTS, {"lr": 0.1}, {"lr": 0.2}, momentum=0.0),
    walks(SGD, GRADIENTS, {"lr": 0.1}, {"lr": 0.2}, {"lr": 0.05}, momentum=0.5),
    walks(SGD, GRADIENTS, {}, {"momentum": 0.5}, {"momentum": 0.8}, lr=0.1, momentum=0.0),
    walks(SGD, GRADIENTS, {}, {"weight_decay": 0.5}, {"weight_decay": 0.1}, lr=0.1),
    ("SGD.step", "p.data changes in place: whoever holds the array sees it"),
    *(whether(in_place, SGD, **kind) for kind in SGD_KINDS),
    ("SGD.step", "the gradient's array is neither changed nor kept"),
    *(whether(gradient_read, SGD, **kind) for kind in SGD_KINDS),
    ("SGD.step", "a parameter without a gradient stays where it is, whatever its velocity"),
    walks(SGD, (None, [0.5, -1.0], None, [0.25, 3.0]), lr=0.1),
    walks(SGD, ([0.5, -1.0], None, None, [0.25, 3.0]), lr=0.1, weight_decay=0.5),
    walks(SGD, (None, [0.5, -1.0]), lr=0.1, momentum=0.0, weight_decay=0.5),
    ("SGD.step", "float32 stays float32, also in state['velocity'], which is there with momentum alone"),
    *(walks(SGD, dtype=np.float32, **kind) for kind in SGD_KINDS),
    remembers(SGD, 1, {"velocity": [[1.5, -3.0, 0.75]]}, momentum=0.5),
    remembers(SGD, 0, momentum=0.0),
    ("AdamW.step", "six steps end where PyTorch's end"),
    *as_torch(ADAMW, FAST_ADAMW, FORGETFUL_ADAMW),
    ("AdamW.step", "thanks to bias correction the first step is as long as lr, however large the gradient"),
    walks(AdamW, ([1000.0, -0.001],), lr=0.1, eps=1e-12, weight_decay=0.0),
    *(walks(AdamW, ONE, lr=0.1, betas=betas, weight_decay=0.0) for betas in ((0.9, 0.999), (0.0, 0.999), (0.9, 0.0))),
    ("AdamW.step", "each of the means goes on by its own beta and has its own correction"),
    *(walks(AdamW, lr=0.1, betas=betas, weight_decay=0.0) for betas in ((0.9, 0.999), (0.5, 0.0), (0.0, 0.5))),
    ("AdamW.step", "eps is added to the root"),
    walks(AdamW, ([0.01, -1.0],), lr=0.1, eps=0.1, weight_decay=0.0),
    walks(AdamW, lr=0.1, eps=0.5, weight_decay=0.0),
    ("AdamW.step", "first p shrinks by lr · weight_decay of itself, whatever the gradient"),
    walks(AdamW, ZEROS, lr=0.1, weight_decay=0.5),
    walks(AdamW, ONE, lr=0.1, weight_decay=0.5),
    walks(AdamW, lr=0.1, betas=(0.5, 0.9), weight_decay=0.5),
    ("AdamW.step", "a parameter without a gradient stays where it is, and the step does not count"),
    walks(AdamW, (None, None, [3.0, -1.0], [1.0, 5.0]), lr=0.1, weight_decay=0.0),
    walks(AdamW, ([0.5, -1.0], None, [0.25, 3.0]), lr=0.1, weight_decay=0.5),
    ("AdamW.step", "lr, betas, eps and weight_decay are looked up at each step"),
    walks(AdamW, GRADIENTS, {}, {"lr": 0.2}, {"lr": 0.05}, lr=0.1),
    walks(AdamW, GRADIENTS, {}, {"betas": (0.5, 0.9)}, {"betas": (0.8, 0.5)}, lr=0.1),
    walks(AdamW, GRADIENTS, {}, {"eps": 0.5}, {"eps": 0.1}, lr=0.1),
    walks(AdamW, GRADIENTS, {}, {"weight_decay": 0.5}, {"weight_decay": 0.0}, lr=0.1),
    ("AdamW.step", "p.data changes in place: whoever holds the array sees it"),
    *(whether(in_place, AdamW, **kind) for kind in ADAMW_KINDS),
    ("AdamW.step", "the gradient's array is neither changed nor kept"),
    *(whether(gradient_read, AdamW, **kind) for kind in ADAMW_KINDS),
    ("AdamW.step", "float32 stays float32, also in the two arrays that it remembers, by whatever names"),
    walks(AdamW, dtype=np.float32, lr=0.1),
    *(remembers(AdamW, 2, **kind) for kind in ADAMW_KINDS),
)


# Forgetting, saving, going on


def saved_by_hand(shape: tuple[int, ...] = (2,), states: int = 4, **settings: float) -> dict[str, Any]:
    """What state_dict() returns of an optimizer of four parameters that remembers something of two of them."""
    state = [{"mean": np.arange(1.5, 1.5 + shape[0]).reshape(shape), "steps": 3}, {}, {"mean": np.array([0.1])}, {}]
    return {"settings": settings or {"lr": 0.5, "decay": 0.25}, "state": [*state, {}][:states]}


def holding(*states: dict[str, Any], **settings: float) -> Optimizer:
    """An optimizer of four parameters that remembers this of the first of them."""
    optimizer = Optimizer([leaf([1.0, 2.0]), leaf([[1.0]]), leaf([1.0]), leaf(1.0)], **settings)
    optimizer.state[: len(states)] = states
    return optimizer


def remembering() -> Optimizer:
    return holding(*saved_by_hand()["state"], lr=0.5, decay=0.25)


def flat(settings: dict[str, Any], state: list[dict[str, Any]]) -> np.ndarray:
    """The settings, the number of states, and all numbers in them."""
    values = [value for each in state for _, value in sorted(each.items())]
    return np.concatenate([np.ravel(each) for each in (*settings.values(), len(state), *values)])


def try_to_load(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    with suppress(ValueError):
        optimizer.load_state_dict(saved)


def check_goes_on(e: Expression) -> None:
    one = e(leaf(e.letters["p"]))
    moved(one)
    one.lr = 0.05
    other = type(one)([leaf(one.params[0].data)], lr=9.0, weight_decay=0.7)
    other.load_state_dict(one.state_dict())
    given = f"{e.given}, three steps, then lr = 0.05; its state_dict loaded into another; three steps of each"
    close(moved(other), moved(one), "p of the one that was resumed", given, 0.0)


def moved(optimizer: Optimizer) -> np.ndarray:
    """The parameter after three steps."""
    for gradient in GRADIENTS:
        optimizer.params[0].grad = np.array(gradient)
        optimizer.step()
    return optimizer.params[0].data


def after(lines: str, values: dict[str, Any]) -> list[Case]:
    """Once the statements `lines` have run, these are the values of some expressions."""
    return [look.after(lines, text, expected) for text, expected in values.items()]


GIVEN = (
    "p, q = map(leaf, ([1.0, 2.0], [3.0])); optimizer = SGD([q, p]); optimizer.state[0]['velocity'] = np.ones(1) * 7; "
)
FORGET = GIVEN + "p.grad = held = np.array([5.0, 6.0]); optimizer.zero_grad()"
KEPT = {"held": [5.0, 6.0], "p.data": [1.0, 2.0], "q.data": [3.0], "len(optimizer.params)": 2}
NOW, LR, MEAN = "flat(optimizer.settings(), optimizer.state)", "saved['settings']['lr']", "saved['state'][0]['mean']"
ITS_MEAN, ITS_STATES = "optimizer.state[0]['mean']", "len(optimizer.state)"
NUMBERS = [0.5, 0.25, 4.0, 1.5, 2.5, 3.0, 0.1]
MADE = "optimizer = remembering(); "
SAVE, AGAIN = MADE + "saved = optimizer.state_dict(); ", "optimizer.lr = 9.0; saved = optimizer.state_dict()"
LOAD = "optimizer = holding(lr=9.0, decay=8.0); saved = saved_by_hand(); optimizer.load_state_dict(saved); "
RELOAD = MADE + "optimizer.state[0]['mean'] *= 2; optimizer.load_state_dict(saved_by_hand())"
# What does not fit a remembering() optimizer: other settings, numbers of parameters, shapes, some that broadcast.
SHAPES = [f"{sizes}, lr=9.0, decay=8.0" for sizes in ("(2,), 3", "(2,), 5", "(3,), 4", "(2, 1), 4", "(1,), 4")]
WRONG = [f"saved_by_hand({arguments})" for arguments in ("(2,), 4, lr=9.0", *SHAPES)]

test_state = table(
    ("Optimizer.zero_grad", "every gradient becomes None, also one that is None already"),
    *after(FORGET, {"p.grad": None, "q.grad": None}),
    *after(GIVEN + "q.grad = np.array([5.0]); optimizer.zero_grad()", {"q.grad": None}),
    ("Optimizer.zero_grad", "no array is written to, and nothing else is forgotten"),
    *after(FORGET, KEPT | {"optimizer.state[0]['velocity']": [7.0]}),
    ("Optimizer.state_dict", "it holds the settings as they are now, and the state of each parameter in its place"),
    *after(SAVE, {"tuple(sorted(saved))": ("settings", "state"), "flat(**saved)": NUMBERS}),
    *after(SAVE, {"len(saved['state'])": 4, "saved['state'][2]['mean']": [0.1]}),
    *(look.after(first + AGAIN, LR, 9.0) for first in (MADE, SAVE)),
    ("Optimizer.state_dict", "what happens to the optimizer afterwards leaves it alone"),
    *after(SAVE + "optimizer.lr = 9.0", {LR: 0.5}),
    *after(SAVE + "optimizer.state[0]['mean'] *= 2", {MEAN: [1.5, 2.5]}),
    *after(SAVE + "optimizer.state[0]['steps'] += 1", {"saved['state'][0]['steps']": 3}),
    *after(SAVE + "optimizer.state.pop()", {"len(saved['state'])": 4}),
    ("Optimizer.state_dict", "what happens to it leaves the optimizer alone"),
    *after(SAVE, {NOW: NUMBERS}),
    *after(SAVE + "saved['settings']['lr'] = 9.0", {"optimizer.lr": 0.5}),
    *after(SAVE + "saved['state'][0]['mean'] *= 2", {ITS_MEAN: [1.5, 2.5]}),
    *after(SAVE + "saved['state'][0]['note'] = 7", {"len(optimizer.state[0])": 2}),
    *after(SAVE + "saved['state'].pop()", {ITS_STATES: 4}),
    ("Optimizer.load_state_dict", "settings and state are those of the state_dict"),
    *after(LOAD, {NOW: NUMBERS, "optimizer.lr": 0.5, ITS_STATES: 4, "optimizer.state[2]['mean']": [0.1]}),
    *after(LOAD + "optimizer.lr = 7.0", {"optimizer.settings()['lr']": 7.0}),
    *after(RELOAD, {NOW: NUMBERS}),
    ("Optimizer.load_state_dict", "they are copies: neither the optimizer nor the state_dict changes with the other"),
    *after(LOAD, {"flat(**saved)": NUMBERS}),
    *after(LOAD + "optimizer.lr = 9.0", {LR: 0.5}),
    *after(LOAD + "optimizer.state[0]['mean'] *= 2", {MEAN: [1.5, 2.5]}),
    *after(LOAD + "saved['state'][0]['mean'] *= 2", {ITS_MEAN: [1.5, 2.5]}),
    *after(LOAD + "saved['state'][0]['note'] = 7", {"len(optimizer.state[0])": 2}),
    *after(LOAD + "saved['state'].pop()", {ITS_STATES: 4}),
    ("Optimizer.load_state_dict", "what does not fit is a ValueError"),
    *(look.raises(f"remembering().load_state_dict({wrong})", ValueError) for wrong in WRONG),
    ("Optimizer.load_state_dict", "what does not fit changes nothing"),
    *(look.after(f"{MADE}try_to_load(optimizer, {wrong})", NOW, NUMBERS) for wrong in WRONG),
    ("Optimizer.load_state_dict", "an optimizer that loads the state_dict of another goes on as that one, bit for bit"),
    look.case(check_goes_on, "SGD([p], lr=0.1, weight_decay=0.1)", p=[1.0, -2.0]),
    look.case(check_goes_on, "AdamW([p], lr=0.1)", p=[1.0, -2.0]),
)


# Systems


def counted(left: float, factor: float, end: float) -> int:
    """How often `left` is multiplied by `factor` until it is at most `end`."""
    steps = 0
    while left > end:
        left, steps = left * factor, steps + 1
    return steps


def both_ends(gradients: list[float], start: float, lr: float, decay: float) -> list[float]:
    """Where AdamW takes `start`: with its own decay, and with a penalty in its place."""
    weights, memories = [start, start], [{}, {}]
    for each in gradients:
        weights[0] = adamw(weights[0], each, memories[0], lr=lr, weight_decay=decay)
        weights[1] = adamw(weights[1], each + decay * weights[1], memories[1], lr=lr, weight_decay=0.0)
    return weights


RANDOM = np.random.default_rng(3).normal(size=40).tolist()
TWO = "p, q = leaf(np.ones((30, 20)), np.float32), leaf(np.ones(50)); answer = training_bytes({}([p, q]{})); "
BYTES = 600 * 4 + 50 * 8  # of those two
HELD = {  # what is in the state, and its bytes
    "{}": 0,
    "{'a': np.zeros(7, np.int8)}": 7,
    "{'a': np.zeros((2, 3))}": 48,
    "{'a': np.zeros(3, np.float32), 'b': np.zeros((), np.float32)}": 16,
    "{'a': np.zeros(5), 'steps': 3, 'name': 'mean'}": 40,
    "{}, {'a': np.zeros(5)}, {}, {'b': np.zeros(4), 'a': np.zeros(9)}": 144,
}
MEANS = ((0.9, 0.01), (0.9, 0.1), (0.5, 0.25), (0.99, 0.001), (0.999, 0.05), (0.0, 0.01))
DECAYS = ((0.1, 0.1), (0.001, 1.0), (0.01, 0.2), (0.5, 0.9), (1.0, 0.5), (0.3, 0.3))
RUNS = ("RANDOM, 2.0, 0.01, 0.5", "RANDOM[:10], -1.0, 0.05, 0.1", "[100 * each for each in RANDOM], 2.0, 0.01, 0.5")
RUNS += ("[0.0, 0.0, 0.0], 3.0, 0.1, 0.2", "[5.0, 1.0], 3, 0.1, 0.5")

test_systems = table(
    ("state_bytes", "the bytes of all arrays in the state, by their dtype; numbers do not count"),
    *(look.equals(f"state_bytes(holding({states}))", expected) for states, expected in HELD.items()),
    ("training_bytes", "the bytes of parameters, gradients and state, known before the first step"),
    *after(TWO.format("AdamW", ""), {"answer": 4 * BYTES}),
    *after(TWO.format("SGD", ""), {"answer": 3 * BYTES}),
    *after(TWO.format("SGD", ", momentum=0.1"), {"answer": 3 * BYTES}),
    *after(TWO.format("SGD", ", momentum=0.0"), {"answer": 2 * BYTES}),
    ("training_bytes", "no step is taken, and no gradient is made"),
    *after(TWO.format("AdamW", ""), {"q.data.sum()": 50.0, "p.grad": None}),
    ("bias_steps", "what counting the steps of a running mean of ones gives"),
    *(look.equals("bias_steps(b, within)", counted(1.0, b, within), b=b, within=within) for b, within in MEANS),
    ("decay_half_life", "what counting the steps of a shrinking parameter gives; infinite if nothing decays"),
    *(look.equals(f"decay_half_life({lr}, {decay})", counted(1.0, 1 - lr * decay, 0.5)) for lr, decay in DECAYS),
    look.equals("decay_half_life(0.1, 0.0)", float("inf")),
    ("decay_against_l2", "where a simulation of both in plain numbers ends"),
    *(look.gives(f"np.array(decay_against_l2({run}))", f"both_ends({run})", tolerance=1e-9) for run in RUNS),
)
