"""Gate 13: transformers."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import GELU, GPT, MLP, LayerNorm, Tensor, TransformerBlock, next_token_loss, sample_tokens
from tinytorch.core.autograd import checkpoint
from tinytorch.core.door import memory
from tinytorch.core.layer_norm import LayerNormBackward
from tinytorch.core.rng import drawing_from, generator, manual_seed
from tinytorch.systems.transformer import (
    accumulation_plan,
    bits_per_character,
    block_activations,
    gpt_parameters,
    token_flops,
)
from workshop.checks import close, equal, exercise, holds, plain, raises, ratio
from workshop.probes import allocated, at_the_door, leaf, numbers, random_gradient, through_door, unwatched
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
Array = np.ndarray
f4 = np.float32


def filled(layer: Any, dtype: Any = np.float64, seed: int = 0) -> Any:
    """`layer` with numbers around 0 in all its tensors, the same ones each time."""
    random = np.random.default_rng(seed)
    for _, tensor in layer.named_tensors():
        tensor.data = random.normal(0, 0.5, tensor.shape).astype(dtype)
    return layer


def values(layer: Any, name: str) -> Array:
    return dict(layer.named_tensors())[name].data.astype(float)


# What is right, in NumPy and float64; products of matrices are counted on the way

flops = Counter()


def product(a: Array, b: Array) -> Array:
    result = a @ b
    flops["all"] += 2 * result.size * a.shape[-1]
    return result


def right_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    away = x - x.mean(-1, keepdims=True, dtype=float)
    return away / np.sqrt((away**2).mean(-1, keepdims=True) + eps) * weight + bias


def right_mlp(x: Array, weights: dict[str, Array]) -> Array:
    up = product(x, weights["up.weight"]) + weights.get("up.bias", 0.0)
    gelu = up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3))) / 2
    return product(gelu, weights["down.weight"]) + weights.get("down.bias", 0.0)


def right_attention(x: Array, weights: dict[str, Array], heads: int, mask: Any) -> Array:
    split = (*x.shape[:-1], heads, x.shape[-1] // heads)
    q, k, v = (product(x, weights[f"{n}.weight"]).reshape(split).swapaxes(-2, -3) for n in ("query", "key", "value"))
    scores = product(q, k.swapaxes(-1, -2)) / np.sqrt(split[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    chances = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = product(chances / chances.sum(-1, keepdims=True), v)
    return product(mixed.swapaxes(-2, -3).reshape(x.shape), weights["out.weight"])


def below(weights: dict[str, Array], name: str) -> dict[str, Array]:
    """The weights of one part."""
    return {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}


def right_block(x: Array, weights: dict[str, Array], heads: int, mask: Any = None) -> Array:
    norms = [below(weights, f"norm{i}.").values() for i in (1, 2)]
    x = x + right_attention(right_norm(x, *norms[0]), below(weights, "attention."), heads, mask)
    return x + right_mlp(right_norm(x, *norms[1]), below(weights, "mlp."))


def right_gpt(indices: Array, weights: dict[str, Array], layers: int, heads: int) -> Array:
    table, n = weights["tokens.weight"], indices.shape[-1]
    x = table[indices] + weights["positions.positions"][:n]
    for i in range(layers):
        x = right_block(x, below(weights, f"blocks.{i}."), heads, np.tri(n, dtype=bool))
    return product(right_norm(x, weights["norm.weight"], weights["norm.bias"]), table.T)


def weights_of(layer: Any) -> dict[str, Array]:
    return {name: tensor.data.astype(float) for name, tensor in layer.named_tensors()}


def right_sample(logits: Array, temperature: float = 1.0, top_k: Any = None, random: Any = None) -> Array:
    if temperature == 0:
        return np.array([max(range(len(row)), key=lambda i: row[i]) for row in logits])
    found = []
    for row, number in zip(np.asarray(logits, float), random.random(len(logits))):
        allowed = np.argsort(-row, kind="stable")[:top_k]
        chances = np.zeros(len(row))
        chances[allowed] = np.exp((row[allowed] - row.max()) / temperature)
        found.append(int(np.argmax(np.cumsum(chances / chances.sum()) > number)))
    return np.array(found)


# Gradients of parameters: along one random direction for each, by central differences


def check_trained(e: Expression, layer: Callable[[], Any]) -> None:
    """Each tensor of the layer that the expression makes gets the gradient that it should have."""
    made, eps = layer(), 1e-5
    call = lambda: eval(e.code, {**e.names, **e.letters, "layer": made})
    result = call()
    upstream = random_gradient(plain(result).shape)
    result.backward(upstream)
    for name, tensor in made.named_tensors():
        way, ends = random_gradient(tensor.shape), []
        with unwatched():
            here = tensor.data
            for sign in (1, -1):
                tensor.data = here + sign * eps * way
                ends.append(float((plain(call()) * upstream).sum()))
            tensor.data = here
        holds(tensor.grad is not None, f"a gradient of {name}", tensor.grad, e.given)
        slope = (ends[0] - ends[1]) / (2 * eps)
        close((tensor.grad * way).sum(), slope, f"({name}.grad · a direction), by central differences", e.given, 1e-6)


def trained(text: str, layer: Callable[[], Any], **letters: Any) -> Case:
    return look.case(check_trained, text, layer, **letters)


# LayerNorm


def norm(x: Array, near: float = 1e-9, dtype: Any = np.float64, made: str = "filled(LayerNorm(4))") -> Case:
    right = f"right_norm(x, values({made}, 'weight'), values({made}, 'bias'), {made}.eps)"
    return look.gives(f"{made}(x)", right, tolerance=near, dtype=dtype, x=x)


def check_norm_door(e: Expression) -> None:
    layer, (x,) = filled(LayerNorm(4), f4), e.leaves()
    through_door(lambda: layer(x), "LayerNorm", (x, layer.weight, layer.bias), ("normalised", "inverse_std"), e.given)
    saved = at_the_door(lambda: layer(x))[2]
    wanted = right_norm(x.data, 1.0, 0.0), 1 / np.sqrt(x.data.var(-1, keepdims=True, dtype=float) + 1e-5)
    for name, right in zip(("normalised", "inverse_std"), wanted):
        close(saved[name], right, f"{name}, as saved", e.given, 1e-5, x.dtype)


def check_norm_rule(e: Expression, parts: slice, near: float) -> None:
    """The rule by itself, with what the forward pass would have saved."""
    x, g = e.arrays()
    weight = (np.arange(1, x.shape[-1] + 1) ** 2 / 7).astype(x.dtype)
    std = np.sqrt(x.var(-1, keepdims=True, dtype=float) + 1e-5)
    hat = (x - x.mean(-1, keepdims=True, dtype=float)) / std
    rule = LayerNormBackward()
    rule.inputs = leaf(x, x.dtype), leaf(weight, x.dtype), leaf(weight, x.dtype)
    rule.normalised, rule.inverse_std = hat.astype(x.dtype), (1 / std).astype(x.dtype)
    before = [each.copy() for each in (g, rule.normalised, rule.inverse_std)]
    answers, slopes = rule.backward(g), g * weight.astype(float)
    right = (
        (slopes - slopes.mean(-1, keepdims=True) - hat * (slopes * hat).mean(-1, keepdims=True)) / std,
        (g * hat).reshape(-1, x.shape[-1]).sum(0),
        g.reshape(-1, x.shape[-1]).sum(0, dtype=float),
    )
    equal(isinstance(answers, (tuple, list)) and len(answers), 3, "the number of gradients", e.given)
    for name, found, wanted in list(zip(("x", "weight", "bias"), answers, right))[parts]:
        if name != "x" and isinstance(found, Array) and found.shape == x.shape:
            found = found.reshape(-1, x.shape[-1]).sum(0)  # as the engine does
        close(found, wanted, f"the gradient of {name}", e.given, near, x.dtype)
    for name, after, was in zip(("G", "normalised", "inverse_std"), (g, rule.normalised, rule.inverse_std), before):
        equal(after, was, f"{name}, afterwards", e.given)


def norm_rule(parts: slice, *shape: int, dtype: Any = np.float64, x: Any = None, near: float = 1e-9) -> Case:
    x = (numbers(*shape) if x is None else x).astype(dtype)
    g = numbers(*x.shape, seed=5).astype(dtype)
    return look.case(check_norm_rule, "rule.backward(g)", parts, near, x=x, g=g, weight="(1, 4, 9, …) / 7")


TO_X, TO_WEIGHT, TO_BIAS = slice(0, 1), slice(1, 2), slice(2, 3)
SHAPES = ((4,), (1, 4), (3, 4), (2, 3, 4))
UNSCALED = [trained("layer(x)", lambda: filled(LayerNorm(4)), x=Tensor(numbers(*shape))) for shape in SHAPES[1:]]

test_layer_norm = table(
    ("LayerNorm.forward", "each vector gets mean 0 and variance 1, then weight and bias"),
    *(norm(numbers(*shape)) for shape in SHAPES),
    norm(numbers(3, 4) * 7 + 2, made="LayerNorm(4)"),
    norm(numbers(2, 6), made="filled(LayerNorm(6, eps=2.0))"),
    norm(numbers(3, 1), made="filled(LayerNorm(1))"),
    ("LayerNorm.forward", "also beside a large mean, of numbers that are all alike, and of tiny and of large ones"),
    norm(numbers(3, 4) + 1e6, 1e-6),
    norm((numbers(3, 4) + 1000).astype(f4), 2e-3, f4),
    norm(np.full((2, 4), 3.0)),
    norm(numbers(3, 4) * 1e-3),
    norm(numbers(3, 4) * 1e8),
    ("LayerNorm.forward", "float64 stays float64 beside float32 weights, float32 stays float32, integers become it"),
    norm(numbers(2, 4), made="filled(LayerNorm(4), f4)"),
    norm(numbers(2, 4).astype(f4), 1e-5, f4),
    norm(np.arange(8).reshape(2, 4) ** 2, 1e-5, f4, made="filled(LayerNorm(4), f4)"),
    ("LayerNorm.forward", "x is only read, and may be a view"),
    look.keeps("filled(LayerNorm(4))(x)", x=numbers(3, 4)),
    norm(numbers(4, 3).T),
    ("LayerNorm.forward", "comes through the door with what the rule needs"),
    *(look.case(check_norm_door, "filled(LayerNorm(4))(x)", x=x) for x in (numbers(3, 4), numbers(2, 1, 4).astype(f4))),
    ("LayerNorm.forward", "refuses another number of features"),
    look.raises("LayerNorm(4)(x)", ValueError, "(2, 3)", 4, x=numbers(2, 3)),
    look.raises("LayerNorm(4)(x)", ValueError, "(4, 1)", 4, x=numbers(4, 1)),
    look.raises("LayerNorm(4)(x)", ValueError, "()", x=numbers()),
    ("LayerNormBackward.backward", "the gradient of x, also through mean and variance"),
    *(norm_rule(TO_X, *shape) for shape in SHAPES),
    norm_rule(TO_X, x=numbers(5, 7) * 3 + 2),
    ("LayerNormBackward.backward", "the gradient of the weight"),
    *(norm_rule(TO_WEIGHT, *shape) for shape in SHAPES),
    ("LayerNormBackward.backward", "the gradient of the bias"),
    *(norm_rule(TO_BIAS, *shape) for shape in SHAPES),
    ("LayerNormBackward.backward", "float32 for float32; a view too"),
    *(norm_rule(part, 3, 4, dtype=f4, near=1e-5) for part in (TO_X, TO_WEIGHT, TO_BIAS)),
    norm_rule(slice(3), x=numbers(4, 3).T),
    ("LayerNormBackward.backward", "forward and backward together agree with central differences"),
    look.slopes("filled(LayerNorm(4))(x)", x=numbers(2, 4)),
    look.slopes("filled(LayerNorm(3, eps=1.0))(x)", x=numbers(1, 2, 3)),
    *UNSCALED,
)


# The MLP and the block, also with toys in place of their parts


# What the toys do, for the messages
MLP_TOYS = {"up": "2 x + 1", "activation": "x²", "down": "3 x - 5"}
BLOCK_TOYS = {"norm1": "2 x + 1", "attention": "3 x - 4", "dropout": "5 x + 0.25", "norm2": "2 - x / 2", "mlp": "x²"}
GPT_TOYS = {"dropout": "2 x + 1", "blocks": "3 x - 1, then x / 2 + 2", "norm": "3 - 4 x"}
SINGER = {"model": "a GPT whose logits follow a formula", "seed": 7}


def toy_mlp() -> Any:
    mlp = MLP(2, 3)
    mlp.up, mlp.activation, mlp.down = (lambda x: x * 2.0 + 1.0), (lambda x: x * x), (lambda x: x * 3.0 - 5.0)
    return mlp


class Toy:
    """Stands in for a part: answers with scale · x + shift, and notes what it was given besides x."""

    def __init__(self, scale: float, shift: float) -> None:
        self.scale, self.shift, self.given = scale, shift, ()

    def __call__(self, x: Any, mask: Any = None, cache: Any = None, layer_idx: int = 0) -> Any:
        self.given = (mask, cache, layer_idx)
        return x * self.scale + self.shift


def toy_block() -> Any:
    block = TransformerBlock(4, 2)
    block.norm1, block.attention, block.dropout = Toy(2.0, 1.0), Toy(3.0, -4.0), Toy(5.0, 0.25)
    block.norm2, block.mlp = Toy(-0.5, 2.0), lambda x: x * x
    return block


def right_toy_block(x: Array) -> Array:
    x = x + 5 * (3 * (2 * x + 1) - 4) + 0.25
    return x + 5 * (2 - 0.5 * x) ** 2 + 0.25


def handed_on(*arguments: Any) -> str:
    """What the attention of a block is given besides x."""
    block = toy_block()
    block(Tensor(numbers(1, 3, 4)), *arguments)
    return str(block.attention.given)


def mlp_case(made: str, x: Array, near: float = 1e-9, dtype: Any = np.float64) -> Case:
    return look.gives(f"{made}(x)", f"right_mlp(x, weights_of({made}))", tolerance=near, dtype=dtype, x=x)


def block_case(x: Array, mask: Any = None, near: float = 1e-9, dtype: Any = np.float64, made: str = "") -> Case:
    made = made or f"filled(TransformerBlock(4, 2), '{np.dtype(dtype)}')"
    right = f"right_block(x, weights_of({made}), 2, mask)"
    return look.case(check_block, f"{made}(x, mask)", right, near, dtype, x=x, mask=mask)


def check_block(e: Expression, right: str, near: float, dtype: Any) -> None:
    wanted = eval(right, {**globals(), **e.letters})
    close(e(Tensor(e.letters["x"]), e.letters["mask"]), wanted, "the result", e.given, near, dtype)


CAUSAL, ADDED = np.tri(3, dtype=bool), numbers(3, 3, seed=4)

test_parts = table(
    ("MLP.forward", "up, activation and down, in this order"),
    look.gives("toy_mlp()(x)", "3 * (2 * x + 1) ** 2 - 5", tolerance=1e-12, **MLP_TOYS, x=numbers(2, 3)),
    look.gives("toy_mlp()(x)", "3 * (2 * x + 1) ** 2 - 5", tolerance=1e-12, **MLP_TOYS, x=[3.0, -0.5]),
    ("MLP.forward", "of any leading axes, with biases and without, wide and narrow"),
    *(mlp_case("filled(MLP(3, 5))", numbers(*shape)) for shape in ((3,), (2, 3), (2, 1, 3))),
    mlp_case("filled(MLP(3, 5, bias=False))", numbers(2, 3)),
    mlp_case("filled(MLP(4, 4))", numbers(2, 4) * 3),
    mlp_case("filled(MLP(4, 2), f4)", numbers(2, 4).astype(f4), 1e-5, f4),
    ("MLP.forward", "gradients reach x and all weights"),
    look.slopes("filled(MLP(2, 3))(x)", x=numbers(2, 2)),
    trained("layer(x)", lambda: filled(MLP(3, 4)), x=Tensor(numbers(2, 3))),
    ("TransformerBlock.forward", "attention, then the MLP: each reads its norm and adds to the stream, after dropout"),
    *(
        look.gives("toy_block()(x)", "right_toy_block(x)", tolerance=1e-12, **BLOCK_TOYS, x=numbers(*s))
        for s in ((1, 3, 4), (2, 2, 4))
    ),
    look.gives("toy_block()(x)", "right_toy_block(x)", tolerance=1e-12, **BLOCK_TOYS, x=[[[3.0, -0.5]]]),
    ("TransformerBlock.forward", "mask, cache and layer_idx are handed on to attention"),
    look.equals("handed_on()", "(None, None, 0)", what="mask, cache and layer_idx for attention"),
    look.equals("handed_on('the mask')", "('the mask', None, 0)", what="mask, cache and layer_idx for attention"),
    look.equals(
        "handed_on(None, 'the cache', 3)", "(None, 'the cache', 3)", what="mask, cache and layer_idx for attention"
    ),
    look.equals(
        "handed_on('the mask', 'the cache', 5)",
        "('the mask', 'the cache', 5)",
        what="mask, cache and layer_idx for attention",
    ),
    ("TransformerBlock.forward", "of attention and MLP, as in NumPy; with a mask and without"),
    block_case(numbers(2, 3, 4)),
    block_case(numbers(2, 3, 4), CAUSAL),
    block_case(numbers(1, 3, 4), ADDED),
    block_case(numbers(1, 1, 4) * 5),
    block_case(numbers(2, 3, 4).astype(f4), CAUSAL, 1e-5, f4),
    ("TransformerBlock.forward", "while training dropout drops what is added, and never the stream; x is only read"),
    look.gives("TransformerBlock(4, 2, dropout=1.0)(x)", "x", tolerance=0.0, x=numbers(2, 3, 4)),
    block_case(numbers(1, 3, 4), made="filled(TransformerBlock(4, 2, dropout=1.0)).eval()"),
    look.keeps("filled(TransformerBlock(4, 2))(x)", x=numbers(2, 3, 4)),
    ("TransformerBlock.forward", "gradients reach x and all weights"),
    look.slopes("filled(TransformerBlock(4, 2))(x, CAUSAL)", x=numbers(1, 3, 4)),
    trained("layer(x, CAUSAL)", lambda: filled(TransformerBlock(4, 2)), x=Tensor(numbers(2, 3, 4))),
)


# GPT: how it begins


def deviations(e: Expression, kind: str, expected: float, mean: bool = False) -> None:
    """The matrices of one kind, of all blocks together."""
    found = [v.data.astype(float).ravel() for n, v in e().named_tensors() if n.endswith(kind)]
    all_numbers = np.concatenate(found)
    what = f"the standard deviation of {kind}"
    ratio(all_numbers.std() / expected, what, f"the {expected:.4f} that it should be", 1.06, 0.94, e.given)
    off = abs(all_numbers.mean()) * np.sqrt(all_numbers.size) / all_numbers.std()
    holds(off < 5, f"a mean of {kind} that is 0, but for chance", float(f"{all_numbers.mean():.0e}"), e.given)
    fourth = ((all_numbers / all_numbers.std()) ** 4).mean() / 3
    ratio(fourth, f"the mean fourth power of {kind}", "that of normal numbers, 3 σ⁴", 1.3, 0.7, e.given)
    pairs = {(a.tobytes() == b.tobytes()) for i, a in enumerate(found) for b in found[:i]}
    equal(True in pairs, False, f"whether {kind} is the same in two blocks", e.given)


def started(text: str, **expected: float) -> list[Case]:
    return [look.case(deviations, text, kind.replace("_", "."), each) for kind, each in expected.items()]


def seeded(seed: int, action: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    manual_seed(seed)
    return action(*arguments, **settings)


MANY = "seeded(1, lambda: GPT(130, 32, 4, 4, 130))"


def check_anew(e: Expression) -> None:
    """Every Tensor stays itself; matrices get new numbers in their arrays, all else is left alone."""
    model = e()
    before = [(name, t, t.data, t.data.copy()) for name, t in model.named_tensors()]
    model.initialise()
    for (name, tensor, array, was), (_, now) in zip(before, model.named_tensors()):
        holds(now is tensor, f"{name}, the Tensor that it was", "another Tensor", e.given)
        ratio(now.data.itemsize / array.itemsize, f"bytes of a number of {name}", "those before", 1, 1, e.given)
        holds(now.data is array, f"{name}.data, the array that it was", "another array", e.given)
        if now.ndim == 1:
            close(now, was, f"{name}, which is no matrix", e.given, 0.0)
        else:
            equal(int((now.data == was).sum()), 0, f"how many numbers of {name} are still the same", e.given)


STREAM = 0.02 / np.sqrt(8)
ALIKE = "m = GPT(5, 4, 2, 2, 3); a = seeded({}, m.initialise) or weights_of(m); b = seeded({}, m.initialise) or "
ALIKE += "weights_of(m); same = sum((a[n] == b[n]).all() for n in a)"

test_initialise = table(
    ("GPT.initialise", "matrices are normal numbers around 0 with the deviation 0.02"),
    *started(MANY, tokens_weight=0.02, positions_positions=0.02, attention_query_weight=0.02),
    *started(MANY, attention_key_weight=0.02, attention_value_weight=0.02, mlp_up_weight=0.02),
    ("GPT.initialise", "those that write into the stream have 0.02 / √(2 · num_layers)"),
    *started(MANY, attention_out_weight=STREAM, mlp_down_weight=STREAM),
    *started("GPT(9, 64, 1, 4, 5)", attention_out_weight=0.02 / 2**0.5, mlp_down_weight=0.02 / 2**0.5),
    ("GPT.initialise", "the deviation may be another one"),
    *started(f"(m := {MANY}, m.initialise(0.5))[0]", tokens_weight=0.5, mlp_up_weight=0.5),
    *started(f"(m := {MANY}, m.initialise(std=0.5))[0]", mlp_down_weight=0.5 / np.sqrt(8)),
    ("GPT.initialise", "Tensors, their arrays and dtypes stay; the norms' weights and biases are left as they are"),
    *(look.case(check_anew, f"filled(GPT(5, 4, 2, 2, 3), {d})") for d in ("f4", "float")),
    ("GPT.initialise", "the numbers come from generator(): another seed, other numbers"),
    look.after(ALIKE.format(3, 3), "same", 24),
    look.after(ALIKE.format(3, 4), "same", 10),
)


# GPT: the model in one piece


def toy_gpt() -> Any:
    """A GPT with real tables, and toys for all that comes after them."""
    model = filled(GPT(7, 4, 2, 2, 5))
    model.dropout, model.blocks, model.norm = Toy(2.0, 1.0), [Toy(3.0, -1.0), Toy(0.5, 2.0)], Toy(-4.0, 3.0)
    return model


def right_toy_gpt(indices: Array, start: int = 0) -> Array:
    model = filled(GPT(7, 4, 2, 2, 5))
    table, positions = values(model, "tokens.weight"), values(model, "positions.positions")
    x = 2 * (table[indices] + positions[start : start + indices.shape[1]]) + 1
    return ((3 * x - 1) * 0.5 + 2) @ table.T * -4 + 3 * table.sum(1)


class Held:
    """What a cache is to a GPT: the number of positions that it holds."""

    length = 3

    def __repr__(self) -> str:
        return "the cache"


def asked_blocks(cache: Any = None) -> str:
    """The cache and the number that each block is given; with a cache, the mask too."""
    model = toy_gpt()
    model([[1, 2]], *([cache] if cache else []))
    return str([block.given[0 if cache else 1 :] for block in model.blocks])


def logits_of(made: str, x: Any, near: float = 1e-9, dtype: Any = np.float64) -> Case:
    sizes = {"two_layers": "2, 2", "one_layer": "1, 4"}[made]
    made = f"{made}({np.dtype(dtype)})"
    return look.gives(f"{made}(x)", f"right_gpt(x, weights_of({made}), {sizes})", tolerance=near, dtype=dtype, x=x)


float64, float32 = np.float64, np.float32
two_layers = lambda dtype=float: filled(GPT(11, 8, 2, 2, 6), dtype)
one_layer = lambda dtype=float: filled(GPT(5, 4, 1, 4, 3), dtype)
INDICES = np.random.default_rng(3).integers(0, 11, (2, 6))


def check_past(e: Expression, last: int) -> None:
    """Other tokens after position `last` change no logits up to it."""
    model = e()
    other = INDICES.copy()
    other[:, last + 1 :] = (other[:, last + 1 :] + 3) % 11
    one, two = (plain(model(Tensor(each)))[:, : last + 1] for each in (INDICES, other))
    close(two, one, f"the logits up to position {last}, when the tokens after it are others", e.given, 1e-10)


def adam(tensors: list[Any], memory: dict[int, list[Any]], step: int, lr: float) -> None:
    """A step by hand."""
    for tensor in tensors:
        mean, square = memory.setdefault(id(tensor), [0.0, 0.0])
        mean, square = memory[id(tensor)] = [0.9 * mean + 0.1 * tensor.grad, 0.99 * square + 0.01 * tensor.grad**2]
        tensor.data = tensor.data - lr * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        tensor.grad = None


test_gpt = table(
    ("GPT.forward", "tokens, positions, dropout, the blocks in their order, norm, and the tokens' table again"),
    *(
        look.gives("toy_gpt()(x)", "right_toy_gpt(x)", tolerance=1e-10, **GPT_TOYS, x=x)
        for x in (INDICES[:1, :5] % 7, [[6], [0]])
    ),
    look.gives(
        "toy_gpt()([[3, 1, 3], [0, 6, 6]])",
        "right_toy_gpt(np.array([[3, 1, 3], [0, 6, 6]]))",
        tolerance=1e-10,
        **GPT_TOYS,
    ),
    look.gives(
        "toy_gpt()(np.array([[5, 2]], np.uint8))", "right_toy_gpt(np.array([[5, 2]]))", tolerance=1e-10, **GPT_TOYS
    ),
    ("GPT.forward", "each block is given the cache and its own number"),
    look.equals("asked_blocks()", "[(None, 0), (None, 1)]", what="cache and layer_idx of each block"),
    look.equals(
        "asked_blocks(Held())",
        "[(None, the cache, 0), (None, the cache, 1)]",
        what="mask, cache and layer_idx of each block, beside a cache",
    ),
    ("GPT.forward", "positions begin behind those that a cache holds"),
    look.gives("toy_gpt()(x, Held())", "right_toy_gpt(x, 3)", tolerance=1e-10, held=3, **GPT_TOYS, x=[[4, 1]]),
    look.raises("toy_gpt()(x, Held())", ValueError, x=[[4, 1, 2]]),
    ("GPT.forward", "the whole of it as in NumPy, in float64 and float32"),
    logits_of("two_layers", INDICES),
    logits_of("two_layers", INDICES[:1, :3]),
    logits_of("one_layer", [[4, 0, 4]]),
    logits_of("one_layer", [[2]]),
    logits_of("two_layers", INDICES, 1e-5, f4),
    ("GPT.forward", "no position looks at later ones: another future changes nothing"),
    *(look.case(check_past, "two_layers()", last, model="GPT(11, 8, 2, 2, 6)") for last in (0, 2, 4)),
    ("GPT.forward", "refuses what are no indices (B, T), tokens that do not exist, and too long a text"),
    look.raises("two_layers()(x)", ValueError, "(3,)", x=[1, 2, 3]),
    look.raises("two_layers()(x)", ValueError, "(1, 2, 3)", x=np.zeros((1, 2, 3), int)),
    *(look.raises("two_layers()(x)", ValueError, x=x) for x in ([[1, 11]], [[-1]], np.zeros((1, 7), int))),
    look.raises("two_layers()(x)", TypeError, x=[[1.0, 2.0]]),
    ("GPT.forward", "gradients reach all weights, and the table at both of its ends"),
    trained("layer(INDICES)", two_layers),
    trained("layer([[3, 3, 1]])", one_layer),
    ("next_token_loss", "the mean over all positions of -log of the probability of the token that came"),
    *(
        look.gives("next_token_loss(x, t)", "right_loss(x, t)", tolerance=1e-9, dtype=float, x=numbers(*s, 5) * 3, t=t)
        for s, t in (((2, 3), [[0, 4, 1], [2, 2, 3]]), ((1, 1), [[3]]), ((3, 1), [[0], [1], [4]]))
    ),
    look.gives("next_token_loss(x, T)", "right_loss(x, T)", tolerance=1e-5, dtype=f4, x=numbers(2, 2, 5).astype(f4)),
    look.gives("next_token_loss(x, T.tolist())", "right_loss(x, T)", tolerance=1e-9, x=numbers(2, 2, 5)),
    ("next_token_loss", "gradients reach the logits"),
    look.slopes("next_token_loss(x, T)", x=numbers(2, 2, 5)),
    look.slopes("next_token_loss(x, [[0, 3, 3]])", x=numbers(1, 3, 4)),
    ("next_token_loss", "refuses targets of another shape, also where the number would fit"),
    look.raises("next_token_loss(x, T)", ValueError, "(2, 2)", "(2, 3, 5)", x=numbers(2, 3, 5)),
    look.raises("next_token_loss(x, T.T.reshape(1, 4))", ValueError, "(1, 4)", "(2, 2, 5)", x=numbers(2, 2, 5)),
    look.raises("next_token_loss(x, T.reshape(4))", ValueError, "(4,)", "(2, 2, 5)", x=numbers(2, 2, 5)),
)
T = np.array([[4, 0], [1, 3]])


def right_loss(x: Array, t: Array) -> Array:
    x = x.astype(float)
    chosen = np.take_along_axis(x, np.asarray(t)[..., None], -1)[..., 0]
    return (np.log(np.exp(x).sum(-1)) - chosen).mean()


@exercise("GPT.forward")
def test_a_small_one_learns_to_copy() -> None:
    """one block learns to say again what it has read"""
    manual_seed(0)
    random, model, memory = np.random.default_rng(0), GPT(5, 16, 1, 2, 8), {}
    tensors = [tensor for _, tensor in model.named_tensors()]

    def loss_after_a_step(step: int) -> float:
        read = random.integers(0, 5, (24, 4))
        text = np.concatenate([read, read], axis=1)
        logits = model(Tensor(text[:, :-1]))[:, 3:]
        loss = next_token_loss(logits, text[:, 4:])
        loss.backward()
        adam(tensors, memory, step, 0.03)
        return loss.item()

    given = "GPT(5, 16, 1, 2, 8), texts of 4 tokens that come twice"
    first = loss_after_a_step(1)
    ratio(first / np.log(5), "the loss before the first step", "log 5, that of guessing", 1.1, 0.9, given)
    with unwatched():
        last = [loss_after_a_step(step) for step in range(2, 51)][-1]
    holds(last < 0.2, "a loss below 0.2 after 50 steps", float(f"{last:.0e}"), given)


# GPT: how it writes


class Parrot(GPT):
    """What comes next depends on all that it is given, by a formula. It notes how it is asked."""

    def __init__(self, context: int = 4, fails: int = 99) -> None:
        super().__init__(6, 4, 1, 1, context)
        self.asked, self.fails = [], fails

    def forward(self, indices: Any, cache: Any = None) -> Any:
        indices = np.array(plain(indices))
        mode = "training" if self.training or self.blocks[0].training else "evaluation"
        self.asked.append((indices.shape, mode, memory.on))
        if len(self.asked) > self.fails:
            raise ArithmeticError("the parrot is tired")
        return Tensor(parroted(indices))


def parroted(indices: Array) -> Array:
    places = np.arange(1, indices.shape[-1] + 1)
    heard = np.cumsum(indices * places + places, axis=-1)[..., None]
    return 2 * np.sin(heard * (1.3 + np.arange(6)) ** 2)


def right_text(prompt: Any, length: int, temperature: float = 1.0, top_k: Any = None, context: int = 4) -> Array:
    """What is written with the numbers that the seed 7 gives."""
    text, random = np.atleast_2d(prompt), np.random.default_rng(7)
    while text.shape[1] < length:
        new = right_sample(parroted(text[:, -context:])[:, -1], temperature, top_k, random)
        text = np.concatenate([text, new[:, None]], axis=1)
    return text.reshape(*np.shape(prompt)[:-1], -1)


def written(prompt: Any, *arguments: Any, context: int = 4, **settings: Any) -> Any:
    return seeded(7, Parrot(context).generate, prompt, *arguments, **settings)


def writes(*prompts: Any, settings: str) -> list[Case]:
    return [
        look.gives(
            f"written(x, {settings})", f"right_text(x, {settings})", tolerance=0, dtype=np.int64, x=prompt, **SINGER
        )
        for prompt in prompts
    ]


def told(e: Expression, part: int, expected: list[Any], **settings: Any) -> None:
    """How the model is asked, as part 0 its shapes, 1 its modes, 2 whether operations are recorded."""
    parrot = Parrot()
    e(parrot)
    what = ("the shapes", "the mode", "whether operations are recorded")[part]
    equal(str([asked[part] for asked in parrot.asked]), str(expected), f"{what} in each forward pass", e.given)


def asked(text: str, part: int, *expected: Any) -> Case:
    return look.case(told, text, part, list(expected), parrot="a GPT with a context of 4")


def check_left(e: Expression, training: bool, fails: int) -> None:
    """Modes and memory are afterwards as they were before."""
    parrot = Parrot(fails=fails).train(training)
    given = f"{e.given}, {'training' if training else 'evaluation'} before"
    if fails < 9:
        raises(ArithmeticError, lambda: e(parrot), given + ", and an error on the way")
    else:
        e(parrot)
    equal(
        [parrot.training, parrot.blocks[0].dropout.training] == [training] * 2, True, "the same mode afterwards", given
    )
    equal(memory.on, True, "whether operations are recorded afterwards", given)


def drawn(logits: Any, *arguments: Any, seed: int = 5, **settings: Any) -> Any:
    with drawing_from(np.random.default_rng(seed)):
        return sample_tokens(np.array(plain(logits)), *arguments, **settings)


def draws(settings: str, x: Any, **more: Any) -> Case:
    seed = "np.random.default_rng(5)"
    return look.gives(
        f"drawn(x{settings})", f"right_sample(x{settings}, random={seed})", tolerance=0, dtype=np.int64, x=x, **more
    )


def check_shares(e: Expression, temperature: float, allowed: int) -> None:
    """Of 10,000 rows with the same logits each token is drawn as often as its probability says."""
    logits = e.arrays()[0]
    found = np.bincount(e(np.tile(logits, (10_000, 1))), minlength=len(logits)) / 10_000
    chances = np.exp(logits / temperature) * (logits >= np.sort(logits)[-allowed])
    ratio(abs(found - chances / chances.sum()).max() / 0.02, "how far shares are off", "0.02", 1.0, given=e.given)


def check_numbers_used(e: Expression, used: int) -> None:
    """Afterwards the generator goes on behind the numbers that were used."""
    with drawing_from(np.random.default_rng(5)):
        sample_tokens(numbers(3, 4), **e())
        right, given = np.random.default_rng(5).random(9)[used], f"sample_tokens(logits (3, 4), **{e.text})"
        close(generator().random(), right, "the next number of the generator", given, 0.0)


def check_logits_kept(e: Expression) -> None:
    logits = numbers(3, 4)
    sample_tokens(logits, **e())
    equal(logits, numbers(3, 4), "the logits, afterwards", f"sample_tokens(logits, **{e.text})")


ROWS, ONE_ROW, TIES = numbers(40, 6, seed=2), np.array([0.5, -1.0, 2.0, 1.25]), [[1, 3, 3, 0.0], [2, 2, 2, 2]]
HUGE = np.tile([[1e4, -1e4, 9999.0, 0.0], [-1e4, -9999.0, -2e4, -1e30]], (6, 1))
RULED_OUT = np.where(ROWS > 0.8, -np.inf, ROWS)

test_writing = table(
    ("GPT.generate", "at temperature 0 the likeliest token comes, one after the other, behind the prompt"),
    *writes([2], [3, 1], [[1, 5], [0, 0], [4, 2]], [[5]], settings="4, 0"),
    *writes([[1], [4]], settings="4, temperature=0.0"),
    ("GPT.generate", "tokens are drawn by sample_tokens, with temperature and top_k, by the generator of manual_seed"),
    *writes([2, 4], [[1, 5], [0, 0], [4, 2]], settings="4"),
    *writes([2], [[1, 5], [0, 3]], settings="4, 2.0, 3"),
    *writes([3], settings="4, top_k=2"),
    *writes([[3], [5]], settings="4, temperature=0.5"),
    ("GPT.generate", "of a text longer than the context, the model is given the end"),
    *writes([1, 2, 3], [[5, 4, 3, 2, 1], [0, 1, 2, 3, 4]], settings="9, 0"),
    *writes([1, 2, 3], settings="9, 1.0, context=2"),
    asked("parrot.generate([1, 2, 3], 6)", 0, (1, 3), (1, 4), (1, 4)),
    asked("parrot.generate([[1, 2, 3, 4, 5]] * 2, 7)", 0, (2, 4), (2, 4)),
    ("GPT.generate", "a prompt that is long enough comes back as it is, and nothing is asked"),
    *writes([2, 4], [[1, 5], [0, 0]], settings="2"),
    *writes([1, 2, 3, 4, 5, 0], settings="3"),
    asked("parrot.generate([1, 2, 3], 3)", 0),
    ("GPT.generate", "it takes lists and arrays of any integers, and only reads them"),
    look.gives("written([[1, 2]], 4)", right_text([[1, 2]], 4), tolerance=0, dtype=np.int64),
    look.gives("written(np.array([3], np.uint8), 4)", right_text([3], 4), tolerance=0, dtype=np.int64),
    look.keeps("Parrot().generate(x, 6)", x=[1, 2]),
    look.keeps("Parrot().generate(x, 2)", x=[1, 2]),
    ("GPT.generate", "it writes in evaluation mode, and nothing is recorded"),
    asked("parrot.generate([1], 4)", 1, *["evaluation"] * 3),
    asked("parrot.train().generate([1], 3)", 1, *["evaluation"] * 2),
    asked("parrot.generate([1], 4)", 2, False, False, False),
    ("GPT.generate", "afterwards the model is in the mode that it was in, also after an error"),
    look.case(check_left, "parrot.generate([1], 4)", True, 99, parrot="a GPT"),
    look.case(check_left, "parrot.generate([1], 4)", False, 99, parrot="a GPT"),
    look.case(check_left, "parrot.generate([1], 4)", True, 1, parrot="a GPT"),
    look.case(check_left, "parrot.generate([1], 4)", False, 1, parrot="a GPT"),
    ("GPT.generate", "refuses a prompt without tokens, with other axes, or with tokens that do not exist"),
    *(look.raises(f"Parrot().generate({p}, 5)", ValueError) for p in ("[]", "[[]]", "[[[1]]]", "3", "[1, 6]", "[-1]")),
    look.raises("Parrot().generate([1.5], 5)", TypeError),
    ("sample_tokens", "at temperature 0 the likeliest token, the first of several; the generator is not asked"),
    *(look.gives("drawn(x, 0)", "right_sample(x, 0)", tolerance=0, dtype=np.int64, x=x) for x in (ROWS, TIES, HUGE)),
    look.gives("drawn(x, temperature=0.0, top_k=2)", "right_sample(x, 0)", tolerance=0, dtype=np.int64, x=ROWS),
    look.case(check_numbers_used, "dict(temperature=0)", 0),
    ("sample_tokens", "the first token whose cumulated probability exceeds a number from the generator, one a row"),
    draws("", ROWS),
    draws("", ROWS[:1]),
    draws("", ROWS.astype(f4)),
    *(look.case(check_numbers_used, settings, 3) for settings in ("dict()", "dict(top_k=2)")),
    ("sample_tokens", "temperature divides the logits"),
    draws(", 0.5", ROWS),
    draws(", 3.0", ROWS),
    draws(", temperature=0.05", ROWS),
    ("sample_tokens", "of each row only the top_k likeliest can be drawn"),
    *(draws(f", 1.0, {k}", ROWS) for k in (1, 2, 5, 6, 99)),
    draws(", 4.0, 3", ROWS),
    draws(", top_k=2", ROWS.astype(f4)),
    ("sample_tokens", "each token comes as often as its probability says"),
    *(
        look.case(check_shares, f"drawn(x, {t}, {k})", t, k or 4, x=ONE_ROW)
        for t, k in ((1.0, None), (2.5, None), (0.4, None), (1.0, 2), (2.5, 3))
    ),
    ("sample_tokens", "of any size, also where -inf rules out; logits are only read"),
    draws("", HUGE),
    draws(", 2.0, 3", HUGE),
    draws("", RULED_OUT),
    draws("", np.log(np.tile(np.r_[1.0, np.full(9, 1e-9)], (4, 1))).astype(f4)),
    *(look.case(check_logits_kept, settings) for settings in ("dict(temperature=0.5)", "dict(top_k=2)")),
    ("sample_tokens", "refuses a temperature below 0, infinite or NaN, and a top_k that is no number of tokens"),
    *(look.raises(f"drawn(x, {t})", ValueError, t, x=ROWS) for t in (-0.5, -1)),
    *(look.raises(f"drawn(x, float('{t}'))", ValueError, t, x=ROWS) for t in ("nan", "inf")),
    *(look.raises(f"drawn(x, 1.0, {k})", ValueError, k, x=ROWS) for k in (0, -2)),
    look.raises("drawn(x, 0, 0)", ValueError, x=ROWS),
    look.raises("drawn(x, 1.0, 1.5)", TypeError, "1.5", x=ROWS),
)


# Systems: the same is done, and counted


def right_gpt_parameters(vocab_size: int, embed_dim: int, num_layers: int, max_seq_len: int) -> tuple[int, int]:
    """The Tensors that there are, by their axes."""
    sizes = Counter()
    for _ in range(num_layers):
        for _, tensor in TransformerBlock(embed_dim, 1).named_tensors():
            sizes[tensor.ndim] += tensor.size
    others = [(vocab_size, embed_dim), (max_seq_len, embed_dim), *[(embed_dim,)] * 2]
    return sizes[2], sizes[1] + sum(int(np.prod(shape)) for shape in others)


def right_token_flops(embed_dim: int, num_layers: int, vocab_size: int, length: int) -> int:
    """A text goes through a model in NumPy, which counts its products."""
    shapes = {f"attention.{name}.weight": (embed_dim,) * 2 for name in ("query", "key", "value", "out")}
    shapes |= {"mlp.up.weight": (embed_dim, 4 * embed_dim), "mlp.down.weight": (4 * embed_dim, embed_dim)}
    shapes |= {f"norm{i}.{name}": (embed_dim,) for i in (1, 2) for name in ("weight", "bias")}
    whole = {f"blocks.{i}.{name}": shape for i in range(num_layers) for name, shape in shapes.items()}
    whole |= {"tokens.weight": (vocab_size, embed_dim), "positions.positions": (length, embed_dim)}
    whole |= {"norm.weight": (embed_dim,), "norm.bias": (embed_dim,)}
    weights = {name: np.ones(shape) for name, shape in whole.items()}
    flops.clear()
    right_gpt(np.zeros((1, length), int), weights, num_layers, heads=1)
    return flops["all"] // length


def right_plan(batch: int, budget: int, fixed: int, per_text: int) -> tuple[int, int]:
    """Every size is tried."""
    plans = [(-(-batch // size), size) for size in range(1, batch + 1) if fixed + size * per_text <= budget]
    return min(plans)[::-1]


def right_bits(chances: Array, characters: int) -> float:
    """The bits of the whole text, shared by its characters."""
    return float(-np.log2(np.prod(chances))) / characters


def four(x: Any, mask: Any) -> Any:
    """Keeps x and two arrays of its size: both factors of the last product."""
    return (x * x) * (x * x)


def halved(x: Any, mask: Any) -> Any:
    """Keeps x, and answers with half of its size."""
    half = len(plain(x)) // 2
    return x[:half] * x[half:]


def masked(x: Any, mask: Any) -> Any:
    return x * x * mask


COSTS_KNOWN = {"x": "a leaf (8, 5)", "blocks": "four: (x · x) · (x · x), masked: x · x · mask, halved: half · half"}


def kept(blocks: list[Any], checkpointed: bool, mask: Any = None, dtype: Any = np.float64) -> Any:
    return block_activations(blocks, leaf(numbers(8, 5), dtype), mask, checkpointed)


def check_traced(e: Expression, checkpointed: bool) -> None:
    """The bytes that the answer has are those that the memory holds after a forward pass, but for Python's own."""
    blocks, mask = [TransformerBlock(32, 2) for _ in range(3)], np.tri(24, dtype=bool)
    for block in blocks:
        block.mlp.activation = lambda y: GELU("tanh")(y)  # one that stays would keep its last input
    x = leaf(numbers(8, 24, 32), f4)
    through = (lambda b, y: checkpoint(lambda z: b(z, mask), y)) if checkpointed else (lambda b, y: b(y, mask))

    def forward() -> Any:
        y = x
        for block in blocks:
            y = through(block, y)
        return y

    answer = e(blocks, x, mask)
    measured = allocated(forward)[1] - x.data.nbytes  # the result itself does not count
    what, given = "the answer", "three blocks TransformerBlock(32, 2), x (8, 24, 32) in float32"
    ratio(answer / measured, what, "the bytes that tracemalloc finds", 1.02, 0.8, given)


