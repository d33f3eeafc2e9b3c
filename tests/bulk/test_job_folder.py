import importlib.util

import pytest

from nvrerank_helpers.__main__ import main
from nvrerank_helpers.bulk.blocks import block_name
from nvrerank_helpers.bulk.errors import OtherJob
from nvrerank_helpers.bulk.job_folder import (
    Folder,
    Settings,
    check_same,
    fingerprint,
    locked,
    manifest,
    read_manifest,
    write_manifest,
)

SETTINGS = Settings("m", "END", None, 2000)
FILES = {"in.parquet": "abc"}


def test_the_same_job_goes_on():
    check_same(manifest(FILES, SETTINGS, [7]), FILES, SETTINGS)


@pytest.mark.parametrize("files", [{"in.parquet": "abd"}, {"other.parquet": "abc"}, FILES | {"more.parquet": "x"}])
def test_other_input_is_refused(files):
    with pytest.raises(OtherJob, match="over other input"):
        check_same(manifest(FILES, SETTINGS, [7]), files, SETTINGS)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("model", Settings("n", "END", None, 2000)),
        ("truncate", Settings("m", "NONE", None, 2000)),
        ("top_n", Settings("m", "END", 5, 2000)),
        ("block_pairs", Settings("m", "END", None, 1000)),
    ],
)
def test_other_settings_are_refused(name, settings):
    with pytest.raises(OtherJob, match=f"begun with {name}"):
        check_same(manifest(FILES, SETTINGS, [7]), FILES, settings)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    folder = Folder(tmp_path)
    write_manifest(folder, manifest(FILES, SETTINGS, [7, 8]))
    assert read_manifest(folder) == manifest(FILES, SETTINGS, [7, 8])
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_there_is_no_manifest_before_a_job(tmp_path):
    assert read_manifest(Folder(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"input": {}}'])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(OtherJob, match="not that of a bulk job"):
        read_manifest(Folder(tmp_path))


def test_a_file_is_known_again_by_its_content(tmp_path):
    (tmp_path / "a").write_text("one")
    before = fingerprint([tmp_path / "a"])
    (tmp_path / "a").write_text("two")
    assert before.keys() == fingerprint([tmp_path / "a"]).keys()
    assert before != fingerprint([tmp_path / "a"])


def test_blocks_with_a_result_are_done(tmp_path):
    folder = Folder(tmp_path)
    folder.begin()
    (folder.ranked / block_name(1)).touch()
    (folder.ranked / f".{block_name(2)}.77").touch()
    assert folder.pending(4) == [0, 2, 3]


def test_at_the_end_only_results_stay(tmp_path):
    folder = Folder(tmp_path)
    folder.begin()
    (folder.ranked / block_name(1)).touch()
    (folder.failed / f".{block_name(2)}.77").touch()
    (folder.todo / block_name(1)).touch()
    folder.end()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "failed",
        "ranked",
        "ranked/block-000001.parquet",
    ]


def test_a_folder_has_one_job_at_a_time(tmp_path):
    with (
        locked(tmp_path / "out"),
        pytest.raises(OtherJob, match="Another process is at work"),
        locked(tmp_path / "out"),
    ):
        pass


def test_a_folder_can_be_taken_again(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "out") as folder:
            assert folder.path == tmp_path / "out"


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OtherJob, match=r"other things \(thesis.tex\)"), locked(tmp_path):
        pass


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="the extra is installed")
def test_without_the_extra_the_command_names_it(tmp_path, capsys):
    (tmp_path / "in.parquet").touch()
    assert main(["bulk", "--run", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out")]) == 1
    assert "extra `ray`" in capsys.readouterr().err
