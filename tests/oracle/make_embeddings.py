"""Makes embeddings.json: what PyTorch gives for embeddings in float64. Run by hand, with PyTorch installed:

python tests/oracle/make_embeddings.py
"""

import json
from pathlib import Path
from typing import Any

import torch

torch.set_default_dtype(torch.float64)


def case(name: str, rows: int, width: int, indices: Any, tied: bool = False) -> dict[str, Any]:
    """A table, the vectors of these indices, and the table's gradient for a random gradient of the result.

    If `tied`, the result is the product of the vectors with the table, as in the last layer of a GPT.
    """
    torch.manual_seed(rows * width)
    weight = torch.randn(rows, width).requires_grad_()
    index = torch.tensor(indices)
    vectors = torch.nn.functional.embedding(index, weight)
    result = torch.nn.functional.linear(vectors, weight) if tied else vectors
    upstream = torch.randn(result.shape)
    result.backward(upstream)
    numbers = {"weight": weight, "upstream": upstream, "result": result, "gradient": weight.grad}
    return {"name": name, "indices": indices, "tied": tied} | {
        key: tensor.detach().tolist() for key, tensor in numbers.items()
    }


def main() -> None:
    random = torch.Generator().manual_seed(0)
    batch = torch.randint(0, 9, (3, 7), generator=random).tolist()
    cases = [
        case("one token", 4, 3, [2]),
        case("a single number", 4, 2, 1),
        case("one token four times", 3, 4, [[1, 1], [1, 1]]),
        case("a batch with repeated tokens", 11, 5, batch),
        case("a table that is also the last layer", 6, 3, [[5, 0, 5, 2], [2, 2, 1, 0]], tied=True),
    ]
    path = Path(__file__).with_name("embeddings.json")
    text = ",\n".join(json.dumps(each) for each in cases)
    path.write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{text}\n]}}\n', encoding="utf-8", newline="\n")
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
