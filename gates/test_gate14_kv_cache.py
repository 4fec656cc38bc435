"""Gate 14: the KV cache."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import GPT, KVCache, Tensor, attention_with_cache, generate_with_cache, manual_seed
from tinytorch.core.rng import generator
from tinytorch.systems.generation import cache_bytes, decoding_flops, grouped_attention, outgrown_length, token_rate
from workshop.checks import close, equal, exercise, holds, plain, raises
from workshop.probes import leaf, numbers
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())

# The cache: 2 texts, 6 positions, 3 layers, 2 heads of 4 features. It is filled with OLD ones, and gets NEW ones

SHAPE = (2, 2, 6, 4)
OLD = {"keys": numbers(3, *SHAPE, seed=3).astype(np.float32), "values": numbers(3, *SHAPE, seed=4).astype(np.float32)}
NEW = {"keys": numbers(*SHAPE, seed=1), "values": numbers(*SHAPE, seed=2)}
BOTH = np.stack([*OLD.values()])


def filled(*lengths: int) -> KVCache:
    """A cache whose layers hold so many positions; behind them there is what was there before."""
    cache = KVCache(2, 6, 3, 2, 4)
    cache.keys[...], cache.values[...], cache.lengths = *OLD.values(), [*lengths]
    return cache


def new(count: int) -> list[np.ndarray]:
    """Keys and values of `count` positions."""
    return [each[:, :, :count].copy() for each in NEW.values()]


def after(lines: str, expected: dict[str, Any], **options: Any) -> list[Case]:
    return [look.after(lines + "; ", text, value, **options) for text, value in expected.items()]


def updated(lengths: tuple[int, ...], layer: int, count: int, start: int) -> list[Case]:
    """`count` new positions of a layer from `start` on: what the cache's memory and `lengths` are then."""
    expected, lines = {}, f"cache = filled(*{lengths}); cache.update({layer}, *new({count}), {start})"
    for name in OLD:
        expected[f"cache.{name}"] = OLD[name].copy()
        expected[f"cache.{name}"][layer, :, :, start : start + count] = NEW[name][:, :, :count]
    held = np.array([*lengths[:layer], start + count, *lengths[layer + 1 :]])
    return after(lines, expected, tolerance=0.0, dtype=np.float32) + after(lines, {"np.array(cache.lengths)": held})


def refused(lengths: str, what: str) -> np.ndarray:
    """All numbers that a cache has after an update that raises a ValueError, behind its lengths."""
    cache = filled(*eval(lengths))
    with suppress(ValueError):
        eval(f"cache.update({what})", globals() | {"cache": cache})
    return np.concatenate([np.array(cache.lengths), cache.keys.ravel(), cache.values.ravel()])


BAD = {  # the lengths, and the arguments that do not fit them; what the message names
    ("0, 0, 0", "0, *new(1), 1"): ("1",),
    ("3, 5, 2", "0, *new(2), 4"): ("4",),
    ("3, 5, 2", "1, *new(2), -1"): ("-1",),
    ("6, 6, 6", "1, *new(1), 6"): ("full", "6"),
    ("3, 5, 2", "1, *new(2), 5"): ("full", "6"),
    ("3, 5, 2", "0, *new(4), 3"): ("full", "6"),
    ("3, 5, 2", "3, *new(1), 0"): ("3",),
    ("3, 5, 2", "0, *(each[:1] for each in new(1)), 3"): ("(1, 2, 1, 4)",),
    ("3, 5, 2", "0, *(each[:, :1] for each in new(1)), 3"): ("(2, 1, 1, 4)",),
    ("3, 5, 2", "0, new(2)[0], new(1)[1], 3"): ("(2, 2, 2, 4)", "(2, 2, 1, 4)"),
}
WRITE = "cache = KVCache(2, 6, 3, 2, 4); key, value = new(2); held = cache.keys, cache.values; "
WRITE += "cache.update(0, key, value, 0)"
WRITE_WIDE = "cache = KVCache(2, 6, 3, 2, 4, np.float64); cache.update(1, *new(2), 0)"
LOOK = "cache = filled(3, 5, 2); keys, values = cache.get({})"
RESET = "cache = filled({}); held = cache.keys, cache.values; cache.reset()"
SAME = {"cache.keys is held[0] and cache.values is held[1]": True}
SIZES = ((1, 1, 1, 1, 1), (2, 6, 3, 2, 4), (3, 5, 7, 11, 13), (1, 256, 4, 4, 32))

