"""Measures what stage 14's lesson tells: the work and the time of a token, and what the cache takes and bounds.

tox -e measure14
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, medians, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import GELU, GPT, LayerNorm, Linear, Tensor, cache_for, generate_with_cache, manual_seed, no_grad
from tinytorch.generation.decoder import Decoder
from tinytorch.systems.generation import cache_bytes, decoding_flops, grouped_attention, outgrown_length, token_rate

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT = 65, 128, 4, 4, 256  # the model of milestone 4
HEAD_DIM = WIDTH // HEADS
LENGTHS = (16, 64, 128, 256)


def texts(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCAB, (batch, CONTEXT))


def by_layers(model: GPT, text: np.ndarray) -> Callable[[int], np.ndarray]:
    """A function that reads the token at a position through the model's layers, after all those before it."""
    cache = cache_for(model, len(text))
    model(text, cache)

    def step(at: int) -> np.ndarray:
        cache.lengths = [at] * LAYERS
        return model(text[:, at : at + 1], cache).data[:, -1]

    return step


def by_decoder(model: GPT, text: np.ndarray) -> Callable[[int], np.ndarray]:
    """The same on bare arrays."""
    cache = cache_for(model, len(text))
    model(text, cache)
    decoder = Decoder(model, cache)

    def step(at: int) -> np.ndarray:
        cache.lengths = [at] * LAYERS
        return decoder(text[:, at])

    return step


def both_ways(model: GPT, text: np.ndarray) -> list[Callable[[int], np.ndarray]]:
    return [by_layers(model, text), by_decoder(model, text)]


def positions(model: GPT) -> dict[int, list[float]]:
    """Prints the work and the time of one token; returns for each length the tokens a second of the three ways."""
    text, rates = texts(1), {}
    layers, decoder = both_ways(model, text)
    print(f"One more token: GPT of {LAYERS} layers of {WIDTH}, {HEADS} heads, context {CONTEXT}")
    print(f"{'':10}{'MFLOP of all products':^28}{'tokens a second':^40}{'through layers,':>20}")
    print(
        f"{'length':>10}{'no cache':>14}{'cache':>14}{'no cache':>16}{'layers':>12}{'decoder':>12}{'times as fast':>20}"
    )
    for length in LENGTHS:
        work = [decoding_flops(length, LAYERS, WIDTH, VOCAB, cached) / 1e6 for cached in (False, True)]
        actions = (lambda: model(text[:, :length]), lambda: layers(length - 1), lambda: decoder(length - 1))
        times = [seconds(action, 0.7) for action in actions]
        rates[length] = [1 / time for time in times]
        ratio = rates[length][1] / rates[length][0]
        row = f"{length:>10}{work[0]:>14.1f}{work[1]:>14.2f}"
        print(
            row
            + "".join(f"{rate:>{16 if i == 0 else 12},.0f}" for i, rate in enumerate(rates[length]))
            + f"{ratio:>20.1f}"
        )
    return rates


def whole_texts(model: GPT) -> None:
    print(f"\nWriting a whole text of {CONTEXT} tokens from one token on, greedily")
    ways = {
        "generate": lambda: model.generate([0], CONTEXT, temperature=0),
        "generate_with_cache": lambda: generate_with_cache(model, [0], CONTEXT, temperature=0),
    }
    for name, time in zip(ways, medians(*ways.values(), budget=3)):
        print(f"{name:>22}{time:>8.2f} s")
    print(f"the same tokens: {'yes' if (ways['generate']() == ways['generate_with_cache']()).all() else 'no'}")
    text = texts(1)
    whole = model(text).data[0]
    apart = [max(np.abs(step(at) - whole[at]).max() for at in range(CONTEXT)) for step in both_ways(model, text)]
    print(f"largest logit {np.abs(whole).max():.1f}, cached ones differ: layers {apart[0]:.0e}, decoder {apart[1]:.0e}")


def where_time_goes(model: GPT) -> None:
    """One token through the layers at the end of the context, and the parts that it is made of."""
    text = texts(1)
    layers, decoder = both_ways(model, text)
    x, wide = (Tensor(np.ones((1, 1, size), np.float32)) for size in (WIDTH, 4 * WIDTH))
    linear, up, norm, gelu = (
        Linear(WIDTH, WIDTH, bias=False),
        Linear(WIDTH, 4 * WIDTH, bias=False),
        LayerNorm(WIDTH),
        GELU("tanh"),
    )
    print("\nWhere the time of a token goes, length 256, µs a call")
    rows = {
        "all of it, through layers": (lambda: layers(CONTEXT - 1), 1),
        "all of it, decoder": (lambda: decoder(CONTEXT - 1), 1),
        "Linear(128, 128)": (lambda: linear(x), 4 * LAYERS),
        "its product alone": (lambda: x.data[0] @ linear.weight.data, 4 * LAYERS),
        "Linear(128, 512)": (lambda: up(x), 2 * LAYERS),
        "its product alone ": (lambda: x.data[0] @ up.weight.data, 2 * LAYERS),
        "LayerNorm(128)": (lambda: norm(x), 2 * LAYERS + 1),
        "GELU of 512": (lambda: gelu(wide), LAYERS),
    }
    print(f"{'':28}{'µs':>8}{'calls':>8}{'µs in all':>12}")
    for name, (action, calls) in rows.items():
        time = seconds(action) * 1e6
        print(f"{name:28}{time:>8.1f}{calls:>8}{time * calls:>12.0f}")


