"""Which passages come back, in which order."""

import copy
import gc
import itertools
import socket
import threading
from contextlib import suppress

import pytest
from http_fake import rank, rank_entries, reply

from contract.adapters import MODEL, Fault

MOST = 512  # passages of a request, by NVIDIA's documentation of the reranking NIM


def as_sent(request):
    return reply({"rankings": rank_entries(request)})


def met(rerank, service, together, **settings):
    """Rerank four batches whose answers wait for one another: were as many in flight as `together` has parties?"""
    arrived = []

    def wait(request):
        with suppress(threading.BrokenBarrierError):
            arrived.append(together.wait())
        return rank(request)

    service.script = wait
    rerank("q", ["1", "2", "3", "4"], batch=1, **settings)
    return len(arrived) >= together.parties


def test_the_best_passages_come_first_with_their_logits(rerank):
    assert rerank("q", ["1", "3", "2"]) == [(1, 3.0), (2, 2.0), (0, 1.0)]


def test_the_request_is_the_documented_one(rerank, service):
    rerank("which way?", ["1", "2"], truncate="END")
    assert service.rankings[0].json == {
        "model": MODEL,
        "query": {"text": "which way?"},
        "passages": [{"text": "1"}, {"text": "2"}],
        "truncate": "END",
    }


def test_an_unsorted_answer_is_sorted(rerank, service):
    service.script = as_sent
    assert rerank("q", ["1", "3", "2"]) == [(1, 3.0), (2, 2.0), (0, 1.0)]


def test_the_best_of_an_unsorted_batch_is_not_cut_off(rerank, service):
    service.script = as_sent
    assert rerank("q", ["0", "9", "1", "2"], top_n=1, batch=4) == [(1, 9.0)]


def test_the_best_of_several_unsorted_batches_is_not_cut_off(rerank, service):
    service.script = as_sent
    assert rerank("q", ["0", "9", "1", "2"], top_n=1, batch=2) == [(1, 9.0)]


def test_several_batches_equal_one_big_batch(rerank):
    texts = ["4", "0", "7", "-3", "5", "2", "9", "1"]
    assert rerank("q", texts, batch=3) == rerank("q", texts, batch=8)


def test_ties_stay_in_input_order_across_batches(rerank):
    assert rerank("q", ["1", "2", "1", "2", "1"], batch=2) == [(1, 2.0), (3, 2.0), (0, 1.0), (2, 1.0), (4, 1.0)]


def test_ties_stay_in_input_order_whatever_the_order_of_the_answer(rerank, service):
    service.script = lambda request: reply({"rankings": rank_entries(request)[::-1]})
    assert rerank("q", ["2", "2", "2"]) == [(0, 2.0), (1, 2.0), (2, 2.0)]


def test_a_batch_of_the_asked_size_is_sent(rerank, service):
    rerank("q", ["1", "2", "3", "4", "5"], batch=2)
    assert sorted(service.batch_sizes) == [1, 2, 2]


def test_more_passages_than_a_request_may_hold_are_split(rerank, service):
    found = rerank("q", [str(number) for number in range(MOST + 1)])
    assert [position for position, _ in found] == list(range(MOST, -1, -1))
    assert max(service.batch_sizes) <= MOST


def test_no_asked_size_makes_a_request_too_big(rerank, service):
    with suppress(Fault):  # to refuse the size is as good as to send less
        rerank("q", ["1"] * (MOST + 1), batch=MOST + 1)
    assert all(size <= MOST for size in service.batch_sizes)


def test_batches_are_in_flight_at_the_same_time(rerank, service):
    assert met(rerank, service, threading.Barrier(4, timeout=5))


def test_no_more_batches_are_in_flight_than_asked_for(rerank, service):
    assert not met(rerank, service, threading.Barrier(3, timeout=0.2), max_concurrency=2)


def test_one_failing_batch_fails_the_call(rerank, service):
    service.next = [rank, reply({"detail": "not this one"}, 400)]
    with pytest.raises(Fault):
        rerank("q", ["1", "2", "3"], batch=1)


def test_a_call_that_failed_leaves_no_connection_open(rerank, service, monkeypatch):
    connect, connections = socket.create_connection, itertools.count()
    connecting, failed = threading.Event(), threading.Event()

    def connect_late(*arguments, **settings):
        if threading.current_thread() is not threading.main_thread() and next(connections) > 0:
            connecting.set()
            failed.wait(0.3)
        return connect(*arguments, **settings)

    def refuse(_):
        connecting.wait(0.3)
        return reply({"detail": "no"}, 400)

    monkeypatch.setattr(socket, "create_connection", connect_late)
    service.next = [refuse]
    before = threading.enumerate()
    with pytest.raises(Fault):
        rerank("q", ["1", "2"], batch=1)
    failed.set()
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(5)
    gc.collect()  # a socket that nobody closed is a ResourceWarning here, and not in a later test
    assert service.is_left_alone()


def test_one_wrong_answer_among_batches_fails_the_call(rerank, service):
    service.next = [rank, reply({"rankings": []})]
    with pytest.raises(Fault, match=r"^invalid answer"):
        rerank("q", ["1", "2", "3"], batch=1)


def test_top_n_cuts(rerank):
    assert rerank("q", ["1", "3", "2"], top_n=2) == [(1, 3.0), (2, 2.0)]


def test_a_top_n_over_the_number_of_passages_gives_all(rerank):
    assert len(rerank("q", ["1", "3", "2"], top_n=4)) == 3


def test_top_n_none_gives_all(rerank):
    assert len(rerank("q", ["1"] * 7, top_n=None)) == 7


def test_top_n_zero_gives_nothing_and_asks_nothing(rerank, service):
    assert rerank("q", ["1", "2"], top_n=0) == []
    assert service.rankings == []


def test_no_passages_give_nothing_and_ask_nothing(rerank, service):
    assert rerank("q", []) == []
    assert service.rankings == []


def test_what_was_passed_in_stays_as_it_is(client, service):
    items = client.items(["1", "3", "2"])
    before = copy.deepcopy(items)
    client.reranked("q", items, base_url=f"http://{service.address}/v1", top_n=3)
    assert items == before


def test_results_are_copies_that_may_be_edited(client, service):
    items = client.items(["1", "3"])
    for result in client.reranked("q", items, base_url=f"http://{service.address}/v1", top_n=2):
        client.metadata(result)["edited"] = True
    assert not any("edited" in client.metadata(item) for item in items)
