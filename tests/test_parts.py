"""What stage 03 gives beside its exercises: a model's parts, held once, and work in blocks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import ROOT
from warm import run_python

START = """
import json
import numpy as np
from tinytorch import Dropout, GELU, Layer, Linear, ReLU, Sequential, Tensor

class Block(Layer):
    def __init__(self, size):
        self.size, self.rate = size, 0.5
        self.gain = Tensor([1.0], requires_grad=True)
        self.inner = Sequential(Linear(size, size), ReLU())
        self.branches = [Linear(size, size), (lambda x: x)]
    def forward(self, x):
        return self.inner(x) + self.branches[0](x) * self.gain

def names(layer):
    return [name for name, _ in layer.named_layers()]

def said(action):
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
"""


def in_reference(code: str) -> Any:
    """What `code`, with the lines above, hands to `json.dumps` in a process of its own."""
    done = run_python("-c", START + code, cwd=ROOT / "solutions")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Parts


def test_parts_are_named_by_the_path_to_them() -> None:
    found = in_reference("""
block, tied = Block(2), Linear(2, 2)
model = Sequential(block, tied, Sequential(tied, Dropout(0.1)), tied)
same = dict(model.named_layers())["0.inner.0"] is block.inner[0]
print(json.dumps([names(block), names(model), same]))
""")
    assert found[0] == ["inner", "inner.0", "inner.1", "branches.0", "branches.1"]
    assert found[1] == ["0", *(f"0.{name}" for name in found[0]), "1", "2", "2.1"], "a tied part comes once"
    assert found[2] is True


@pytest.mark.parametrize(
    "exchange",
    ["model[0] = new", "model.replace_layer('0', new)", "setattr(model, '0', new)", "model[-3] = new"],
)
def test_forward_and_state_agree_after_a_part_is_replaced(exchange: str) -> None:
    found = in_reference(f"""
model, new, x = Sequential(Linear(2, 2), ReLU(), Linear(2, 1)), Linear(2, 2, bias=False), Tensor(np.eye(2))
new.weight.data[...] = [[5.0, 6.0], [7.0, 8.0]]
{exchange}
out = np.maximum(new.weight.data, 0) @ model[2].weight.data + model[2].bias.data
same = np.allclose(model(x).data, out)
print(json.dumps([list(model.state_dict()), same, model[0] is new, len(model), len(list(model))]))
""")
    assert found == [["0.weight", "2.weight", "2.bias"], True, True, 3, 3]


def test_parts_are_replaced_at_any_depth_and_wherever_they_are_used() -> None:
    found = in_reference("""
block, tied = Block(2), Linear(2, 2)
pair = (tied, tied)
class Model(Layer):
    def __init__(self):
        self.blocks, self.pair, self.head = [block, tied], pair, Sequential(ReLU(), tied)
        self._last = self.blocks[-1]
    def forward(self, x):
        return self._last(x)
model, new, held = Model(), Linear(2, 2, bias=False), None
held = model.blocks
model.replace_layer("blocks.0.inner.1", GELU())
model.replace_layer("pair.1", new)
where = [model.blocks[1], *model.pair, model.head[1], model._last]
wrapped = Sequential(block.inner[0])
model.replace_layer("blocks.0.inner.0", wrapped)
print(json.dumps([
    type(block.inner[1]).__name__, [part is new for part in where], held is model.blocks, isinstance(model.pair, tuple),
    block.inner[0] is wrapped, "blocks.0.inner.0.0.weight" in model.state_dict(),
    said(lambda: model.replace_layer("blocks.3", new)), said(lambda: model.replace_layer("head", Linear)),
    said(lambda: Sequential(Linear(1, 1)).replace_layer("weight", new)),
]))
""")
    assert found[:6] == ["GELU", [True] * 5, True, True, True, True]
    assert found[6].startswith("LookupError") and "'blocks.3'" in found[6] and "blocks.0.inner.0.0, " in found[6]
    assert found[7].startswith("TypeError") and "head" in found[7]
    assert found[8] == "LookupError: no part 'weight' to replace: there are 0"


def test_sequential_is_like_a_list() -> None:
    found = in_reference("""
