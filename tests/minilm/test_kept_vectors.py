"""What is kept between runs: found again by every process, bounded, private, and never in the way."""

import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nvrerank_helpers.minilm import kept_vectors
from nvrerank_helpers.minilm.kept_vectors import FILE, KeptVectors, open_kept_vectors


def fill(folder: Path, values: dict[bytes, bytes], **options: int) -> None:
    store = KeptVectors(folder, "here", **options)
    for key, value in values.items():
        store.put(key, value)
    store.close()


def read(folder: Path, *keys: bytes, computed_by: str = "here") -> list[bytes | None]:
    store = KeptVectors(folder, computed_by)
    values = [store.get(key) for key in keys]
    store.close()
    return values


def test_what_one_run_kept_the_next_one_finds(tmp_path: Path) -> None:
    values = {bytes([number]): os.urandom(1000) for number in range(100)}
    fill(tmp_path, values)
    assert read(tmp_path, *values, b"other") == [*values.values(), None]


def test_vectors_of_another_computation_are_not_found(tmp_path: Path) -> None:
    fill(tmp_path, {b"key": b"value"})
    assert read(tmp_path, b"key", computed_by="another instruction set") == [None]


def test_a_value_is_found_while_the_store_that_wrote_it_is_open(tmp_path: Path) -> None:
    store = KeptVectors(tmp_path, "here")
    assert store.get(b"key") is None
    store.put(b"key", b"value")
    store._writer.shutdown()
    assert store.get(b"key") == b"value"
    store.close()


def test_making_a_store_touches_no_file(tmp_path: Path) -> None:
    KeptVectors(tmp_path / "new", "here").close()
    assert list(tmp_path.iterdir()) == []


def test_only_the_user_can_read_what_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    store = KeptVectors(folder, "here")
    store.put(b"the words of a user", b"value")
    store._writer.shutdown()
    store.get(b"key")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    store.close()
    if os.name == "posix":
        assert (folder.stat().st_mode & 0o777, set(modes.values())) == (0o700, {0o600})
    assert b"the words of a user" not in (folder / FILE).read_bytes()


def test_the_oldest_values_make_room(tmp_path: Path) -> None:
    for number in range(40):
        fill(tmp_path, {bytes([number]): bytes(50_000)}, most_bytes=1_000_000)
        assert (tmp_path / FILE).stat().st_size <= 1_100_000
    found = read(tmp_path, *(bytes([number]) for number in range(40)))
    assert found[-10:] == [bytes(50_000)] * 10
    assert found[:20] == [None] * 20


def test_a_slow_disk_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_vectors, "MOST_PENDING_BYTES", 100)
    store = KeptVectors(tmp_path, "here")
    monkeypatch.setattr(store._writer, "submit", lambda *_: None)  # nothing is written meanwhile
    for number in range(10):
        store.put(bytes([number]), bytes(30))
    assert len(store._pending) == 3
    store.close()


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from nvrerank_helpers.minilm.kept_vectors import KeptVectors\n"
        "store = KeptVectors(Path(sys.argv[1]), 'here')\n"
        "for n in range(50): store.put(f'{sys.argv[2]} {n}'.encode(), bytes(1000)); store.get(b'0 0')\n"
        "store.close()"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), str(number)], stderr=subprocess.PIPE)
        for number in range(3)
    ]
    assert [run.communicate(timeout=60)[1] for run in runs] == [b""] * 3
    found = read(tmp_path, *(f"{number} {n}".encode() for number in range(3) for n in range(50)))
    assert found == [bytes(1000)] * 150


def test_a_locked_file_is_passed_over_for_the_moment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {b"key": b"value"})
    store = KeptVectors(tmp_path, "here")
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert store.get(b"key") is None
    other.execute("COMMIT")
    other.close()
    assert store.get(b"key") == b"value"
    store.close()
    assert caplog.records == []


def spoil_header(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def put_a_file_in_place_of_the_folder(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize("damage", [spoil_header, put_a_file_in_place_of_the_folder])
def test_a_damaged_store_is_left_out_with_one_line(
    damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "kept", {b"key": b"value"})
    damage(tmp_path / "kept" / FILE)
    store = KeptVectors(tmp_path / "kept", "here")
    assert [store.get(b"key"), store.get(b"key")] == [None, None]
    store.put(b"key", b"value")
    store.close()
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "NVRERANK_KEPT_VECTORS=0" in record.getMessage()


def test_a_damaged_value_is_not_used(tmp_path: Path) -> None:
    fill(tmp_path, {b"key": b"value" * 100})
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.replace(b"valuevalue", b"valuevalux", 1))
    assert read(tmp_path, b"key") == [None]


@pytest.mark.parametrize("setting", ["PRAGMA max_page_count=10", "PRAGMA query_only=1"], ids=["full", "read-only"])
def test_a_disk_that_takes_nothing_more_leaves_what_is_there(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, {b"old": b"value"})
    with monkeypatch.context() as patch:
        patch.setattr(kept_vectors, "SETUP", (*kept_vectors.SETUP, setting))
        fill(tmp_path, {b"new": bytes(1_000_000)})
    assert len(caplog.records) == 1
    assert read(tmp_path, b"old", b"new") == [b"value", None]


def test_a_closed_store_takes_nothing_more(tmp_path: Path) -> None:
    store = KeptVectors(tmp_path, "here")
    store.close()
    store.put(b"key", b"value")
    assert store.get(b"key") is None


def test_the_variable_switches_it_off_or_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept_vectors.VARIABLE, "0")
    assert open_kept_vectors("here") is None
    monkeypatch.setenv(kept_vectors.VARIABLE, str(tmp_path))
    assert open_kept_vectors("here").path.parent == tmp_path
    monkeypatch.delenv(kept_vectors.VARIABLE)
    monkeypatch.setattr(kept_vectors.platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    assert open_kept_vectors("here").path.parent == tmp_path / "cache"
    monkeypatch.setattr(kept_vectors.platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache")
    assert open_kept_vectors("here") is None
