"""The options of `python -m nvrerank_helpers bulk`."""

import argparse
from pathlib import Path

from nvrerank_helpers.bulk.reranking import Report, rerank
from nvrerank_helpers.bulk.results import write_trec


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--run", type=Path, required=True, metavar="FILE", help="Parquet: qid, query, docno, text; or a TREC run file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="for the results")
    parser.add_argument("--queries", type=Path, metavar="FILE", help="for a run file: qid<TAB>query lines, or Parquet")
    parser.add_argument(
        "--passages", type=Path, metavar="FILE", help="for a run file: docno<TAB>text lines, or Parquet"
    )
    parser.add_argument(
        "--base-url",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="of a service; give it several times to use several at once (NVIDIA_BASE_URL, else the API catalog)",
    )
    parser.add_argument("--model", metavar="ID", help="the first that the services list, or the catalog's current one")
    parser.add_argument("--top-n", type=int, metavar="N", help="passages to keep for each query (all)")
    parser.add_argument("--truncate", choices=("END", "NONE"), default="END", help="what happens to long passages")
    parser.add_argument(
        "--workers", type=int, default=4, metavar="N", help="processes that ask (%(default)s); 0: without Ray"
    )
    parser.add_argument(
        "--in-flight", type=int, default=16, metavar="N", help="queries that each asks about at once (%(default)s)"
    )
    parser.add_argument(
        "--block-pairs", type=int, default=2000, metavar="N", help="size of what is done at once (%(default)s)"
    )
    parser.add_argument(
        "--patience", type=float, default=120.0, metavar="SECONDS", help="without any answer, then stop (%(default)g)"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    parser.add_argument("--trec", type=Path, metavar="FILE", help="write the results as a TREC run file as well")


def run_command(asked: argparse.Namespace) -> Report:
    """Do what the options say.

    Args:
        asked: The parsed options.

    Returns:
        What was done.
    """
    options = {
        name: value for name, value in vars(asked).items() if name not in {"command", "base_url", "quiet", "trec"}
    }
    report = rerank(**options, base_urls=asked.base_url, progress=not asked.quiet)
    if asked.trec:
        write_trec(asked.out, asked.trec)
    return report
