"""A process that changes a store until it is killed, and the effect of each of its steps."""

from itertools import count
from multiprocessing.connection import Connection
from random import Random
from threading import RLock

from llama_index.core.schema import TextNode
from memory_store import Hashed
from tqdm import tqdm

from nvrerank_helpers.retrieval import LanceStore, PostgresStore, Store

BATCH = 30


def open_store(engine: str, place: str, folder: str) -> Store:
    """Open a LanceStore in a folder, or the PostgresStore of an address and a table, separated by a space."""
    if engine == "lance":
        return LanceStore(place, Hashed())
    address, table = place.split()
    return PostgresStore(address, table, Hashed(), folder=folder)


def make_node(name: str, edition: str) -> TextNode:
    """Return a node whose words name its document and edition."""
    return TextNode(id_=name, text=name, metadata={"edition": edition})


def apply_step(state: dict[str, str], kind: str, names: list[str], edition: str) -> dict[str, str]:
    """Return the editions by name that a store has after a step."""
    if kind == "delete":
        return {name: old for name, old in state.items() if name not in names}
    return state | dict.fromkeys(names, edition)


def write_until_killed(engine: str, place: str, folder: str, seed: int, journal: Connection) -> None:
    """Add, change and delete batches in random order; send each step before it begins, and None when it is done."""
    tqdm.set_lock(RLock())  # its default lock is a semaphore, which a killed process leaves behind
    random = Random(seed)
    store = open_store(engine, place, folder)
    retriever = store.retriever()
    retriever.retrieve("anything")  # imports the rest
    for step in count():
        names, edition = sorted(store.ids()), f"edition{seed}x{step}"
        kind = random.choice(["add", "change", "delete"]) if len(names) > 2 * BATCH else "add"
        new = [f"doc{seed}x{step}x{n}" for n in range(BATCH)]
        batch = new if kind == "add" else random.sample(names, BATCH)
        journal.send((kind, batch, edition))
        if kind == "delete":
            store.delete(batch)
        else:
            getattr(store, kind)([make_node(name, edition) for name in batch])
        journal.send(None)
        if random.random() < 0.25:
            retriever.retrieve(edition)  # rebuilds the BM25 index, so that some kills interrupt this too
