import asyncio
import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import httpx
import pytest

from nvrerank_helpers.connector.connections import Connections, _close_in


def test_eight_threads_share_one_client():
    connections, start = Connections(), Barrier(8)

    def first_use(_):
        start.wait()
        return connections.sync_client()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first_use, range(8)))) == 1
    connections.close()


def test_a_client_that_is_given_is_used_and_left_open():
    with httpx.Client() as given:
        connections = Connections(http_client=given)
        assert connections.sync_client() is given
        connections.close()
        assert not given.is_closed


async def lent(connections):
    """Borrow an async client and give it back."""
    async with connections.lent_async_client() as client:
        return client


async def test_an_async_client_that_is_given_is_used_and_left_open():
    async with httpx.AsyncClient() as given:
        connections = Connections(async_http_client=given)
        assert await lent(connections) is given
        await connections.aclose()
        assert not given.is_closed


def test_after_closing_a_new_client_is_made():
    connections = Connections()
    old = connections.sync_client()
    connections.close()
    assert old.is_closed
    assert connections.sync_client() is not old
    connections.close()


def test_a_forgotten_client_is_closed():
    connections = Connections()
    client = connections.sync_client()
    del connections
    gc.collect()
    assert client.is_closed


def test_each_event_loop_has_its_own_client_that_closes_with_it():
    connections = Connections()
    first, second = asyncio.run(lent(connections)), asyncio.run(lent(connections))
    assert first is not second
    assert first.is_closed
    assert second.is_closed


async def test_a_client_that_came_back_is_lent_again():
    connections = Connections()
    assert await lent(connections) is await lent(connections)
    await connections.aclose()


async def test_two_requests_in_flight_have_a_client_each():
    connections = Connections()
    async with connections.lent_async_client() as one, connections.lent_async_client() as other:
        assert one is not other
    await connections.aclose()


async def test_no_more_than_so_many_clients_wait(monkeypatch):
    monkeypatch.setattr("nvrerank_helpers.connector.connections.MOST_IDLE", 1)
    connections = Connections()
    async with connections.lent_async_client() as one, connections.lent_async_client() as other:
        pass
    assert [one.is_closed, other.is_closed] == [True, False]
    await connections.aclose()


async def test_aclose_closes_both_kinds():
    connections = Connections()
    clients = [connections.sync_client(), await lent(connections)]
    await connections.aclose()
    assert all(client.is_closed for client in clients)


async def test_a_client_that_comes_back_after_aclose_is_closed():
    connections = Connections()
    async with connections.lent_async_client() as late:
        await connections.aclose()
        assert not late.is_closed
    assert late.is_closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_the_child_has_its_own_client_and_leaves_the_parents_open():
    connections = Connections()
    inherited = connections.sync_client()
    child = os.fork()
    if child == 0:
        os._exit(0 if connections.sync_client() is not inherited and not inherited.is_closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connections.sync_client() is inherited
    connections.close()


def test_while_a_child_begins_anew_no_thread_gets_the_parents_client(monkeypatch):
    connections = Connections()
    inherited = connections.sync_client()
    connections._process = -1  # as it looks to a child
    given, new_lock = [], threading.Lock

    def lock_while_another_thread_asks():
        monkeypatch.setattr(threading, "Lock", new_lock)
        with ThreadPoolExecutor(1) as pool:
            given.append(pool.submit(connections.sync_client).result())
        return new_lock()

    monkeypatch.setattr(threading, "Lock", lock_while_another_thread_asks)
    given.append(connections.sync_client())
    assert len(given) == 2
    assert inherited not in given
    for client in [inherited, *given]:
        client.close()


def test_what_a_parent_process_opened_is_neither_used_nor_closed():
    connections = Connections()
    inherited = connections.sync_client()
    connections._process = -1  # as it looks to a child
    own = connections.sync_client()
    _close_in(-1, inherited)
    connections.close()
    assert own.is_closed
    assert not inherited.is_closed
    inherited.close()