first, second, third = Linear(1, 2), ReLU(), Linear(2, 3)
model = Sequential(first, second, third)
print(json.dumps([
    [part is other for part, other in zip(model, (first, second, third))], len(model), model[-1] is third,
    list(model[1:]) == [second, third], type(model[:2]).__name__, list(model[:2].state_dict()),
    said(lambda: model[3]), said(lambda: model.__setitem__(3, second)), said(lambda: model.__setitem__(0, 5)),
    said(lambda: Sequential(first, Linear)), len(Sequential()),
]))
""")
    assert found[:6] == [[True] * 3, 3, True, True, "Sequential", ["0.weight", "0.bias"]]
    assert found[6].startswith("IndexError") and found[7].startswith("IndexError")
    assert found[8] == "TypeError: Sequential, position 0: expected a layer, such as Linear(2, 8), got 5"
    assert found[9].startswith("TypeError: Sequential, position 1: expected a layer")
    assert found[10] == 0


def test_print_shows_the_structure() -> None:
    shown, simple = in_reference("""
print(json.dumps([repr(Sequential(Block(2), Dropout(0.25).eval(), np.tanh)), repr(Linear(2, 3, bias=False))]))
""")
    assert shown.splitlines() == [
        "Sequential(",
        "  (0): Block(",
        "    size=2, rate=0.5",
        "    (inner): Sequential(",
        "      (0): Linear(in_features=2, out_features=2)",
        "      (1): ReLU()",
        "    )",
        "    (branches.0): Linear(in_features=2, out_features=2)",
        "    (branches.1): <lambda>",
        "  )",
        "  (1): Dropout(p=0.25)",
        "  (2): tanh",
        ")",
    ]
    assert simple == "Linear(in_features=2, out_features=3, bias=None)"


@pytest.mark.parametrize(
    "place", ["{'a': part}", "[[part]]", "[(1, part)]", "{'a': [part]}", "({'b': part},)", "[0, {'a': {'b': part}}]"]
)
@pytest.mark.parametrize("part", ["Linear(2, 3)", "Tensor([1.0], requires_grad=True)"])
def test_what_nobody_finds_is_an_error(place: str, part: str) -> None:
    """Whoever asks for parameters, state, mode or parts is told, also if the container was filled later."""
    found = in_reference(f"""
class Hidden(Layer):
    def __init__(self, part):
        self.heads = {place}
model = Sequential(Hidden({part}))
print(json.dumps([said(ask) for ask in (
    model.parameters, model.state_dict, lambda: model.load_state_dict({{}}), model.eval, lambda: names(model),
)]))
""")
    for message in found:
        assert message and message.startswith("TypeError: Hidden.heads") and "list or tuple" in message, message
        assert part.split("(")[0] in message


def test_other_containers_are_left_alone() -> None:
    found = in_reference("""
class Model(Layer):
    def __init__(self):
        self.settings = {"sizes": [1, 2], "name": "m", "mask": Tensor([1.0])}
        self.table, self._cache = [[1, 2], [3]], {"layer": Linear(1, 1)}
        self.part = Linear(1, 1)
model = Model()
print(json.dumps([[name for name, _ in model.named_parameters()], list(model.state_dict()), names(model)]))
""")
    assert found == [["part.weight", "part.bias"], ["part.weight", "part.bias"], ["part"]]


# Blocks


def test_threads_start_when_they_are_used() -> None:
    found = in_reference("""
import threading
from tinytorch import Conv2d
from tinytorch.core import blocks
in_blocks = blocks.in_blocks
in_blocks(lambda part: None, 5, numbers_each=1)
before = [blocks._threads, threading.active_count()]
results = in_blocks(lambda part: part.start, 5, numbers_each=blocks.BLOCK)
print(json.dumps([*before, threading.active_count() > 1, results]))
""")
    assert found == [None, 1, True, [0, 1, 2, 3, 4]]


def test_blocks_within_blocks_do_not_wait_for_ever() -> None:
    found = in_reference("""
from tinytorch.core.blocks import BLOCK, in_blocks
inner = lambda part: sum(in_blocks(lambda p: p.stop, 3, numbers_each=BLOCK))
print(json.dumps(in_blocks(inner, 40, numbers_each=BLOCK)))
""")
    assert found == [6] * 40


def test_arguments_of_blocks_are_checked() -> None:
    found = in_reference("""
from tinytorch.core.blocks import in_blocks
work = lambda part: part
print(json.dumps([said(lambda: in_blocks(*given, **named)) for given, named in (
    ((work, 4, 9), {}), ((4, work), {"numbers_each": 9}), ((work, 4), {"numbers_each": 2.5}),
    ((work, -1), {"numbers_each": 1}), ((work, 1), {"numbers_each": -1}), ((work, 0), {"numbers_each": 0}),
)]))
""")
    assert [message and message.split(":")[0] for message in found] == [
        "TypeError",
        "TypeError",
        "TypeError",
        "ValueError",
        "ValueError",
        None,
    ]
