"""The KV cache and the decoder of stage 14: the same as working everything out again, at a fraction of the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest

VOCAB, CONTEXT = 13, 10


def model_of(tt: ModuleType, *sizes: int, dtype: Any = np.float32, seed: int = 0) -> Any:
    """A GPT with weights, norms and biases of all kinds, as if it had been trained."""
    tt.manual_seed(seed)
    model, rng = tt.GPT(*sizes), np.random.default_rng(seed)
    for parameter in model.parameters():
        changed = parameter.data * 8 if parameter.ndim == 2 else parameter.data + rng.normal(0, 0.3, parameter.shape)
        parameter.data = changed.astype(dtype)
    return model.eval()


def small(tt: ModuleType, **options: Any) -> Any:
    return model_of(tt, VOCAB, 12, 2, 3, CONTEXT, **options)


def texts(batch: int, length: int, vocab: int = VOCAB, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocab, (batch, length))


def uncached(tt: ModuleType, model: Any, text: np.ndarray) -> np.ndarray:
    """Logits at all positions, of the whole text at once."""
    with tt.no_grad():
        return model(text).data


def cached(tt: ModuleType, model: Any, text: np.ndarray, prompt: int, fast: bool) -> np.ndarray:
    """Logits from the last position of the prompt on, with a cache: through layers, or by the decoder."""
    from tinytorch.generation.decoder import reader

    cache = tt.cache_for(model, len(text))
    read = reader(model, cache) if fast else lambda tokens: model(tokens, cache).data[:, -1]
    with tt.no_grad():
        parts = [read(text[:, :prompt]), *(read(text[:, at : at + 1]) for at in range(prompt, text.shape[1]))]
    return np.stack(parts, axis=1)


ways = pytest.mark.parametrize("fast", [False, True], ids=["layers", "decoder"])


@ways
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_logits_are_those_of_the_whole_text_at_every_position(tt: ModuleType, batch: int, fast: bool) -> None:
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        model = small(tt, dtype=dtype)
        text = texts(batch, CONTEXT)
        expected = uncached(tt, model, text)
        for prompt in range(1, CONTEXT + 1):
            found = cached(tt, model, text, prompt, fast)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected[:, prompt - 1 :], rtol=tolerance, atol=tolerance)


@pytest.mark.full
@ways
def test_logits_of_a_model_of_the_milestones_size(tt: ModuleType, fast: bool) -> None:
    model = model_of(tt, 65, 128, 4, 4, 256)
    for batch in (1, 3):
        text = texts(batch, 256, 65)
        expected = uncached(tt, model, text)
        for prompt in (1, 2, 100, 255, 256):
            found = cached(tt, model, text, prompt, fast)
            size = np.abs(expected).max()
            assert np.abs(found - expected[:, prompt - 1 :]).max() / size < 1e-5


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_tokens_are_those_of_generate(tt: ModuleType, batch: int | None) -> None:
    model = small(tt)
    for prompt in range(1, CONTEXT + 1):
        start = texts(batch or 1, prompt, seed=prompt)
        start = start if batch else start[0]
        for settings in ({"temperature": 0}, {}, {"temperature": 1.5, "top_k": 4}):
            tt.manual_seed(prompt)
            expected = model.generate(start, CONTEXT + 1, **settings)
            tt.manual_seed(prompt)
            np.testing.assert_array_equal(tt.generate_with_cache(model, start, CONTEXT + 1, **settings), expected)


def test_beyond_the_context_the_later_half_is_read_again(tt: ModuleType) -> None:
    model, text = small(tt), texts(2, 3)
    window = expected = text
    for _ in range(30):
        new = uncached(tt, model, window)[:, -1].argmax(axis=1)[:, None]
        expected, window = np.concatenate([expected, new], axis=1), np.concatenate([window, new], axis=1)
        window = window if window.shape[1] <= CONTEXT else expected[:, -CONTEXT // 2 :]
    np.testing.assert_array_equal(tt.generate_with_cache(model, text, 33, temperature=0), expected)


@contextmanager
def counting(tt: ModuleType) -> Iterator[list[int]]:
    """The floating-point operations of each matrix product."""
    done: list[int] = []

    class Counting(type(tt.get_backend())):
        def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
            result = super().matmul(a, b)
            done.append(2 * result.size * a.shape[-1])
            return result

    before = tt.set_backend(Counting())
    try:
        yield done
    finally:
        tt.set_backend(before)


def test_work_of_a_token_is_what_the_systems_function_says(tt: ModuleType) -> None:
    from tinytorch.systems.generation import decoding_flops

    sizes = {"num_layers": 2, "embed_dim": 32, "vocab_size": 65}
    model = model_of(tt, 65, 32, 2, 4, 256)
    text, cache = texts(1, 256, 65), tt.cache_for(model)
    for length in (16, 64, 256):
        with counting(tt) as with_all:
            uncached(tt, model, text[:, :length])
        cache.reset()
        with tt.no_grad():
            model(text[:, : length - 1], cache)
            with counting(tt) as with_cache:
                model(text[:, length - 1 : length], cache)
        assert sum(with_all) == decoding_flops(length, **sizes, cached=False)
        assert sum(with_cache) == decoding_flops(length, **sizes, cached=True)
    assert sum(with_all) == 256 * sum(with_cache)


def test_a_backend_of_somebodys_own_is_asked(tt: ModuleType) -> None:
    """The decoder, which multiplies by NumPy itself, steps back."""
    with counting(tt) as done:
        tt.generate_with_cache(small(tt), [1, 2], 6, temperature=0)
    assert done


def test_who_watches_sees_every_token(tt: ModuleType) -> None:
    model, lengths = small(tt), []
    with tt.watch(lambda name, result, *_: lengths.append(result.shape[2]) if name == "Attention" else None):
        tt.generate_with_cache(model, [1, 2], 5, temperature=0)
    assert lengths == [2, 2, 1, 1, 1, 1]  # two layers, for the prompt and for two tokens


def decoders_made(tt: ModuleType, model: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many decoders a generation makes; its text must be that of `generate`."""
    from tinytorch.generation import decoder

    made: list[Any] = []

    class Noted(decoder.Decoder):
        def __init__(self, *arguments: Any) -> None:
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(decoder, "Decoder", Noted)
    text = tt.generate_with_cache(model, [[1, 2, 3]], CONTEXT, temperature=0)
    np.testing.assert_array_equal(text, model.generate([[1, 2, 3]], CONTEXT, temperature=0))
    return len(made)


