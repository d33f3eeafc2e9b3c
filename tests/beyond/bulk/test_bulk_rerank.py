"""Whole jobs, most of them in this process, some on Ray."""

import subprocess
from pathlib import Path

import ir_measures
import pandas as pd
import pytest
from bulk_runs import make_run, rank_locally, read_results, sort_results
from number_service import KEY, MODEL, NumberService

from nvrerank_helpers import bulk
from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin import StandIn

RUN = make_run(queries=20)
QUIET = {"workers": 0, "block_pairs": 20, "progress": False}  # 5 blocks
ON_RAY = QUIET | {"workers": 2}


@pytest.fixture
def run(tmp_path):
    RUN.to_parquet(tmp_path / "in.parquet")
    return tmp_path / "in.parquet"


@pytest.mark.parametrize("settings", [QUIET, ON_RAY], ids=["locally", "on ray"])
def test_every_passage_is_ranked_under_its_query(run, service, tmp_path, settings, ray):
    report = bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], **settings)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), rank_locally(RUN))
    assert (report.model, report.pairs, report.failed, report.blocks, report.kept) == (MODEL, 100, 0, 5, 0)
    assert sum(block.requests for block in report.done) == len(service.asked()) == 20
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "job.json", "ranked", "failed"}


def test_finished_blocks_are_not_done_again(run, service, tmp_path):
    for _ in range(2):
        report = bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], **QUIET)
    assert (report.kept, report.done, len(service.asked())) == (5, [], 20)


def test_a_folder_of_files_is_one_run_and_top_n_keeps_the_best(service, tmp_path):
    (tmp_path / "in").mkdir()
    for part in range(2):
        RUN[part * 50 : part * 50 + 50].to_parquet(tmp_path / "in" / f"{part}.parquet")
    bulk.rerank(tmp_path / "in", tmp_path / "out", base_urls=[service.base_url], top_n=2, **QUIET)
    best = rank_locally(RUN)
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), best[best["rank"] <= 2].reset_index(drop=True))


def test_a_passage_that_is_refused_fails_alone_and_with_the_reason(service, tmp_path):
    RUN.assign(text=RUN["text"].where(RUN.index != 7, "")).to_parquet(tmp_path / "in.parquet")
    report = bulk.rerank(tmp_path / "in.parquet", tmp_path / "out", base_urls=[service.base_url], **QUIET)
    failed = pd.read_parquet(report.out / "failed")
    assert failed[["qid", "docno", "error"]].values.tolist() == [["q1", "d7", "RequestRefused"]]
    assert "a passage has no text" in failed["reason"][0]
    assert report.failed == 1
    expected = rank_locally(RUN).query("docno != 'd7'").reset_index(drop=True)
    pd.testing.assert_frame_equal(read_results(report.out).drop(columns="rank"), expected.drop(columns="rank"))


def test_for_a_bad_run_no_service_is_asked(service, tmp_path):
    RUN.assign(docno="d").to_parquet(tmp_path / "in.parquet")
    with pytest.raises(bulk.BadRun):
        bulk.rerank(tmp_path / "in.parquet", tmp_path / "out", base_urls=[service.base_url], **QUIET)
    assert service.asked() == []


def test_a_job_is_not_resumed_with_other_settings(run, service, tmp_path):
    bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], **QUIET)
    with pytest.raises(bulk.JobMismatch, match="started with top_n None, and this one has 3"):
        bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], top_n=3, **QUIET)


def test_a_model_that_no_service_has_is_named_before_any_request(run, service, tmp_path):
    with pytest.raises(bulk.BadRun, match=f"serves {MODEL}, and not another"):
        bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], model="another", **QUIET)
    assert service.asked() == []


def test_a_job_stops_when_its_only_service_is_gone_and_resumes_when_it_is_back(run, service, tmp_path):
    settings = QUIET | {"base_urls": [service.base_url], "model": MODEL}
    with pytest.raises(bulk.JobStopped, match=r"No service answered for 0\.2 seconds"):
        bulk.rerank(run, tmp_path / "out", patience=0.2, on_block=lambda _: service.kill(), **settings)
    service.start()
    assert bulk.rerank(run, tmp_path / "out", **settings).kept == 1
    pd.testing.assert_frame_equal(read_results(tmp_path / "out"), rank_locally(RUN))


