import importlib.util
from dataclasses import replace

import pytest

from nvrerank_helpers.__main__ import main
from nvrerank_helpers.bulk import JobMismatch
from nvrerank_helpers.bulk.blocks import get_block_name
from nvrerank_helpers.bulk.job_folder import JobFolder, JobSettings, Manifest, hash_files, lock_folder

SETTINGS = JobSettings("m", "END", None, 2000)
FILES = {"in.parquet": "abc"}
MANIFEST = Manifest(FILES, SETTINGS, [7, 8])


@pytest.fixture
def folder(tmp_path):
    folder = JobFolder(tmp_path)
    folder.prepare()
    return folder


def test_the_same_job_may_go_on():
    MANIFEST.check_same(FILES, SETTINGS)


@pytest.mark.parametrize("files", [{"in.parquet": "abd"}, {"other.parquet": "abc"}, FILES | {"more.parquet": "x"}])
def test_other_input_is_refused(files):
    with pytest.raises(JobMismatch, match="has other input"):
        MANIFEST.check_same(files, SETTINGS)


@pytest.mark.parametrize("change", [{"model": "n"}, {"truncate": "NONE"}, {"top_n": 5}, {"block_pairs": 1000}])
def test_other_settings_are_refused(change):
    with pytest.raises(JobMismatch, match=f"started with {next(iter(change))}"):
        MANIFEST.check_same(FILES, replace(SETTINGS, **change))


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    folder = JobFolder(tmp_path)
    assert folder.read_manifest() is None
    folder.write_manifest(MANIFEST)
    assert folder.read_manifest() == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"input": {}}', '{"input": {}, "settings": {}, "blocks": []}'])
def test_another_file_of_that_name_is_refused(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(JobMismatch, match="not that of a bulk job"):
        JobFolder(tmp_path).read_manifest()


def test_a_file_is_recognized_by_its_content(tmp_path):
    (tmp_path / "a").write_text("one")
    before = hash_files([tmp_path / "a"])
    (tmp_path / "a").write_text("two")
    after = hash_files([tmp_path / "a"])
    assert before.keys() == after.keys() == {"a"}
    assert before != after


def test_blocks_with_a_result_are_done(folder):
    (folder.ranked / get_block_name(1)).touch()
    (folder.ranked / f".{get_block_name(2)}.77").touch()
    assert folder.list_pending(4) == [0, 2, 3]


def test_at_the_end_only_results_stay(folder):
    for file in (folder.ranked / "block-000001.parquet", folder.todo / "block-000001.parquet"):
        file.touch()
    (folder.failed / ".block-000002.parquet.77").touch()
    folder.clean_up()
    found = sorted(path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*"))
    assert found == ["failed", "ranked", "ranked/block-000001.parquet"]


def test_a_folder_has_one_job_at_a_time(tmp_path):
    with lock_folder(tmp_path), pytest.raises(JobMismatch, match="Another process is at work"), lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path) as folder:
        assert folder.path == tmp_path


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(JobMismatch, match=r"other things \(thesis.tex\)"), lock_folder(tmp_path):
        pass


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="the extra is installed")
def test_without_the_extra_the_command_names_it(tmp_path, capsys):
    (tmp_path / "in.parquet").touch()
    assert main(["bulk", "--run", str(tmp_path / "in.parquet"), "--out", str(tmp_path / "out")]) == 1
    assert "extra `ray`" in capsys.readouterr().err