test_cache = table(
    ("KVCache.update", "keys and values go to their positions of their layer; nothing else changes but its length"),
    *updated((0, 0, 0), 0, 4, 0),
    *updated((0, 0, 0), 2, 1, 0),
    *updated((5, 3, 2), 1, 1, 3),
    *updated((5, 3, 2), 1, 3, 3),
    *updated((5, 3, 0), 0, 1, 5),
    ("KVCache.update", "a text can be taken back: what is behind the new positions is forgotten"),
    *updated((5, 6, 4), 1, 1, 2),
    *updated((5, 6, 4), 0, 2, 1),
    *updated((5, 6, 4), 2, 3, 0),
    ("KVCache.update", "what is kept are copies, in the cache's own two arrays and dtype"),
    *after(WRITE + "; key[...] = 9.0", {"cache.keys[0, :, :, :2]": new(2)[0]}, tolerance=1e-6),
    *after(WRITE + "; value[...] = 9.0", {"cache.values[0, :, :, :2]": new(2)[1]}, tolerance=1e-6),
    *after(WRITE, SAME),
    *after(WRITE_WIDE, {"cache.keys[1, :, :, :2]": new(2)[0]}, tolerance=0.0, dtype=np.float64),
    ("KVCache.update", "a gap, a full cache, another layer or shape is a ValueError"),
    *(look.raises(f"filled({lengths}).update({what})", ValueError, *says) for (lengths, what), says in BAD.items()),
    ("KVCache.update", "what is refused changes nothing"),
    *(look.gives(f"refused('{bad[0]}', '{bad[1]}')", [*eval(bad[0]), *BOTH.ravel()], tolerance=0.0) for bad in BAD),
    ("KVCache.get", "keys and values of all positions that the layer holds, and of no others"),
    *after(LOOK.format(0), {name: OLD[name][0, :, :, :3] for name in OLD}, tolerance=0.0, dtype=np.float32),
    *after(LOOK.format(1), {name: OLD[name][1, :, :, :5] for name in OLD}, tolerance=0.0, dtype=np.float32),
    *after(LOOK.format(2), {name: OLD[name][2, :, :, :2] for name in OLD}, tolerance=0.0, dtype=np.float32),
    *after("keys, values = filled(3, 0, 2).get(1)", {name: np.zeros((2, 2, 0, 4)) for name in OLD}),
    ("KVCache.get", "they are views of the cache's memory, of which nothing is copied or changed"),
    *after(LOOK.format(1), {f"np.shares_memory({name}, cache.{name})": True for name in OLD}),
    *after(LOOK.format(1) + "; cache.keys[1] = 2.5", {"keys": np.full((2, 2, 5, 4), 2.5)}),
    *after(LOOK.format(1) + "; cache.values[1] = -3.5", {"values": np.full((2, 2, 5, 4), -3.5)}),
    *after(LOOK.format(0), {"np.stack([cache.keys, cache.values])": BOTH}, tolerance=0.0),
    ("KVCache.reset", "no layer holds a position afterwards"),
    *after(RESET.format("3, 5, 2"), {"np.array(cache.lengths)": np.zeros(3, int)}),
    *after(RESET.format("6, 6, 6"), {"np.array(cache.lengths)": np.zeros(3, int)}),
    *after(RESET.format("0, 0, 0"), {"np.array(cache.lengths)": np.zeros(3, int)}),
    ("KVCache.reset", "the two arrays stay as they are"),
    *after(RESET.format("3, 5, 2"), SAME | {f"cache.{name} - OLD['{name}']": 0 * OLD[name] for name in OLD}),
    *after(RESET.format("6, 6, 6"), SAME | {f"cache.{name} - OLD['{name}']": 0 * OLD[name] for name in OLD}),
    ("KVCache.nbytes", "the bytes of all keys and values, whatever the cache holds"),
    *(look.equals(f"KVCache{size}.nbytes", 8 * int(np.prod(size))) for size in SIZES),
    *(look.equals(f"KVCache(*{size}, dtype=np.float64).nbytes", 16 * int(np.prod(size))) for size in SIZES),
    look.equals("filled(3, 5, 2).nbytes", 8 * 3 * 96),
)