def memory(model: GPT) -> None:
    weights = sum(parameter.data.nbytes for parameter in model.parameters())
    shared = {"multi-head": HEADS, "grouped, 2 heads": 2, "multi-query": 1}
    print(f"\nBytes of the cache beside the weights ({weights / 1e6:.2f} MB), float32")
    print(
        f"{'keys and values for':20}{'a position':>12}{'256 positions':>16}"
        f"{'16 texts of 256':>18}{'outgrows the weights at':>26}"
    )
    for name, heads in shared.items():
        sizes = LAYERS, heads, HEAD_DIM
        one, text, many = cache_bytes(1, 1, *sizes), cache_bytes(1, CONTEXT, *sizes), cache_bytes(16, CONTEXT, *sizes)
        grown = outgrown_length(weights, 1, *sizes)
        print(f"{name:20}{one / 1e3:>9.1f} kB{text / 1e6:>13.2f} MB{many / 1e6:>15.2f} MB{grown:>19,} tokens")
    large = cache_bytes(1, 4096, 32, 32, 128, "float16")
    print(f"a model of 7 billion weights (32 layers, 32 heads of 128, float16), 4,096 positions: {large / 1e9:.2f} GB")


def grouped() -> None:
    print("\nAttention of one new position, 4,096 before it, 32 heads of 128 features, float32")
    print(f"{'heads with keys':>18}{'cache of a layer':>20}{'time':>12}{'read a second':>18}")
    rng = np.random.default_rng(0)
    Q = rng.standard_normal((1, 32, 1, 128), np.float32)
    pairs = {groups: [rng.standard_normal((1, groups, 4096, 128), np.float32) for _ in "KV"] for groups in (32, 8, 1)}
    for groups, pair in pairs.items():
        time = seconds(lambda pair=pair: grouped_attention(Q, *pair), 0.7)
        size = 2 * pair[0].nbytes
        print(f"{groups:>18}{size / 1e6:>17.1f} MB{time * 1e3:>9.2f} ms{size / time / 1e9:>13.1f} GB/s")


def batches(model: GPT) -> None:
    """Tokens a second of several texts at once, beside what the memory would allow."""
    large = np.ones(50_000_000, np.float32)
    ones = np.ones((1, 5000), np.float32)
    bandwidth = large.nbytes / seconds(lambda: ones @ large.reshape(5000, 10000), 0.5)
    weights = sum(parameter.data.nbytes for parameter in model.parameters() if parameter.ndim == 2)
    text_bytes = cache_bytes(1, CONTEXT, LAYERS, HEADS, HEAD_DIM)
    print(f"\nSeveral texts at once, length 256, decoder; memory is read at {bandwidth / 1e9:.0f} GB/s")
    print(
        f"{'texts':>8}{'tokens a second':>18}{'of each text':>15}"
        f"{'bytes read a token':>22}{'if memory were the bound':>28}"
    )
    for batch in (1, 4, 16, 64):
        step = by_decoder(model, texts(batch))
        rate = batch / seconds(lambda step=step: step(CONTEXT - 1), 0.8)
        bound = token_rate(bandwidth, weights, text_bytes, batch)
        read = (weights + batch * text_bytes) / batch
        print(f"{batch:>8}{rate:>18,.0f}{rate / batch:>15,.0f}{read / 1e6:>19.2f} MB{bound:>28,.0f}")


def plot(rates: dict[int, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    lengths = np.arange(1, CONTEXT + 1)
    for cached, name in ((False, "no cache"), (True, "cache")):
        work = [decoding_flops(int(n), LAYERS, WIDTH, VOCAB, cached) / 1e6 for n in lengths]
        left.plot(lengths, work, label=name)
    left.set(title="Work for one more token", xlabel="length of the text", ylabel="MFLOP", yscale="log")
    for name, values in zip(("no cache", "cache, layers", "cache, decoder"), zip(*rates.values())):
        right.plot(list(rates), values, ".-", label=name)
    right.set(title="Speed of one more token", xlabel="length of the text", ylabel="tokens a second", yscale="log")
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3)
    save_plot(figure, __file__)


def main() -> None:
    manual_seed(0)
    model = GPT(VOCAB, WIDTH, LAYERS, HEADS, CONTEXT).eval()
    for parameter in model.parameters():  # larger than at birth, so that the text is no single token
        parameter.data *= 3 if parameter.ndim == 2 else 1
    with no_grad():
        rates = positions(model)
        whole_texts(model)
        where_time_goes(model)
        batches(model)
    memory(model)
    grouped()
    plot(rates)


measure(main)
