"""Files on a local disk: complete or not there, in order, and refused for a reason."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import survey.fetch
from survey import files
from survey.fetch import fetch as fetch_all
from survey.spectrum import Refused


def inside(folder: Path) -> list[str]:
    """All names in a folder, also those that `names` does not show."""
    return [path.name for path in folder.iterdir()]


def fetch(*paths: Path | str) -> list[bytes | Refused]:
    return list(fetch_all([str(path) for path in paths]))


def refusal(path: Path | str) -> tuple[str, str]:
    (found,) = fetch(path)
    assert isinstance(found, Refused)
    return found.reason, found.detail


def test_a_write_creates_folders_and_replaces_the_old_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "c.bin")
    files.write(path, b"one")
    files.write(path, memoryview(b"two"))
    assert files.read(path) == b"two"
    assert inside(tmp_path / "a" / "b") == ["c.bin"]


@pytest.mark.parametrize("broken", ["open", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "c.bin"
    files.write(str(path), b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if broken == "replace":
        monkeypatch.setattr(Path, "replace", full)
    data = b"two" if broken == "replace" else "no bytes"
    with pytest.raises((OSError, TypeError)):
        files.write(str(path), data)  # type: ignore[arg-type]
    assert inside(tmp_path) == ["c.bin"]
    assert path.read_bytes() == b"one"


def test_a_process_killed_before_the_rename_leaves_the_old_file_and_a_hidden_one(tmp_path: Path) -> None:
    files.write(str(tmp_path / "c.bin"), b"one")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom survey import files\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write(sys.argv[1], b'two' * 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c.bin")], check=False)
    assert done.returncode == -9
    assert (tmp_path / "c.bin").read_bytes() == b"one"
    assert files.names(str(tmp_path)) == ["c.bin"]
    assert len(inside(tmp_path)) == 2


def test_after_writers_at_the_same_time_the_file_has_the_text_of_one_of_them(tmp_path: Path) -> None:
    path = str(tmp_path / "c.bin")
    texts = [bytes([65 + number]) * 200_000 for number in range(8)]
    threads = [threading.Thread(target=files.write, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files.read(path) in texts
    assert inside(tmp_path) == ["c.bin"]


def test_names_are_in_order_and_a_missing_folder_has_none(tmp_path: Path) -> None:
    for name in ("b", "a", ".a.1-2.tmp", "C"):
        (tmp_path / name).write_bytes(b"")
    assert files.names(str(tmp_path)) == ["C", "a", "b"]
    assert files.names(str(tmp_path / "none")) == []


def test_a_walk_goes_folder_by_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b/2.fits", "b/1.fits", "a/c/9.fits", "a/0.fits", "z.fits", "a.fits"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    found = list(files.walk(str(tmp_path)))
    assert [entry.path.removeprefix(f"{tmp_path}/") for entry in found] == [
        "a.fits",
        "z.fits",
        "a/0.fits",
        "a/c/9.fits",
        "b/1.fits",
        "b/2.fits",
    ]
    assert [entry.size for entry in found] == [6, 6, 8, 10, 8, 8]
    assert all(entry == files.stat_of(entry.path) for entry in found)


def test_a_walk_follows_a_link_to_a_file_but_not_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.fits").write_bytes(b"x")
    (tmp_path / "link.fits").symlink_to(tmp_path / "a" / "1.fits")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert [Path(entry.path).name for entry in files.walk(str(tmp_path))] == ["link.fits", "1.fits"]


def test_a_walk_lists_pipes_broken_links_and_links_to_folders_if_asked(tmp_path: Path) -> None:
    (tmp_path / "folder.FITS").mkdir()
    (tmp_path / "folder.FITS" / "inside").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "plan").symlink_to(tmp_path / "folder.FITS")
    found = [entry.path.removeprefix(f"{tmp_path}/") for entry in files.walk(str(tmp_path), everything=True)]
    assert found == ["dangling.txt", "loop", "pipe.fits", "plan/", "folder.FITS/inside"]
    assert [Path(entry.path).name for entry in files.walk(str(tmp_path))] == ["inside"]


def test_files_are_fetched_in_order_plain_or_gzipped(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"a")
    (tmp_path / "b.fits.gz").write_bytes(b"b")
    (tmp_path / "both.fits").write_bytes(b"plain")
    (tmp_path / "both.fits.gz").write_bytes(b"packed")
    requested = ["b.fits", "a.fits.gz", "a.fits", "b.fits.gz", "both.fits", "both.fits.gz"]
    assert fetch(*(tmp_path / name for name in requested)) == [b"b", b"a", b"a", b"b", b"plain", b"packed"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted on Linux")
def test_files_are_open_before_they_are_read_and_closed_at_any_end(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.fits") for number in range(300)]
    for path in paths:
        Path(path).write_bytes(path.encode())

    def is_open(path: str) -> bool:
        return path in [str(handle.resolve()) for handle in Path("/proc/self/fd").iterdir()]

    reading = iter(fetch_all(paths))
    assert next(reading) == paths[0].encode()
    assert [is_open(path) for path in (paths[0], paths[1], paths[90], paths[200])] == [0, 1, 1, 0]
    del reading  # as when a shard fails
    assert not any(map(is_open, paths[:120]))
    assert list(fetch_all(paths)) == [path.encode() for path in paths]
    assert not any(map(is_open, paths[-3:]))


def test_an_entry_without_bytes_is_refused_for_a_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    assert refusal(tmp_path / "none.fits") == ("missing", "no such file")
    assert refusal(tmp_path / "dangling") == ("missing", "no such file")
    assert refusal(tmp_path) == ("not_a_file", "a folder")
    assert refusal(tmp_path / "pipe.fits") == ("not_a_file", "not a regular file")
    assert refusal("/dev/zero") == ("not_a_file", "not a regular file")
    assert refusal(tmp_path / "file" / "below") == ("missing", "Not a directory")
    assert refusal(tmp_path / "loop")[0] == "missing"
    assert refusal(tmp_path / "socket")[0] == "missing"
    assert refusal(tmp_path / ("x" * 300))[0] == "missing"


def test_a_named_pipe_is_an_error_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (files.open_file, files.read, files.read_json):
        with pytest.raises(ValueError, match=r"pipe: a named pipe, no file; write its content to a file"):
            read(str(tmp_path / "pipe"))


def test_files_and_objects_may_be_fetched_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket:
        def fetch(self, path: str, largest: int) -> bytes:
            assert path.startswith("s3://")
            return path.encode()

    monkeypatch.setattr(files, "bucket_system", Bucket)
    (tmp_path / "a.fits").write_bytes(b"a")
    for paths in ([tmp_path / "a.fits", "s3://sky/b"], ["s3://sky/b", tmp_path / "a.fits"]):
        assert fetch(*map(str, paths)) == [
            str(path).encode() if path == "s3://sky/b" else b"a" for path in paths
        ]


def test_a_full_disk_is_said_with_what_is_wanted_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=17))
    message = r"a.bin: the disk is full: 1,000 bytes are to be written, 17 are free; make room"
    with pytest.raises(OSError, match=message):
        files.write(str(tmp_path / "a.bin"), b"x" * 1000)
    assert inside(tmp_path) == []


def test_a_path_that_no_file_can_have_is_missing() -> None:
    assert refusal("a\0b.fits")[0] == "missing"


def test_an_empty_file_gives_no_bytes_and_a_too_large_file_is_not_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(files.LARGEST + 1)
    assert fetch(tmp_path / "empty") == [b""]
    assert refusal(tmp_path / "large") == ("too_large", f"{files.LARGEST + 1} bytes")


def test_existence_sizes_and_removal(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    assert not files.exists(path)
    assert files.stat_of(path) is None
    files.write_json(path, {"one": 1})
    assert files.exists(path)
    assert files.read_json(path) == {"one": 1}
    assert files.read_all([path, path]) == [b'{\n "one": 1\n}\n'] * 2
    assert files.is_folder(str(tmp_path))
    assert files.stat_of(str(tmp_path)) is None
    files.remove(path)
    files.remove(path)
    assert not files.exists(path)


def test_damaged_json_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"store.json: damaged \(.*\); put a copy back, or remove it"):
        files.read_json(str(tmp_path / "store.json"))


def test_paths_are_joined_here_and_in_buckets() -> None:
    assert files.join("/a/", "b", "c") == "/a/b/c"
    assert files.join("s3://bucket/a/", "b") == "s3://bucket/a/b"
    assert files.is_remote("s3://bucket")
    assert not files.is_remote("/s3://bucket")


def test_paths_need_neither_pyarrow_nor_s3fs() -> None:
    code = "import sys\nfrom survey import files\nprint(sorted({'pyarrow', 's3fs'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_few_objects_of_a_bucket_are_held_and_they_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(path: str) -> bytes:
        asked.append(path)
        return path.encode()

    monkeypatch.setattr(survey.fetch, "_fetch_object", answer)
    paths = [f"s3://sky/{number}" for number in range(1000)]
    found = fetch_all(paths)
    first = next(found)
    assert len(asked) <= survey.fetch.MOST_HELD
    assert [first, *found] == [path.encode() for path in paths]
    assert sorted(asked) == sorted(paths)


def test_objects_that_nobody_wants_any_more_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    may_go_on = threading.Event()

    def answer(path: str) -> bytes:
        asked.append(path)
        assert path == "s3://sky/0" or may_go_on.wait(60)
        return b""

    monkeypatch.setattr(survey.fetch, "_fetch_object", answer)
    found = fetch_all([f"s3://sky/{number}" for number in range(1000)])
    next(found)
    threading.Timer(0.2, may_go_on.set).start()
    found.close()  # type: ignore[attr-defined]
    assert len(asked) < survey.fetch.MOST_HELD


def test_an_error_of_one_object_comes_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str) -> bytes:
        if path.endswith("/3"):
            raise ConnectionError("no bucket")
        return path.encode()

    monkeypatch.setattr(survey.fetch, "_fetch_object", answer)
    found = fetch_all([f"s3://sky/{number}" for number in range(500)])
    assert [next(found) for _ in range(3)] == [b"s3://sky/0", b"s3://sky/1", b"s3://sky/2"]
    with pytest.raises(ConnectionError, match="no bucket"):
        next(found)
