import httpx
import pytest
from fake_service import FakeService

from nvrerank_helpers.__main__ import main
from nvrerank_helpers.catalog import endpoint
from nvrerank_helpers.client import RankingClient
from nvrerank_helpers.nim_standin.process import StandIn
from nvrerank_helpers.preflight import Report, Step, check


def answers(*contents):
    """Return a client whose service gives these answers, one after the other."""
    service = FakeService()
    service.answers = list(contents)
    return RankingClient(endpoint("http://nim/v1", None, {}), "m", max_retries=0, http_client=service.client())


MODELS = {"object": "list", "data": [{"id": "m"}]}
RIGHT = {"rankings": [{"index": 1, "logit": 1.0}, {"index": 0, "logit": -1.0}]}


def ok(content):
    return httpx.Response(200, json=content)


def marks(report):
    return {step.name: step.passed for step in report.steps}


def test_a_service_that_works_passes_every_step():
    report = check(answers(httpx.Response(200), ok(MODELS), ok(RIGHT)))
    assert report.passed
    assert marks(report) == {"address": True, "ready": True, "model": True, "ranking": True}


def test_a_service_that_is_not_there_fails_and_the_rest_is_not_tried():
    report = check(answers(httpx.ConnectError("refused")))
    assert marks(report) == {"address": True, "ready": False, "model": None, "ranking": None}
    assert "What to do" in str(report)


def test_a_service_that_is_still_loading_is_not_ready():
    assert marks(check(answers(httpx.Response(503))))["ready"] is False


def test_a_model_that_is_not_served_is_named_with_those_that_are():
    report = check(answers(httpx.Response(200), ok({"data": [{"id": "other"}]})))
    assert "m is not among other" in str(report)


def test_a_key_that_is_refused_fails_the_ranking():
    report = check(answers(httpx.Response(404), ok(MODELS), httpx.Response(401)))
    assert marks(report) == {"address": True, "ready": None, "model": True, "ranking": False}


def test_a_wrong_order_fails_the_ranking():
    wrong = {"rankings": [{"index": 0, "logit": 1.0}, {"index": 1, "logit": -1.0}]}
    assert "wrong order" in str(check(answers(httpx.Response(200), ok(MODELS), ok(wrong))))


def test_an_endpoint_that_lists_nothing_is_checked_by_ranking_alone():
    service = FakeService()
    service.answers = [ok(RIGHT)]
    client = RankingClient(endpoint("http://host/x/reranking", None, {}), "m", http_client=service.client())
    assert marks(check(client)) == {"address": True, "ready": None, "model": None, "ranking": True}


def test_a_report_is_lines_of_text_and_a_table():
    report = Report([Step("ready", True, "yes"), Step("ranking", False, "<no>", 0.002)])
    assert str(report) == "ok    ready      yes\nFAIL  ranking    <no> (2 ms)"
    assert "&lt;no&gt; (2 ms)" in report._repr_html_()


@pytest.fixture(scope="module")
def standin():
    with StandIn() as running:
        yield running.base_url


@pytest.mark.parametrize(("model", "status"), [([], 0), (["--model", "other"], 1)])
def test_the_command_line_tells_by_its_status(standin, capsys, model, status):
    assert main(["check", "--base-url", standin, *model]) == status
    assert capsys.readouterr().out.startswith("ok    address")