def test_a_model_as_it_came_is_read_by_one_decoder(tt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoders_made(tt, small(tt), monkeypatch) == 1


CHANGES = ("linear", "bias", "gelu", "eps", "block", "model", "dtype", "function")


@pytest.mark.parametrize("change", CHANGES)
def test_another_model_is_read_through_its_layers(tt: ModuleType, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    model = small(tt)

    class Rounded(tt.Linear):
        """Weights of four bits, as a quantized layer has them."""

        def forward(self, x: Any) -> Any:
            scale = np.abs(self.weight.data).max() / 7
            return x @ tt.Tensor((np.round(self.weight.data / scale) * scale).astype(np.float32))

    class OtherBlock(tt.TransformerBlock):
        def forward(self, x: Any, *more: Any) -> Any:
            return super().forward(x, *more) * 0.5

    class OtherModel(tt.GPT):
        def forward(self, *arguments: Any) -> Any:
            return super().forward(*arguments) * -1.0

    if change == "linear":
        rounded = Rounded(12, 48, bias=False)
        rounded.weight = model.blocks[1].mlp.up.weight
        model.replace_layer("blocks.1.mlp.up", rounded)
    elif change == "bias":
        model.blocks[0].attention.out.bias = tt.Tensor(np.linspace(-3, 3, 12, dtype=np.float32), requires_grad=True)
    elif change == "gelu":
        model.blocks[0].mlp.activation = tt.GELU()
    elif change == "eps":
        model.blocks[1].norm2.eps = 0.5
    elif change == "block":
        vars(other := OtherBlock(12, 3)).update(vars(model.blocks[0]))
        model.blocks[0] = other
    elif change == "model":
        vars(other := OtherModel(VOCAB, 12, 2, 3, CONTEXT)).update(vars(model))
        model = other
    elif change == "dtype":
        model.norm.weight.data = model.norm.weight.data.astype(np.float64)
    elif change == "function":
        model.blocks[0].mlp.activation = lambda x: x * 0.5
    assert decoders_made(tt, model, monkeypatch) == 0


def test_a_decoder_says_that_the_context_is_full_and_overwrites_nothing(tt: ModuleType) -> None:
    from tinytorch.generation.decoder import Decoder

    model = small(tt)
    cache = tt.cache_for(model)
    decoder = Decoder(model, cache)
    with tt.no_grad():
        model(texts(1, CONTEXT), cache)
    before = cache.keys.copy()
    with pytest.raises(ValueError, match="full"):
        decoder(np.array([1]))
    np.testing.assert_array_equal(cache.keys, before)


def test_a_decoder_is_stable_for_large_scores(tt: ModuleType) -> None:
    """Rows of scores hundreds apart, as those of a model that is very sure of itself."""
    model = small(tt, dtype=np.float64)
    for block in model.blocks:
        block.attention.query.weight.data *= 300
    text = texts(3, CONTEXT)
    expected = uncached(tt, model, text)
    np.testing.assert_allclose(cached(tt, model, text, 1, True), expected, rtol=1e-9, atol=1e-9)


def test_a_cache_is_used_again_after_reset(tt: ModuleType) -> None:
    model, cache = small(tt), None
    for seed in (1, 2):
        text = texts(2, 6, seed=seed)
        cache = cache or tt.cache_for(model, 2)
        cache.reset()
        with tt.no_grad():
            parts = [model(text[:, :4], cache).data, model(text[:, 4:], cache).data]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), uncached(tt, model, text), rtol=1e-5, atol=1e-5)


def test_a_cache_shows_what_it_is(tt: ModuleType) -> None:
    assert repr(tt.KVCache(1, 2, 3, 4, 5)) == "KVCache(1, 2, 3, 4, 5), which holds 0 positions"


@pytest.mark.parametrize("wrong", [0, -1, 1.5])
@pytest.mark.parametrize("place", range(5))
def test_sizes_that_are_none(tt: ModuleType, place: int, wrong: Any) -> None:
    sizes = [2, 3, 4, 5, 6]
    sizes[place] = wrong
    with pytest.raises((ValueError, TypeError), match=str(wrong)):
        tt.KVCache(*sizes)
