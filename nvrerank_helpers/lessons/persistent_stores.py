"""What the lesson on stores does to them: time them, let them grow, and kill a program that writes to one."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from timeit import timeit

import pandas as pd
from llama_index.core.schema import BaseNode

from nvrerank_helpers.retrieval import Store

PROGRAM = """
import sys
from nvrerank_helpers.pydocs import load_passages
from nvrerank_helpers.retrieval import open_store

store, passages = open_store(sys.argv[1]), load_passages()
for start in range(0, len(passages), 100):
    store.add(passages[start : start + 100])
    print(start + 100, flush=True)
"""


def measure_time(steps: Mapping[str, Callable[[], object]]) -> pd.DataFrame:
    """Do some steps, each once, and say how long they took.

    Args:
        steps: Name to what is done.

    Returns:
        The column `seconds`, a row for each step, in their order.

    Example:
        >>> list(measure_time({"sort": lambda: sorted("two roads")}).index)
        ['sort']
    """
    seconds = {name: timeit(step, number=1) for name, step in steps.items()}
    return pd.DataFrame({"seconds": seconds}).rename_axis("step")


def price_of_a_change(store: Store, nodes: Sequence[BaseNode], sizes: Sequence[int]) -> pd.DataFrame:
    """Let a store grow, and time at each size the change of one node and the query after it.

    Args:
        store: An empty store.
        nodes: As many nodes as the largest size.
        sizes: Growing numbers of nodes.

    Returns:
        Seconds: a row for each size, the columns `change one passage` and `next query`.
    """
    rows = []
    for size in sizes:
        store.add(nodes[len(store) : size])
        store.retriever().retrieve("two roads")
        changing = {
            "change one passage": lambda: store.change(nodes[:1]),
            "next query": lambda: store.retriever().retrieve("two roads"),
        }
        rows.append(measure_time(changing)["seconds"])
    return pd.DataFrame(rows, index=pd.Index(sizes, name="passages"))


def add_and_kill(folder: str | Path, batches: int) -> int:
    """Let another program add the passages of the course to a store, and kill it after some batches.

    Args:
        folder: Where the store is, or is made.
        batches: How many batches it acknowledges before it is killed, by a signal that no program can catch.

    Returns:
        How many passages it acknowledged.

    Raises:
        RuntimeError: The program ended on its own before that.
    """
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:  # noqa: S603 - all of it is above
        lines = iter(program.stdout or ())
        said = [line for _, line in zip(range(batches), lines, strict=False)]
        program.kill()
        said += lines
    if len(said) < batches:
        raise RuntimeError(f"The program ended after {len(said)} batches: its error output says why.")
    return int(said[-1])
