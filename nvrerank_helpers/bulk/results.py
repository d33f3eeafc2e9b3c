"""The results of a bulk job as a run file."""

from pathlib import Path

from nvrerank_helpers.bulk.job_folder import Folder
from nvrerank_helpers.bulk.parquet import read_columns
from nvrerank_helpers.bulk.trec import TAG, run_line
from nvrerank_helpers.bulk.worker import RANKED


def write_trec(out: str | Path, file: str | Path, tag: str = TAG) -> None:
    """Write the results of a job as `qid Q0 docno rank score tag` lines, for trec_eval and its like.

    trec_eval goes by the score, and by the passage id where scores are equal: ties may come in another order there.

    Args:
        out: The job's folder.
        file: The run file to write.
        tag: Name of the system.

    Raises:
        BadRun: An id has blanks.

    Example:
        >>> write_trec("out", "reranked.run")  # doctest: +SKIP
    """
    blocks = sorted(Folder(Path(out)).ranked.glob("block-*.parquet"))
    with Path(file).open("w", encoding="utf-8") as stream:
        for block in blocks:
            rows = read_columns(block, tuple(RANKED))
            stream.writelines(f"{run_line(qid, docno, rank, logit, tag)}\n" for qid, docno, rank, logit in rows)
