"""What the set-up says when a step fails: what is missing, and what to do."""

from __future__ import annotations

import re

# The first match counts: pip ends a failed connection with "no matching distribution". True: pip would fail as uv did.
FAILURES = (
    (
        r"no space left|disk quota|os error (28|122)\b",
        True,
        "The disk is full. The course needs 1.5 GB here, notebooks 08 and later need 1.2 GB more, and the download\n"
        "cache takes as much again. Free some space and run the same command again.",
    ),
    (
        r"do not match the hashes|hash mismatch",
        True,
        "A package differs from the one in the lock, so it was not installed.\n"
        "Empty the caches (.venv/bin/uv cache clean; .venv/bin/python -m pip cache purge) and run the same command\n"
        "again. If that doesn't help, the package index or a proxy changes packages: ask whoever runs it.",
    ),
    (
        r"connection|unreachable|timed? ?out|resol(ve|ution)|getaddrinfo|nodename nor servname|name or service"
        r"|dns error|tcp connect|error sending request|proxyerror|tunnel|failed to fetch|http error"
        r"|\b(401|403|407|50[0234]) \w+|certificate|ssl ?error|unknownissuer"
        r"|no matching distribution|could not find a version|no wheels|not found in the|no solution found",
        False,
        "The package index could not be reached, or does not have a package that the lock names.\n"
        "Check the connection. Behind a proxy, set HTTPS_PROXY; for your own package index, set PIP_INDEX_URL; for\n"
        "your network's certificates, set SSL_CERT_FILE and PIP_CERT to their file. Then run the same command again.",
    ),
)


class SetupError(Exception):
    """A step failed; the text says what is missing and what to do.

    Args:
        text: A few lines.
        final: Whether pip would fail where uv did.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


def explain(output: str) -> SetupError:
    """Turn what pip, uv or venv wrote to stderr into an error that says what to do."""
    clean = re.sub(r"//[^/@\s]+@", "//", output.strip())  # an address may carry a user name and a password
    for pattern, final, text in FAILURES:
        match = re.search(f".{{0,40}}({pattern}).{{0,60}}", clean, re.IGNORECASE)
        if match:
            return SetupError(f"{text}\n(The message was: ... {match.group().strip()} ...)", final=final)
    tail = "\n".join(clean.splitlines()[-15:])
    return SetupError(f"It failed for a reason that this tool does not know:\n{tail}")
