"""DataParallel, given code of stage 13: a model that works on parts of a batch in several threads."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RANDOM = np.random.default_rng(5)
TEXT = RANDOM.integers(0, 9, (7, 6))
INDICES, TARGETS = TEXT[:, :-1], TEXT[:, 1:]


def gpt(tt: ModuleType, dtype: Any = np.float32, dropout: float = 0.0) -> Any:
    tt.manual_seed(3)
    model = tt.GPT(9, 8, 2, 2, 5, dropout)
    for _, tensor in model.named_tensors():
        tensor.data = tensor.data.astype(dtype)
    return model


def gradients(tt: ModuleType, model: Any, count: int = 7) -> list[np.ndarray]:
    """Of the mean loss over the first `count` texts; the parameters are left without any."""
    tt.next_token_loss(model(INDICES[:count]), TARGETS[:count]).backward()
    found = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None
    return found


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize(("dtype", "near"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_gradients_are_those_of_the_model_alone(tt: ModuleType, threads: int, dtype: Any, near: float) -> None:
    model = gpt(tt, dtype)
    parallel = tt.DataParallel(model, threads)
    assert np.allclose(parallel(INDICES).data, model(INDICES).data, rtol=0, atol=near)
    for count in (7, 2, 1):  # 1 and 2 texts are fewer than the threads
        for ours, alone in zip(gradients(tt, parallel, count), gradients(tt, model, count)):
            assert ours.dtype == dtype and np.allclose(ours, alone, rtol=0, atol=near)


def test_each_part_has_a_thread_of_its_own(tt: ModuleType) -> None:
    meeting, seen = threading.Barrier(2), []

    class Meets(tt.Layer):
        def forward(self, x: Any) -> Any:
            meeting.wait(20)  # breaks unless two are at work at the same time
            seen.append((threading.get_ident(), len(x.data)))
            return x * 1.0

    result = tt.DataParallel(Meets(), 2)(np.arange(5.0))
    assert result.data.tolist() == [0, 1, 2, 3, 4]  # in the order of the batch
    assert len({thread for thread, _ in seen}) == 2 and sorted(size for _, size in seen) == [2, 3]


def test_a_run_is_the_same_whichever_thread_is_faster(tt: ModuleType) -> None:
    delays: list[float] = []

    class Waits(tt.Layer):
        def forward(self, x: Any) -> Any:
            threading.Event().wait(delays.pop())
            return x * 1.0

    found = []
    for order in ([0.0, 0.05], [0.05, 0.0]):
        delays[:] = order * 2
        tt.manual_seed(4)
        model = tt.Sequential(Waits(), tt.Linear(6, 6), tt.Dropout(0.5))
        parallel = tt.DataParallel(model)
        results = [parallel(np.ones((8, 6), np.float32)) for _ in range(2)]
        results[1].backward(np.ones((8, 6), np.float32))
        found.append([*(each.data for each in results), model[1].weight.grad])
    assert all(np.array_equal(a, b) for a, b in zip(*found))
    first, second = found[0][:2]
    assert not np.array_equal(first, second), "each pass drops anew"
    assert not np.array_equal(first[:4] == 0, first[4:] == 0), "each part drops for itself"


def test_evaluation_is_handed_down_and_draws_nothing(tt: ModuleType) -> None:
    model = gpt(tt, dropout=0.5)
    parallel = tt.DataParallel(model).eval()
    tt.manual_seed(6)
    assert np.allclose(parallel(INDICES).data, model(INDICES).data, rtol=0, atol=1e-6)
    number = tt.generator().random()
    tt.manual_seed(6)
    assert number == tt.generator().random() and not model.training
    parallel.train()
    assert not np.allclose(parallel(INDICES).data, parallel(INDICES).data)


def test_no_grad_holds_in_the_threads(tt: ModuleType) -> None:
    parallel = tt.DataParallel(gpt(tt))
    with tt.no_grad():
        result = parallel(INDICES)
    assert not result.requires_grad and result.grad_fn is None
    assert parallel(INDICES).requires_grad  # and they remember again afterwards


def test_two_passes_before_the_way_back(tt: ModuleType) -> None:
    model = gpt(tt, np.float64)
    parallel, found = tt.DataParallel(model), []
    for each in (parallel, model):
        halves = [tt.next_token_loss(each(INDICES[part]), TARGETS[part]) for part in (slice(0, 3), slice(3, 7))]
        (halves[0] + halves[1]).backward()
        found.append([parameter.grad for parameter in model.parameters()])
        for parameter in model.parameters():
            parameter.grad = None
    assert all(np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(*found))


def test_a_parameter_that_nobody_uses_has_no_gradient(tt: ModuleType) -> None:
    class Spare(tt.Layer):
        def __init__(self) -> None:
            self.used, self.spare = tt.Linear(3, 2), tt.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    model = Spare()
    tt.DataParallel(model)(np.ones((4, 3), np.float32)).sum().backward()
    assert model.used.weight.grad.tolist() == [[4.0, 4.0]] * 3 and model.spare.weight.grad is None


def test_what_stands_still_gets_no_gradient(tt: ModuleType) -> None:
    """A parameter may be frozen, and set free again, after the replicas were made."""
    model = tt.Sequential(tt.Linear(3, 3), tt.Linear(3, 2))
    parallel = tt.DataParallel(model)
    for frozen in (True, False):
        model[0].weight.requires_grad = not frozen
        parallel(np.ones((4, 3), np.float32)).sum().backward()
        assert (model[0].weight.grad is None) is frozen and model[1].weight.grad is not None


def test_state_and_loading(tt: ModuleType) -> None:
    model, other = gpt(tt), gpt(tt)
    other.initialise(0.3)
    parallel, twin = tt.DataParallel(model), tt.DataParallel(other)
    state = parallel.state_dict()
    assert {name.removeprefix("model.") for name in state} == model.state_dict().keys() and len(state) == 24
    twin.load_state_dict(state)  # into arrays that the replicas look into
    assert np.array_equal(twin(INDICES).data, parallel(INDICES).data)
    assert [id(p) for p in parallel.parameters()] == [id(p) for p in model.parameters()]


def trained(tt: ModuleType, model: Any, epochs: int, trainer: Any = None) -> Any:
    trainer = trainer or tt.Trainer(model, tt.AdamW(model.parameters(), lr=0.01), tt.next_token_loss)
    for _ in range(epochs):
        trainer.train_epoch([(INDICES[:4], TARGETS[:4]), (INDICES[4:], TARGETS[4:])])
    return trainer


def test_a_trainer_trains_it(tt: ModuleType, tmp_path: Path) -> None:
    """As it trains the model alone; and a run that is resumed ends bit for bit the same, dropout included."""
    models = [gpt(tt, np.float64) for _ in range(2)]
    trainers = [trained(tt, tt.DataParallel(models[0]), 3), trained(tt, models[1], 3)]
    for ours, alone in zip(*(model.parameters() for model in models)):
        assert np.allclose(ours.data, alone.data, rtol=0, atol=1e-9)
    losses = [trainer.evaluate([(INDICES, TARGETS)])[0] for trainer in trainers]
    assert abs(losses[0] - losses[1]) < 1e-9 and trainers[0].model.training
    model = gpt(tt, dropout=0.2)
    trainer = trained(tt, tt.DataParallel(model), 1)
    trainer.save_checkpoint(tmp_path / "run")
    trained(tt, trainer.model, 2, trainer)
    ends = [parameter.data.copy() for parameter in model.parameters()]
    trainer.load_checkpoint(tmp_path / "run")
    trained(tt, trainer.model, 2, trainer)
    assert all(np.array_equal(end, parameter.data) for end, parameter in zip(ends, model.parameters()))


def test_an_error_in_a_thread_comes_out(tt: ModuleType) -> None:
    parallel = tt.DataParallel(gpt(tt))
    wrong = INDICES.copy()
    wrong[6, 0] = 9
    with pytest.raises(ValueError, match="expected indices from 0 to 8, for 9 tokens, got 9"):
        parallel(wrong)
    assert parallel(INDICES).shape == (7, 5, 9)  # it works on


def test_bad_input_is_refused(tt: ModuleType) -> None:
    parallel = tt.DataParallel(tt.Linear(3, 2))
    for empty in (np.zeros((0, 3)), 5.0):
        with pytest.raises(ValueError, match="at least one sample"):
            parallel(empty)
    x = tt.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    with pytest.raises(ValueError, match="requires a gradient"):
        parallel(x)
    with tt.no_grad():
        assert parallel(x).shape == (2, 2)  # where nothing is recorded it does not matter
    with pytest.raises(ValueError, match="threads"):
        tt.DataParallel(tt.Linear(3, 2), 0)
