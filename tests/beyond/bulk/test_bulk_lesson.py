"""What the lesson on bulk jobs has for itself."""

import time

import pandas as pd
import pytest

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.lessons import BulkLesson, two_nodes

COLUMNS = ["qid", "query", "docno", "text", "rank", "score"]


@pytest.fixture(scope="module")
def lesson(ray):
    made = BulkLesson(workers=1)
    yield made
    made.close()


def test_its_command_takes_trec_files_and_its_stand_in_counts_the_requests(lesson):
    rows = [("1", "loud", "cat", "It says meow.", 1, 2.0), ("2", "low", "cat", "It says meow.", 1, 1.0)]
    lesson.write_trec_files(pd.DataFrame(rows, columns=COLUMNS))
    line = "--run bm25.run --queries queries.parquet --passages passages.parquet --out out --workers 1 --quiet"
    report = lesson.command(line)
    assert (report.pairs, report.failed, lesson.requests) == (2, 0, 2)


def test_a_far_service_takes_its_time(lesson):
    (far,) = lesson.far_services(1, ["The cat says meow."])
    reranker, started = NVIDIARerank(base_url=far), time.perf_counter()
    reranker.postprocess_nodes(two_nodes(), query_str="Which animal is it?")
    assert time.perf_counter() - started >= 0.12
