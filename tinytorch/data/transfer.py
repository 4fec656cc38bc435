"""What download.py moves bytes with: an address brought into a file, in pieces if need be, with progress to look at;
errors that name their source; one process at a time.
"""

import contextlib
import functools
import http.client
import os
import struct
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

TIMEOUT = 20.0  # seconds without a byte from a server before it counts as gone
BLOCK = 1 << 20  # bytes read at once
DAMAGED = (EOFError, ValueError, KeyError, zlib.error, struct.error, tarfile.TarError)
UNREADABLE = (OSError, http.client.HTTPException, *DAMAGED)

Item = TypeVar("Item")


class Unusable(Exception):
    """One source does not help. The message says why; the next may."""


class Unreachable(Unusable):
    """A server does not answer at all, so its other files need not be asked for."""


def download(url: str, saved: Path) -> None:
    """Bring `url` into `saved`, from where an earlier attempt stopped, for as long as each attempt brings something."""
    say(f"downloading {url}")
    while True:
        before = saved.stat().st_size if saved.exists() else 0
        if is_complete(url, saved, before):
            return
        now = saved.stat().st_size
        if now <= before:
            raise Unusable(f"{url}: the connection broke after {now / 1e6:.1f} MB, kept for the next attempt.")
        say(f"{url}: the connection broke after {now / 1e6:.1f} MB; going on from there.")


def is_complete(url: str, saved: Path, have: int) -> bool:
    """Whether `saved`, of which `have` bytes are there, has all of `url` after one more request."""
    reply = answer(url, have)
    if reply is None:
        return True
    with reply:
        have = have if reply.status == 206 else 0  # a server that knows no ranges begins at the beginning
        length = reply.headers["Content-Length"]
        total = have + int(length) if length else None
        with saved.open("ab" if have else "wb") as out, contextlib.suppress(Unusable):
            blocks = guarded(iter(functools.partial(reply.read1, BLOCK), b""), url)
            for block in progress(blocks, url.rpartition("/")[2], have, total):
                have += out.write(block)
                if have == total:
                    return True
            return total is None  # a server that gave no length has said everything
    return False


def answer(url: str, have: int) -> http.client.HTTPResponse | None:
    """The server's reply with what follows the first `have` bytes; None if nothing does."""
    headers = {"User-Agent": "tinytorch"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # "range not satisfiable"
            return None
        raise Unusable(f"{url}: {error.code} {error.reason}.") from None
    except UNREADABLE as error:
        raise Unreachable(f"{url}: {why(error)}.") from None


def guarded(items: Iterator[Item], source: Path | str) -> Iterator[Item]:
    """The same items. An error in getting them becomes `Unusable`, so that it is not taken for one in writing them."""
    while True:
        with readable(source):
            item = next(items, None)
        if item is None:
            return
        yield item


@contextlib.contextmanager
def readable(source: Path | str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise Unusable(f"{source} cannot be read: {why(error)}.") from None


def why(error: Exception) -> str:
    reason = getattr(error, "reason", error)  # urllib wraps the error that tells something
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__).rstrip(".")


def progress(blocks: Iterator[bytes], label: str, done: int, total: int | None) -> Iterator[bytes]:
    """The same blocks, while stderr shows how far they are: a bar on a terminal, elsewhere a line every ten seconds."""
    live, start = sys.stderr.isatty(), done
    shown = begun = time.monotonic()
    try:
        for block in blocks:
            done += len(block)
            now = time.monotonic()
            if done == total or now - shown > (0.1 if live else 10.0):
                shown = now
                speed = (done - start) / 1e6 / max(now - begun, 1e-3)
                line = f"{label}  {bar(done, total)}  {speed:.1f} MB/s"
                print(f"\r{line:<79}" if live else line, end="" if live else "\n", file=sys.stderr, flush=True)
            yield block
    finally:
        if live:
            print(file=sys.stderr)


def bar(done: int, total: int | None) -> str:
    if not total:
        return f"{done / 1e6:.1f} MB"
    filled = 20 * done // total
    return f"[{'#' * filled}{'-' * (20 - filled)}] {done / 1e6:.1f} of {total / 1e6:.1f} MB"


def say(message: str) -> None:
    print(f"tinytorch data: {message}", file=sys.stderr, flush=True)


say_once = functools.lru_cache(maxsize=None)(say)


@contextlib.contextmanager
def only_process(lock: Path, name: str) -> Iterator[None]:
    """Wait until no other process has `lock`. One that dies gives it up, because it is the system that keeps it."""
    with lock.open("ab") as handle:
        while not is_locked(handle):
            say_once(f"another process is fetching {name}; waiting for it.")
            time.sleep(0.1)
        yield


def is_locked(handle: BinaryIO) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a file system without locks: at worst two processes fetch the same, and verification decides
    return True