# Attention, with a cache that is the gate's own


class Notebook(KVCache):
    """A cache that the gate itself writes into and reads from."""

    def update(self, layer_idx: int, key: np.ndarray, value: np.ndarray, seq_pos: int) -> None:
        end = seq_pos + key.shape[2]
        if seq_pos != self.lengths[layer_idx] or end > self.max_seq_len:
            raise ValueError(f"positions {seq_pos} to {end - 1} do not fit")
        self.keys[layer_idx, :, :, seq_pos:end], self.values[layer_idx, :, :, seq_pos:end] = key, value
        self.lengths[layer_idx] = end

    def get(self, layer_idx: int) -> tuple[np.ndarray, np.ndarray]:
        held = self.lengths[layer_idx]
        return self.keys[layer_idx, :, :, :held], self.values[layer_idx, :, :, :held]


def causal_attention(Q: np.ndarray, K: np.ndarray, V: np.ndarray) -> np.ndarray:
    """softmax(Q Kᵀ / √d) V where no position looks at later ones, in float64."""
    scores = Q.astype(np.float64) @ K.swapaxes(-1, -2) / np.sqrt(Q.shape[-1])
    scores = np.where(np.tri(Q.shape[2], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ V


def in_parts(Q: Tensor, K: Tensor, V: Tensor, *parts: int, layer: int = 0) -> np.ndarray:
    """What `attention_with_cache` gives for the parts of a text, one behind the other, put together again."""
    (batch, heads, _, head_dim), start, results = Q.shape, 0, []
    cache = Notebook(batch, 12, 3, heads, head_dim, Q.dtype)
    cache.keys[...], cache.values[...] = 7.0, -7.0  # what an earlier text left there
    cache.lengths = [5 * (other != layer) for other in range(3)]
    for count in parts:
        tensors = (Tensor(plain(each)[:, :, start : start + count]) for each in (Q, K, V))
        results.append(plain(attention_with_cache(*tensors, cache, layer, start)))
        start += count
    return np.concatenate(results, axis=2)


def texts(length: int, batch: int = 2, heads: int = 2, dtype: Any = np.float64, scale: float = 1.0) -> dict[str, Any]:
    """Q, K and V of so many positions."""
    shape = batch, heads, length, 3
    return {name: (scale * numbers(*shape, seed=i)).astype(dtype) for i, name in enumerate("QKV", 5)}


def parts_agree(*parts: int, tolerance: float = 1e-12, **about: Any) -> Case:
    """A text in parts gets what causal attention gives for all of it at once."""
    text, letters = (
        f"in_parts(Q, K, V, {', '.join(map(str, parts))}, layer={len(parts) % 3})",
        texts(sum(parts), **about),
    )
    return look.gives(text, "causal_attention(Q, K, V)", tolerance=tolerance, dtype=letters["Q"].dtype, **letters)


def notebook(*lengths: int) -> Notebook:
    cache = Notebook(2, 12, len(lengths), 2, 3, np.float64)
    cache.lengths = [*lengths]
    return cache


FIVE = "QKV = [leaf(each) for each in texts(5).values()]; cache = notebook(4, 4, 4); "
FIVE += "result = attention_with_cache(*QKV, cache, 1, 4)"
WRITTEN = {"cache.keys[1, :, :, 4:9]": texts(5)["K"], "cache.values[1, :, :, 4:9]": texts(5)["V"]}
WRITTEN |= {"tuple(cache.lengths)": (4, 9, 4), "cache.keys[:, :, :, :4]": np.zeros((3, 2, 2, 4, 3))}
LEFT = {"isinstance(result, Tensor)": True, "result.requires_grad": False, "(leaf(1.0) * 2).requires_grad": True}
LEFT |= {f"QKV[{i}]": each for i, each in enumerate(texts(5).values())}

test_attention = table(
    ("attention_with_cache", "positions that come one by one find what they find in the whole text, and themselves"),
    parts_agree(1),
    parts_agree(1, 1),
    parts_agree(1, 1, 1, 1, 1, 1, 1),
    parts_agree(1, 1, 1, 1, batch=1, heads=3),
    ("attention_with_cache", "positions that come together do not look at each other's future"),
    parts_agree(2),
    parts_agree(7, batch=1),
    parts_agree(6, heads=1),
    ("attention_with_cache", "several new positions see all before them, and of the new ones none that is later"),
    parts_agree(5, 1, 1, 1),
    parts_agree(1, 4),
    parts_agree(3, 2, 4, batch=3),
    parts_agree(2, 7, 1, heads=1),
    ("attention_with_cache", "float32 stays float32, and large scores give no NaN"),
    parts_agree(4, 1, 2, dtype=np.float32, tolerance=1e-5),
    parts_agree(1, 1, 1, dtype=np.float32, tolerance=1e-5),
    parts_agree(3, 1, 3, scale=40.0, tolerance=1e-9),
    ("attention_with_cache", "the new keys and values are in the cache afterwards, at their positions and layer"),
    *after(FIVE, WRITTEN),
    ("attention_with_cache", "the result is a Tensor that requires no gradient; Q, K and V are left as they are"),
    *after(FIVE, LEFT),
    ("attention_with_cache", "what the cache refuses is a ValueError"),
    look.raises("attention_with_cache(*map(Tensor, texts(2).values()), notebook(11), 0, 11)", ValueError),
    look.raises("attention_with_cache(*map(Tensor, texts(2).values()), notebook(5), 0, 3)", ValueError),
)


def tiny(seed: int, dtype: Any = np.float32) -> GPT:
    """A GPT of two layers and nine positions, with larger weights than at birth, so that tokens differ."""
    manual_seed(seed)
    model = GPT(11, 8, 2, 2, 9)
    for parameter in model.parameters():
        parameter.data = (parameter.data * (8 if parameter.ndim == 2 else 1)).astype(dtype)
    return model


@exercise("attention_with_cache", "a GPT that reads a text in parts gives the logits that it gives for all of it")
def test_a_gpt_with_a_cache() -> None:
    model, text = tiny(1), np.random.default_rng(1).integers(0, 11, (2, 9))
    whole = plain(model(text))
    for parts in ((9,), (1,) * 9, (4, 1, 1, 3), (1, 8)):
        cache, start, results = KVCache(2, 9, 2, 2, 4), 0, []
        for count in parts:
            results.append(plain(model(text[:, start : start + count], cache)))
            start += count
        given = f"two texts of 9 tokens, GPT(11, 8, 2, 2, 9), read in parts of {parts}"
        close(np.concatenate(results, axis=1), whole, "logits with a cache", given, 1e-5)


# Generation, by a model that is the gate's own


class Teller:
    """A model whose logits follow from all tokens that its cache holds, in their order.

    Attributes:
        read: for each call the first position and how many tokens were read. `seen`: those tokens, of all calls.
        modes: for each call whether it was in training mode, and whether operations were recorded.
        caches: the cache of each call.
    """

    def __init__(self, max_seq_len: int = 8, dtype: Any = np.float32) -> None:
        self.max_seq_len, self.num_layers, self.num_heads, self.training = max_seq_len, 2, 2, True
        self.tokens = SimpleNamespace(vocab_size=7, weight=Tensor(np.zeros((7, 4), dtype)))
        self.effects = numbers(max_seq_len, 7, 7, seed=8).astype(dtype)  # of a token at a position on each logit
        self.read, self.seen, self.modes, self.caches = [], [], [], []

    def train(self, mode: bool = True) -> Any:
        self.training = mode
        return self

    def eval(self) -> Any:
        return self.train(False)

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Of all positions of tokens (B, T) from position 0 on."""
        return self.effects[np.arange(tokens.shape[1]), tokens].cumsum(axis=1)

    def forward(self, indices: Any, cache: Any = None) -> Any:
        indices = np.asarray(plain(indices))
        start = 0 if cache is None else cache.length
        end = start + indices.shape[1]
        if end > self.max_seq_len:
            what = "the cache is full" if start == self.max_seq_len else f"{end} tokens are too many"
            raise ValueError(f"{what}, max_seq_len is {self.max_seq_len}")
        self.read.append((start, indices.shape[1]))
        self.seen += indices.ravel().tolist()
        self.modes.append((self.training, (leaf(1.0) * 2).requires_grad))
        if cache is None:
            return Tensor(self.logits(indices))
        self.caches.append(cache)
        cache.keys[:, :, :, start:end] = indices[:, None, :, None]
        cache.lengths = [end] * len(cache.lengths)
        return Tensor(self.logits(cache.keys[0, :, 0, :end, 0].astype(int))[:, start:])

    __call__ = forward


def told(model: Teller, prompt: Any, length: int, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
    """What `generate_with_cache` must give: the window is read again from its later half on when it is full."""
    text = np.atleast_2d(prompt)
    window = text[:, -model.max_seq_len :]
    while text.shape[1] < length:
        logits = model.logits(window)[:, -1].astype(np.float64)
        if temperature == 0:
            new = logits.argmax(axis=1)
        else:
            least = np.sort(logits, axis=1)[:, -(top_k or 7), None]
            weights = np.where(logits < least, 0.0, np.exp(logits / temperature)).cumsum(axis=1)
            new = (weights > generator().random(len(text))[:, None] * weights[:, -1:]).argmax(axis=1)
        text, window = (np.concatenate([each, new[:, None]], axis=1) for each in (text, window))
        if window.shape[1] > model.max_seq_len:
            window = text[:, -max(model.max_seq_len // 2, 1) :]
    return text if np.ndim(prompt) == 2 else text[0]


def tells(prompt: Any, length: int, context: int = 8, **settings: Any) -> Case:
    """The text that the model tells from a prompt on."""
    arguments = "".join(f", {name}={value}" for name, value in settings.items())

    def check(e: Expression) -> None:
        e.given = f"max_seq_len {context}, prompt = {prompt}, max_length {length}{arguments}"
        manual_seed(5)
        expected = told(Teller(context), prompt, length, **settings)
        manual_seed(5)
        text = generate_with_cache(Teller(context), prompt, length, **settings)
        close(text, expected, "the text", e.given, 0.0, np.int64)

    return look.case(check, f"generate_with_cache(model, prompt, {length}{arguments})")


def reads(prompt: list[int], length: int, *expected: tuple[int, int], context: int = 8) -> Case:
    """What the model is given to read: the first position and the number of tokens, each time."""

    def check(e: Expression) -> None:
        e.given, model = f"max_seq_len {context}, prompt = {prompt}, max_length {length}", Teller(context)
        text = generate_with_cache(model, prompt, length, temperature=0)
        close(np.array(model.read), np.array(expected), "first position and number of tokens, each time", e.given, 0.0)
        right = told(Teller(context), prompt, length, temperature=0)
        last = [right[end - count : end] for end, (_, count) in enumerate(expected, len(prompt))]
        equal(tuple(model.seen), tuple(np.concatenate(last).tolist()), "the tokens that were read", e.given)
        equal(len(text), length, "len(text)", e.given)

    return look.case(check, f"generate_with_cache(model, prompt, {length}, temperature=0)")


@exercise("generate_with_cache", "the model writes in evaluation mode, without recording, and is left in its mode")
def test_modes() -> None:
    for mode in (True, False):
        model = Teller().train(mode)
        generate_with_cache(model, [1, 2], 6)
        given = f"model.train({mode}), prompt of 2, max_length 6"
        for place, what in enumerate(("model.training while it read", "whether operations were recorded")):
            equal(tuple({mode[place] for mode in model.modes}), (False,), what, given)
        equal(model.training, mode, "model.training afterwards", given)
        model = Teller().train(mode)
        raises(ValueError, lambda model=model: generate_with_cache(model, [1, 2], 6, temperature=-1.0), given)
        equal(model.training, mode, "model.training after an error", f"{given}, temperature=-1.0")
    equal((leaf(1.0) * 2).requires_grad, True, "requires_grad of another result afterwards", given)


@exercise("generate_with_cache", "there is one cache, which has the model's sizes and dtype and the texts' number")
def test_the_cache_fits() -> None:
    for dtype, prompt in ((np.float32, [[1], [2], [3]]), (np.float64, [4, 5])):
        model = Teller(5, dtype)
        generate_with_cache(model, prompt, 9)
        given = f"max_seq_len 5, 2 layers, 2 heads of 2 features, {np.dtype(dtype)}; prompt = {prompt}, max_length 9"
        equal(len({id(cache) for cache in model.caches}), 1, "the number of caches", given)
        equal(model.caches[0].keys.shape, (2, np.atleast_2d(prompt).shape[0], 2, 5, 2), "cache.keys.shape", given)
        equal(str(model.caches[0].keys.dtype), np.dtype(dtype).name, "its dtype", given)


@exercise("generate_with_cache", "a GPT writes what comes out if everything is worked out again for each token")
def test_a_gpt_writes() -> None:
    rng = np.random.default_rng(2)
    for dtype, shape in ((np.float32, (1, 1)), (np.float32, (3, 4)), (np.float64, (2, 8))):
        model, text = tiny(3, dtype), rng.integers(0, 11, shape)
        prompt = text.copy()
        while text.shape[1] < 10:
            text = np.concatenate([text, plain(model(text))[:, -1].argmax(axis=1)[:, None]], axis=1)
        given = f"GPT(11, 8, 2, 2, 9) in {np.dtype(dtype)}, a prompt of shape {shape}, max_length 10, temperature=0"
        before = prompt.copy()
        close(generate_with_cache(model, prompt, 10, temperature=0), text, "the text", given, 0.0, np.int64)
        close(prompt, before, "the prompt afterwards", given, 0.0)


LONG = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 6, 2]

test_generation = table(
    ("generate_with_cache", "at temperature 0 the likeliest token each time, for one text or several"),
    tells([1], 8, temperature=0),
    tells([1, 2, 3], 8, temperature=0),
    tells([[1, 2, 3], [3, 2, 1], [0, 6, 0]], 8, temperature=0),
    tells([[4], [5]], 8, temperature=0),
    tells([LONG[:8]], 9, temperature=0),
    ("generate_with_cache", "tokens are drawn as sample_tokens draws them, one step of the generator for each"),
    tells([1, 2, 3], 8),
    tells([1, 2, 3], 8, temperature=0.5),
    tells([[1, 2], [3, 4]], 8, temperature=2.0, top_k=3),
    tells([2], 8, top_k=2),
    ("generate_with_cache", "the prompt is read in one pass, then each new token by itself"),
    reads([1], 5, (0, 1), (1, 1), (2, 1), (3, 1)),
    reads([1, 2, 3, 4], 8, (0, 4), (4, 1), (5, 1), (6, 1)),
    reads(LONG[:7], 8, (0, 7)),
    ("generate_with_cache", "when the cache is full, the later half is read again, and the text goes on from there"),
    reads([1, 2, 3, 4, 5], 12, (0, 5), (5, 1), (6, 1), (7, 1), (0, 4), (4, 1), (5, 1)),
    reads([1, 2, 3], 11, (0, 3), (3, 1), (4, 1), (0, 2), (2, 1), (3, 1), (4, 1), (0, 2), context=5),
    reads([1], 4, (0, 1), (0, 1), (0, 1), context=1),
    tells([1, 2, 3, 4, 5], 16, temperature=0),
    tells([[1, 2], [5, 6]], 20, temperature=1.5, context=7),
    ("generate_with_cache", "of a longer prompt the last max_seq_len tokens are read; all of it stays in the text"),
    reads(LONG, 14, (0, 8), (0, 4)),
    tells(LONG, 20, temperature=0),
    tells([LONG, LONG[::-1]], 15),
    reads(LONG[:8], 9, (0, 8)),
    ("generate_with_cache", "a prompt that is long enough comes back as it is, and one that is none is refused"),
    tells([1, 2, 3], 3),
    tells([[1, 2, 3], [4, 5, 6]], 2),
    tells(LONG, 5),
    look.raises("generate_with_cache(Teller(), [], 5)", ValueError, "(0,)"),
    look.raises("generate_with_cache(Teller(), [1, 7], 5)", ValueError, "7"),
)


# Systems


def counted(length: int, layers: int, width: int, vocab: int, new: int) -> int:
    """FLOPs of the products that a GPT does for its last `new` positions of `length`, counted as they are done."""
    done = []

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        done.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return a @ b

    square, wide, past = np.zeros((width, width)), np.zeros((width, 4 * width)), np.zeros((length, width))
    x = np.zeros((new, width))
    for _ in range(layers):
        query, _, _ = (product(x, square) for _ in range(3))
        mixed = product(product(query, past.T), past)
        x = product(product(product(mixed, square), wide), wide.T)
    product(x, np.zeros((width, vocab)))
    return sum(done)


def measured(*sizes: Any) -> int:
    """Bytes of the two arrays of such a cache."""
    return KVCache(*sizes).keys.nbytes + KVCache(*sizes).values.nbytes


def first_above(weight_bytes: int, batch: int, *sizes: Any) -> int:
    """By trying one length after the other."""
    return next(n for n in range(1, 10**6) if measured(batch, n, *sizes) > weight_bytes)


def rate_counted(bandwidth: float, weight_bytes: int, text_bytes: int, batch: int) -> float:
    """Tokens a second of a memory that takes its time for all that is read in 7 steps, one text after the other."""
    return 7 * batch / sum((weight_bytes + sum([text_bytes] * batch)) / bandwidth for _ in range(7))


def shared_by_loops(Q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Each head for itself, in float64."""
    result = np.zeros(Q.shape)
    for b, h in np.ndindex(Q.shape[:2]):
        group = h * keys.shape[1] // Q.shape[1]
        scores = keys[b, group].astype(np.float64) @ Q[b, h, 0] / np.sqrt(Q.shape[3])
        weights = np.exp(scores - scores.max())
        result[b, h, 0] = weights @ values[b, group] / weights.sum()
    return result


def shares(batch: int, heads: int, groups: int, length: int, scale: float = 1.0, dtype: Any = np.float64) -> Case:
    shapes, tolerance = [(batch, heads, 1, 3), *[(batch, groups, length, 3)] * 2], 1e-5 if dtype == np.float32 else 1e-9
    letters = {name: (scale * numbers(*shapes[i], seed=i)).astype(dtype) for i, name in enumerate("QKV")}
    return look.gives(SHARED, "shared_by_loops(Q, K, V)", tolerance=tolerance, dtype=dtype, **letters)


SHARED = "grouped_attention(Q.data, K.data, V.data)"
BYTES = ("1, 1, 1, 1, 1", "3, 10, 2, 5, 7", "2, 100, 4, 3, 16, 'float64'", "1, 12, 2, 3, 8, 'float16'")
WORK = ((1, 1, 2, 3), (5, 2, 4, 7), (9, 3, 6, 11), (40, 1, 4, 50))
GROWN = ("1000, 1, 2, 2, 4", "1024, 1, 2, 2, 4", "1023, 1, 2, 2, 4", "5000, 3, 2, 5, 2, 'float64'", "10, 1, 2, 2, 4")
RATES = ("1e9, 4_000_000, 1_000_000, 1", "2e10, 500_000, 3_000_000, 16", "1e8, 1_000, 0, 64", "3e9, 7_000, 9_000, 3")

test_systems = table(
    ("cache_bytes", "the bytes of the two arrays of such a cache"),
    *(look.equals(f"cache_bytes({sizes})", eval(f"measured({sizes})")) for sizes in BYTES),
    ("decoding_flops", "with a cache: what is counted in products for the last position alone"),
    *(look.equals(f"decoding_flops{each[:4]}".replace(")", ", True)"), counted(*each, 1)) for each in WORK),
    ("decoding_flops", "without a cache: what is counted in products for all positions"),
    *(look.equals(f"decoding_flops{each[:4]}".replace(")", ", False)"), counted(*each, each[0])) for each in WORK),
    ("outgrown_length", "the first length at which such a cache is larger, by trying"),
    *(look.equals(f"outgrown_length({sizes})", eval(f"first_above({sizes})")) for sizes in GROWN),
    ("grouped_attention", "each head finds what its group's keys and values hold; none of the arrays changes"),
    look.keeps(SHARED, Q=numbers(2, 4, 1, 3), K=numbers(2, 2, 5, 3, seed=1), V=numbers(2, 2, 5, 3, seed=2)),
    shares(1, 1, 1, 5),
    shares(2, 4, 2, 5),
    shares(1, 6, 2, 3),
    shares(2, 6, 3, 4),
    ("grouped_attention", "one group for all, or one for each head; float32; large scores"),
    shares(3, 4, 1, 6),
    shares(2, 3, 3, 7),
    shares(2, 4, 2, 5, dtype=np.float32),
    shares(1, 4, 2, 5, scale=60.0),
    ("token_rate", "what a memory gives that takes its time for each byte"),
    *(look.gives(f"token_rate({each})", eval(f"rate_counted({each})"), tolerance=1e-9) for each in RATES),
    look.gives("token_rate(10e9, 4_000_000, 1_000_000)", 2000.0, tolerance=1e-9),
)
