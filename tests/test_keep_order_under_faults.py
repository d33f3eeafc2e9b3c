"""What is measured of `keep_order`: under each fault, every query is answered within its deadline, in order, marked.

The faults are those that the stand-in knows: a new one is tested here without being named.
"""

import asyncio
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from functools import cache
from http import HTTPStatus
from typing import Literal, get_args, get_origin

import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from tiny_standin import TinyStandIn

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.connector.retries import PASSING_STATUS
from nvrerank_helpers.nim_standin import StandInControl
from nvrerank_helpers.nim_standin.faults.specs import KINDS

DEADLINE = 1.0
SLACK = 3.0  # seconds that a busy machine may take on top
NUMBERS = {"status": [status.value for status in HTTPStatus if status >= 200] + [299, 599], "later": [0, 600]}
NEEDED = {"seconds": 600}
HARMLESS = {"answer=unsorted"}
FIRST_STAGE, RERANKED = ["1", "3", "2"], ["3", "2", "1"]


def every_fault():
    """Write each fault of each kind, with every value where these can be counted."""
    for kind, form in KINDS.items():
        annotation = form.model_fields[kind].annotation
        values = choices(annotation) or NUMBERS[kind]
        others = [name for name, field in form.model_fields.items() if field.is_required() and name != kind]
        for value in values:
            yield " ".join([f"{kind}={value}", *(f"{name}={NEEDED[name]}" for name in others)])


def choices(annotation):
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return [choice for part in get_args(annotation) for choice in choices(part)]


FAULTS = list(every_fault())


def passes(fault):
    """Tell whether a second try gets the right answer when this happens once."""
    kind, _, value = fault.partition("=")
    return kind in {"reset", "delay"} or (kind == "status" and int(value) in PASSING_STATUS)


@pytest.fixture(autouse=True, scope="module")
def certificates_are_read_once():
    """Reading them for every client takes most of the time, and nothing here is https."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="module")
def service():
    with TinyStandIn().serving() as address:
        yield address


@pytest.fixture(params=["sync", "async"])
def rerank(request):
    """Rerank with `keep_order`, and tell the order, the marks, and whether it was in time."""

    def reranked(base_url, **arguments):
        given = {"base_url": base_url, "model": "nvidia/some-model", "deadline": DEADLINE, "on_failure": "keep_order"}
        subject = NVIDIARerank(**given | arguments)
        found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in FIRST_STAGE]
        started = time.monotonic()
        if request.param == "sync":
            got = subject.postprocess_nodes(found, query_str="q")
        else:
            got = asyncio.run(subject.apostprocess_nodes(found, query_str="q"))
        seconds = time.monotonic() - started
        subject.close()
        assert seconds < subject.deadline + SLACK
        return [node.text for node in got], {node.metadata.get("rerank_failed") for node in got}

    return reranked


def is_kept(answer):
    order, marks = answer
    return order == FIRST_STAGE and len(marks) == 1 and None not in marks


def is_reranked(answer):
    return answer == (RERANKED, {None})


def test_every_kind_of_fault_is_among_those_that_are_tried():
    assert {fault.partition("=")[0] for fault in FAULTS} == set(KINDS)
    assert {"delay=exponential seconds=600", "reset=middle", "answer=nan", "answer=html", "status=410"} < set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_under_a_fault_that_stays_the_first_order_is_kept_in_time(rerank, service, fault):
    with StandInControl(service).faults(fault):
        answer = rerank(f"{service}/v1", max_retries=1)
    assert is_reranked(answer) if fault in HARMLESS else is_kept(answer)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_happens_once_is_repaired_where_a_second_try_can(rerank, service, fault):
    with StandInControl(service).faults(f"{fault} times=1"):
        answer = rerank(f"{service}/v1", timeout=0.5, deadline=30)
    assert is_reranked(answer) if passes(fault) or fault in HARMLESS else is_kept(answer)


@pytest.mark.parametrize(("seconds", "is_right"), [(0, is_reranked), (600, is_kept)])
def test_an_answer_that_the_catalog_promises_for_later_is_fetched_or_given_up(
    rerank, service, monkeypatch, seconds, is_right
):
    monkeypatch.setenv("NVRERANK_CATALOG_URL", service)
    with StandInControl(service).faults(f"later={seconds}"):
        assert is_right(rerank(None, api_key="nvapi-of-the-test", allow_retired=True))


def drip(connection, begin):
    """Send a beginning, then a byte now and then, until the other side has had enough."""
    connection.sendall(begin)
    while not connection.over.wait(0.05):
        connection.sendall(b" ")


STRANGE = {
    "silent": lambda connection: connection.over.wait(),
    "hangs up": lambda connection: None,
    "speaks something else": lambda connection: connection.sendall(b"220 mail.example ESMTP\r\n"),
    "drips its head": lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nx-header: "),
    "drips its body": lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
}


class Connection(socket.socket):
    """A connection that knows when the test is over."""

    over: threading.Event


@contextmanager
def listening(behave):
    """Listen on this machine, and do with each connection what a test wants."""
    over = threading.Event()

    def serve(accepted):
        with Connection(fileno=accepted.detach()) as connection:
            connection.over = over
            try:
                connection.recv(65536)
                behave(connection)
            except OSError:  # the client has left
                return

    def accept():
        while not over.is_set():
            accepted, _ = listener.accept()
            threads.append(threading.Thread(target=serve, args=(accepted,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            over.set()
            socket.create_connection(listener.getsockname()).close()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("behave", STRANGE.values(), ids=STRANGE)
def test_a_service_that_is_none_is_left_in_time(rerank, behave):
    with listening(behave) as address:
        assert is_kept(rerank(address, max_retries=0))


def test_several_requests_that_hang_end_together(rerank):
    with listening(STRANGE["silent"]) as address:
        assert is_kept(rerank(address, max_batch_size=1, max_concurrency=2))


def test_a_service_that_is_not_there_is_left_in_time(rerank):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    assert is_kept(rerank(f"http://127.0.0.1:{free}/v1", max_retries=0))
