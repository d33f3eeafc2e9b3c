"""The equipment of the lesson on bulk jobs."""

import pandas as pd
import pytest

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.lessons import BulkLesson, make_two_nodes
from nvrerank_helpers.nim_standin import StandInControl

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


def test_a_far_service_delays_each_request_twice(lesson):
    (far,) = lesson.far_services(1, ["The cat says meow."])
    NVIDIARerank(base_url=far).postprocess_nodes(make_two_nodes(), query_str="Which animal is it?")
    assert StandInControl(far).faults_so_far().injected == [1, 1]  # on the way, and in the queue
