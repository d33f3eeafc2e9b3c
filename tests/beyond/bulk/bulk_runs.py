"""Runs with a known result, and the results of jobs."""

import random

import pandas as pd


def make_run(queries=48, passages=5):
    """Make a run in which the text of each passage is a number, which the services return as its logit."""
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


def rank_locally(run):
    """Rank a run without any service."""
    ranked = run.assign(logit=run["text"].astype(float))
    ranked["rank"] = ranked.groupby("qid")["logit"].rank(ascending=False).astype("int32")
    return sort_results(ranked)


def sort_results(ranked):
    """Sort results, because the blocks of a job may end in any order."""
    return ranked[["qid", "docno", "rank", "logit"]].sort_values(["qid", "rank"], ignore_index=True)


def read_results(out):
    """Read the results of a job."""
    return sort_results(pd.read_parquet(out / "ranked"))
