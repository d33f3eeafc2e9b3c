import json
import os
import subprocess
import sys

import pytest

from nvrerank_helpers.__main__ import main

COLUMNS = ["nDCG@10", "MRR@10", "hit@1", "recall@50", "milliseconds per question"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run the demo as a user without a key does, with a torch on the path that tells when it is imported."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "torch.py").write_text(f"open({str(folder / 'torch imported')!r}, 'w').close()\n")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NVIDIA_", "NVRERANK_CATALOG"))}
    ended = subprocess.run(
        [sys.executable, "-m", "nvrerank_helpers", "demo", "--json", str(folder / "figures.json")],
        env=kept | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout, json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def test_the_figures_have_one_object_a_system(demo):
    *_, figures = demo
    assert [system["system"] for system in figures["systems"]] == ["bm25", "vector", "fused", "reranked"]
    assert all(list(system) == ["system", *COLUMNS] for system in figures["systems"])


def test_reranking_gains_a_quarter_in_ndcg(demo):
    systems = {system["system"]: system for system in demo[2]["systems"]}
    assert systems["reranked"]["nDCG@10"] >= 1.25 * systems["fused"]["nDCG@10"]


def test_reranking_leaves_recall_as_it_is(demo):
    systems = {system["system"]: system for system in demo[2]["systems"]}
    assert systems["reranked"]["recall@50"] == systems["fused"]["recall@50"]


def test_the_report_shows_an_example_the_table_and_where_to_go_next(demo):
    report = demo[1]
    before, after, table, next_ = (report.index(word) for word in ("Before:", "After:", "nDCG@10 ", "Where to go next"))
    assert before < after < table < next_
    assert f"All {demo[2]['questions']} test questions" in report


def test_torch_is_never_imported(demo):
    assert not (demo[0] / "torch imported").exists()


def test_an_error_is_one_message_and_no_traceback(monkeypatch, capsys):
    monkeypatch.setenv("NVIDIA_BASE_URL", "ftp://nim")
    assert main(["demo"]) == 1
    assert (
        capsys.readouterr().err
        == "nvrerank_helpers: Invalid base_url: 'ftp://nim' starts with ftp://. Use http:// or https://.\n"
    )


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["demo"]) == 1
    assert "the extra `course`" in capsys.readouterr().err
