"""Runs whose right result is known, and what a job made of them."""

import random

import pandas as pd


def a_run(queries=48, passages=5):
    """Make a run: the text of each passage is a number, which the services take for its logit."""
    count = queries * passages
    numbers = random.Random(6).sample(range(10_000), count)
    return pd.DataFrame(
        {
            "qid": [f"q{row // passages}" for row in range(count)],
            "query": [f"query {row // passages}" for row in range(count)],
            "docno": [f"d{row}" for row in range(count)],
            "text": [str(number / 16) for number in numbers],
        }
    )


def right(run):
    """Rank a run without any service."""
    ranked = run.assign(logit=run["text"].astype(float))
    ranked["rank"] = ranked.groupby("qid")["logit"].rank(ascending=False).astype("int32")
    return in_order(ranked)


def in_order(ranked):
    """Bring results into one order, in whichever blocks they were made."""
    return ranked[["qid", "docno", "rank", "logit"]].sort_values(["qid", "rank"], ignore_index=True)


def results(out):
    """Read the results of a job."""
    return in_order(pd.read_parquet(out / "ranked"))
