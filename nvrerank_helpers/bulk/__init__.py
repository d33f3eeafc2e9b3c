"""Reranking of whole collections on Ray: `rerank`, and `write_trec` for those who evaluate with trec_eval."""

from nvrerank_helpers.bulk.errors import BadRun, JobStopped, OtherJob
from nvrerank_helpers.bulk.reranking import Report, rerank
from nvrerank_helpers.bulk.results import write_trec
from nvrerank_helpers.bulk.worker import Done

__all__ = ["BadRun", "Done", "JobStopped", "OtherJob", "Report", "rerank", "write_trec"]
