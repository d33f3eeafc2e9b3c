"""How many cores there are to work with."""

import os


def available_cores() -> int:
    """Return how many cores this process may use: containers and `taskset` often give it fewer than there are.

    Returns:
        The number, at least 1.

    Example:
        >>> available_cores() >= 1
        True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
