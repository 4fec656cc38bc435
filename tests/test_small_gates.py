"""Right but slow code of earlier stages: a later gate asks it for little, and still calls it right."""

from __future__ import annotations

from workshop.author.mistakes import Bench, Mistake, apply
from workshop.course import load_course

LOOPS = """        first, second = a.data, b.data
        product = np.zeros((*first.shape[:-1], second.shape[-1]), np.result_type(first, second))
        for i in range(first.shape[0]):
            for j in range(second.shape[-1]):
                for k in range(first.shape[1]):
                    product[i, j] += first[i, k] * second[k, j]
        return result_of("Matmul", product, a, b)
"""
PRODUCT = '        return result_of("Matmul", get_backend().matmul(a.data, b.data), a, b)\n'
TEMPORARIES = """        copies = [np.array(leaf.grad) for _ in range(4)]
        leaf.grad = np.asarray(copies[0] + np.array(gradient), dtype=leaf.dtype)
"""
SUM = "        leaf.grad = np.asarray(leaf.grad + gradient, dtype=leaf.dtype)\n"


def test_gate_07_asks_little_of_earlier_stages() -> None:
    """A product of matrices by loops, and a sum of gradients with temporaries, change nothing in gate 07."""
    course = load_course()
    bench = Bench(course, course.stage(7))
    for stage, symbol, was, becomes in ((1, "Tensor.matmul", PRODUCT, LOOPS), (5, "accumulate", SUM, TEMPORARIES)):
        verdict = bench.judge(apply(Mistake("slow", symbol, was, becomes), course.stage(stage), bench.source))
        assert verdict.passed, [test.id for test in verdict.tests if test.failures]
        assert max(test.seconds for test in verdict.tests) < 2, symbol
