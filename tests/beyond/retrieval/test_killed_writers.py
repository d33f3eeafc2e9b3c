"""A process that adds, changes and deletes documents is killed many times, and both sides of its store still agree."""

import multiprocessing
import time
from collections import defaultdict
from random import Random

import pytest
from store_writer import apply_step, open_store, write_until_killed

PRELOAD = [
    "nvrerank_helpers.retrieval.stores.opening",
    "pandas",
    "pyarrow.dataset",
    "lance_namespace",
    "psycopg2",
    "pgvector.sqlalchemy",
]


def run_and_kill_writer(place, seed, random):
    """Kill a writer at a random moment of a random step; return the steps it began, and how many it finished."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # each writer is forked from a process that has these loaded
    reading, writing = context.Pipe(duplex=False)
    writer = context.Process(target=write_until_killed, args=(*place, seed, writing))
    writer.start()
    writing.close()
    said, began = [reading.recv()], time.monotonic()
    said.append(reading.recv())
    one_step = time.monotonic() - began
    said += [reading.recv() for _ in range(random.randrange(10))]
    writer.join(timeout=random.uniform(0, one_step))
    assert writer.is_alive(), "the writer ended on its own"
    writer.kill()
    writer.join()
    try:
        while True:
            said.append(reading.recv())
    except EOFError:
        return [step for step in said if step], said.count(None)


def check_agreement(store, random, newest):
    """Check ids, words and vectors of a store against its nodes; return id to edition."""
    assert store.ids("bm25") == store.ids("vector")
    nodes = store.get(sorted(store.ids()))
    held = {id_: node.metadata["edition"] for id_, node in nodes.items()}
    members = defaultdict(set)
    for id_, edition in held.items():
        members[edition].add(id_)
    sides = store.retriever(similarity_top_k=100).retrievers
    for edition in [newest, *random.sample(sorted(members), min(5, len(members)))]:
        assert {found.node_id for found in sides["bm25"].retrieve(edition)} == members[edition]
    for id_ in [*members[newest], *random.sample(sorted(held), min(5, len(held)))]:
        vector = store.embed_model.get_text_embedding(nodes[id_].get_content("embed"))
        [(nearest, cosine)] = store._find_nearest(vector, 1)
        assert f'"{id_}"' in nearest
        assert cosine == pytest.approx(1, abs=1e-5)
    return held


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("engine", ["lance", "postgres"])
def test_a_killed_writer_leaves_whole_batches_and_sides_that_agree(engine, kills, request, tmp_path):
    place = engine, str(tmp_path / "store"), str(tmp_path)
    if engine == "postgres":
        address, table = request.getfixturevalue("postgres_url"), request.getfixturevalue("table")
        place = engine, f"{address} {table}", str(tmp_path)
    random, state, acknowledged, under_way, kept = Random(6), {}, 0, 0, 0
    for seed in range(kills):
        steps, done = run_and_kill_writer(place, seed, random)
        for step in steps[:done]:
            state = apply_step(state, *step)
        after = apply_step(state, *steps[-1])
        with open_store(*place) as store:
            held = check_agreement(store, random, newest=steps[-1][2])
        assert held in (state, after)
        acknowledged += done
        under_way += len(steps) > done
        kept += len(steps) > done and held == after
        state = held
    print(f"{engine}: {kills} kills, {acknowledged} batches acknowledged, {under_way} under way, {kept} of those kept")
    assert under_way >= kills // 10  # otherwise the kills do not interrupt changes