def test_an_error_that_stops_a_worker_on_ray_stops_the_job(run, service, tmp_path, ray):
    service.kill()
    settings = ON_RAY | {"base_urls": [service.base_url], "model": MODEL}
    with pytest.raises(bulk.JobStopped, match=r"No service answered for 0\.2 seconds"):
        bulk.rerank(run, tmp_path / "out", patience=0.2, **settings)
    service.start()


def test_a_job_may_read_and_write_run_files(service, tmp_path):
    (tmp_path / "bm25.run").write_text("".join(f"{qid} Q0 {docno} 1 0.5 bm25\n" for qid, _, docno, _ in RUN.values))
    queries = RUN.drop_duplicates("qid")[["qid", "query"]]
    queries.to_csv(tmp_path / "queries.tsv", sep="\t", header=False, index=False)
    RUN[["docno", "text"]].to_parquet(tmp_path / "passages.parquet")
    report = bulk.rerank(
        tmp_path / "bm25.run",
        tmp_path / "out",
        queries=tmp_path / "queries.tsv",
        passages=tmp_path / "passages.parquet",
        base_urls=[service.base_url],
        **QUIET,
    )
    bulk.write_trec(report.out, tmp_path / "reranked.run")
    read = pd.DataFrame(ir_measures.read_trec_run(str(tmp_path / "reranked.run")))
    expected = rank_locally(RUN).set_index(["qid", "docno"])["logit"].to_dict()
    assert {(qid, docno): logit for qid, docno, logit in read.values} == expected


def test_the_key_of_the_environment_goes_to_the_catalog_but_not_into_logs(run, service, tmp_path, monkeypatch, ray):
    monkeypatch.setenv("NVRERANK_CATALOG_URL", f"http://127.0.0.1:{service.port}")
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    report = bulk.rerank(run, tmp_path / "out", **ON_RAY)
    assert (report.model, report.failed) == (DEFAULT_MODEL, 0)
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    for folder in (logs, report.out):
        assert subprocess.run(["grep", "-rlF", KEY, folder], capture_output=True, check=False).stdout == b""


def test_the_stand_in_ranks_a_run_as_it_ranks_one_query(tmp_path):
    texts = ["The stock market fell.", "A cat says meow.", "Dogs bark at the postman."]
    rows = [(str(n), query, f"d{m}", text) for n, query in enumerate(["meow", "bark"]) for m, text in enumerate(texts)]
    pd.DataFrame(rows, columns=["qid", "query", "docno", "text"]).to_parquet(tmp_path / "in.parquet")
    with StandIn() as first, StandIn() as second:
        bulk.rerank(tmp_path / "in.parquet", tmp_path / "out", base_urls=[first.base_url, second.base_url], **QUIET)
    ranked = sort_results(pd.read_parquet(tmp_path / "out" / "ranked"))
    assert ranked[ranked["rank"] == 1]["docno"].tolist() == ["d1", "d2"]


def test_two_services_share_the_work(run, service, tmp_path):
    other = NumberService(tmp_path / "other.txt")
    bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url, other.base_url], **QUIET)
    other.close()
    assert sorted(service.asked() + other.asked()) == sorted(RUN["query"].unique())
    assert min(len(service.asked()), len(other.asked())) >= 5


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"in_flight": 0}, {"block_pairs": 0}, {"top_n": 0}])
def test_a_count_that_is_too_small_is_refused(run, tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*: give at least"):
        bulk.rerank(run, tmp_path / "out", **QUIET | wrong)
    assert not (tmp_path / "out").exists()


async def test_a_job_may_run_beside_an_event_loop_as_in_a_notebook(run, service, tmp_path):
    assert bulk.rerank(run, tmp_path / "out", base_urls=[service.base_url], **QUIET).pairs == 100