SIZES = ((65, 128, 4, 64), (11, 8, 2, 6), (5, 4, 1, 3), (300, 16, 3, 100), (7, 12, 12, 9))
COSTS = ((8, 2, 11, 6), (4, 1, 5, 3), (12, 3, 7, 1), (16, 2, 40, 24), (8, 4, 3, 10))
PLANS = ((10, 1000, 500, 120), (32, 1000, 0, 1000), (7, 100, 30, 10), (64, 777, 77, 31), (9, 60, 10, 10), (1, 5, 4, 1))
PLANS += ((12, 99, 0, 8), (5, 1000, 3, 7), (10, 86, 5, 9))
CHANCES = np.random.default_rng(8).uniform(0.05, 0.9, 30)

test_systems = table(
    ("gpt_parameters", "the numbers in the Tensors of such a model: in the matrices of its blocks, and elsewhere"),
    *(look.gives(f"np.array(gpt_parameters{z})", f"np.array(right_gpt_parameters{z})", tolerance=0) for z in SIZES),
    ("block_activations", "what blocks keep whose cost is known, without checkpoint"),
    *(
        look.equals(f"kept([{', '.join(blocks)}], False, {more})", expected, **COSTS_KNOWN)
        for blocks, more, expected in (
            (["four"], "", 2 * 320),  # x is a leaf, which is there anyway
            (["four"] * 3, "", (2 + 3 + 3) * 320),
            (["four"] * 3, "dtype=f4", (2 + 3 + 3) * 160),
            (["masked"] * 2, "mask=Tensor(numbers(8, 5))", (1 + 1 + 2) * 320),
            (["halved", "four", "halved"], "", 3 * 160 + 160),
        )
    ),
    (
        "block_activations",
        "what blocks keep that are checkpoints: the inputs of all but the first, which is there anyway",
    ),
    *(
        look.equals(f"kept([{', '.join(blocks)}], True, {more})", expected, **COSTS_KNOWN)
        for blocks, more, expected in (
            (["four"], "", 0),
            (["four"] * 3, "", 2 * 320),
            (["four"] * 4, "dtype=f4", 3 * 160),
            (["masked"] * 2, "mask=Tensor(numbers(8, 5))", 320),
            (["halved", "four", "halved"], "", 160 + 160),
        )
    ),
    ("block_activations", "what tracemalloc finds, in the blocks of a transformer"),
    look.case(
        check_traced, "block_activations(blocks, x, mask, False)", False, blocks="three", x="a batch", mask="causal"
    ),
    look.case(
        check_traced, "block_activations(blocks, x, mask, True)", True, blocks="three", x="a batch", mask="causal"
    ),
    ("token_flops", "what is counted when a text goes through such a model, for each of its tokens"),
    *(look.equals(f"token_flops{sizes}", right_token_flops(*sizes)) for sizes in COSTS),
    ("accumulation_plan", "the fewest parts that fit, and then the smallest parts, as trying all sizes finds them"),
    *(look.gives(f"np.array(accumulation_plan{plan})", np.array(right_plan(*plan)), tolerance=0) for plan in PLANS),
    ("accumulation_plan", "if not even one text fits, it says what that takes"),
    look.raises("accumulation_plan(4, 99, 60, 40)", ValueError, 100, 99),
    look.raises("accumulation_plan(4, 50, 60, 40)", ValueError, 100, 50),
    ("bits_per_character", "the bits of a whole text, by the probabilities that its tokens had"),
    *(
        look.gives(f"bits_per_character(-np.log(CHANCES[:{n}]).mean(), {n}, {c})", right_bits(CHANCES[:n], c))
        for n, c in ((30, 30), (30, 100), (12, 7), (1, 4))
    ),
)
