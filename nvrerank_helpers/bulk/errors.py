"""What can stop a bulk job, each with what to do about it."""


class BadRun(ValueError):
    """The input of a bulk job cannot be reranked as it is; nothing was asked of a service."""


class OtherJob(RuntimeError):
    """The output folder belongs to another job, or another process is at work in it."""


class JobStopped(RuntimeError):
    """The job stopped before its end: what is finished stays, and the same command goes on from there."""
