"""The options of `python -m nvrerank_helpers bulk`."""

import argparse
from functools import partial
from pathlib import Path

from nvrerank_helpers.bulk.job_folder import write_trec
from nvrerank_helpers.bulk.reranking import JobReport, rerank


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    file = partial(parser.add_argument, type=Path, metavar="FILE")
    count = partial(parser.add_argument, type=int, metavar="N")
    file("--run", required=True, help="Parquet with the columns qid, query, docno and text; or a TREC run file")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the results")
    file("--queries", help="for a run file: qid<TAB>query lines, or Parquet")
    file("--passages", help="for a run file: docno<TAB>text lines, or Parquet")
    parser.add_argument(
        "--base-url",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address of a service; repeat it to use several (default: NVIDIA_BASE_URL, else the API catalog)",
    )
    parser.add_argument(
        "--model", metavar="ID", help="default: the first that the services list, or the catalog's current one"
    )
    count("--top-n", help="passages to keep for each query (default: all)")
    parser.add_argument(
        "--truncate", choices=("END", "NONE"), default="END", help="cut passages that are too long, or let them fail"
    )
    count("--workers", default=4, help="processes that send requests (default: %(default)s); 0 works without Ray")
    count("--in-flight", default=16, help="queries that each worker asks about at once (default: %(default)s)")
    count("--block-pairs", default=2000, help="pairs of query and passage per block (default: %(default)s)")
    parser.add_argument(
        "--patience",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="stop after this long without any answer (default: %(default)g)",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    file("--trec", help="write the results as a TREC run file as well")


def run_command(options: argparse.Namespace) -> JobReport:
    """Run the job that the parsed options describe."""
    own = {"command", "base_url", "quiet", "trec"}
    settings = {name: value for name, value in vars(options).items() if name not in own}
    report = rerank(**settings, base_urls=options.base_url, progress=not options.quiet)
    if options.trec:
        write_trec(options.out, options.trec)
    return report
