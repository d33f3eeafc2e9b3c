"""What `setup_env` says when a step fails: what is missing and how to mend it."""

from __future__ import annotations

import re

# What went wrong, told from the output of pip, uv or venv. The first match wins: pip ends a failed connection
# with "could not find a version", so the connection stands before the version. True where another tool would
# fail as well.
FAILURES = (
    (
        r"no space left|disk quota|os error (28|122)\b",
        True,
        "The disk is full. The course needs 1.5 GB here, what notebooks 08 and later need 1.2 GB more, and the\n"
        "tests of the extras 10 GB in build/envs; the download cache takes as much again.\n"
        "Free some space and run the same command again.",
    ),
    (
        r"do not match the hashes|hash mismatch",
        True,
        "A package differs from the one in locks/course.lock, so it was not installed.\n"
        "Empty the caches (.venv/bin/uv cache clean; .venv/bin/python -m pip cache purge) and run the same "
        "command again. If it stays so, the package index or a proxy changes packages: ask who runs it.",
    ),
    (
        r"certificate|ssl error|sslerror|unknownissuer",
        False,
        "The package index could not be trusted: its certificate is not known here.\n"
        "If your network uses its own certificates, set SSL_CERT_FILE and PIP_CERT to their file "
        "(ask who runs the network) and run the same command again.",
    ),
    (
        r"a new connection|connection (refused|reset|aborted)|unreachable|timed? ?out|resolve|resolution"
        r"|getaddrinfo|nodename nor servname|name or service|dns error|tcp connect|error sending request"
        r"|proxyerror|tunnel|failed to fetch|http error|\b(401|403|407|50[0234]) \w+",
        False,
        "The package index could not be reached, or refused to answer.\n"
        "Check the connection. Behind a proxy, set HTTPS_PROXY; for a package index of your own, set "
        "PIP_INDEX_URL. Then run the same command again.",
    ),
    (
        r"permission denied|access is denied|read-only file system|os error (5|13|30)\b",
        False,
        "A file could not be written: no permission, or a program still uses it.\n"
        "Close programs that run from .venv, make the project folder yours to write, and run the same command "
        "again.",
    ),
    (
        r"no matching distribution|could not find a version|no wheels|not found in the|no solution found",
        False,
        "The package index has no build of a package for this machine.\n"
        "Supported are Linux (glibc) and Windows, 64-bit, and macOS 14 or newer. If yours is one of them, the "
        "index lacks a version that locks/course.lock names: ask who runs it.",
    ),
)


class SetupError(Exception):
    """A step failed; the text says what is missing and how to mend it.

    Args:
        text: One to three lines.
        final: Whether another tool would fail as well.
    """

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


def explain(output: str) -> SetupError:
    """Say what went wrong and how to mend it, with the telling words of a failed program.

    Args:
        output: Everything that the program wrote to stderr.

    Returns:
        The error to raise; its text ends in the last lines of the output where the failure is of no known kind.
    """
    # Addresses may carry a user name and a password.
    clean = re.sub(r"//[^/@\s]+@", "//", output.strip())
    for pattern, final, text in FAILURES:
        telling = re.search(f".{{0,40}}({pattern}).{{0,60}}", clean, re.IGNORECASE)
        if telling:
            return SetupError(f"{text}\n(It was told: ... {telling.group().strip()} ...)", final=final)
    tail = "\n".join(clean.splitlines()[-15:])
    return SetupError(f"It failed for a reason that this tool does not know:\n{tail}")


def python_hint(platform: str) -> str:
    """Say how to get a supported Python on a platform (a value of `sys.platform`)."""
    if platform == "darwin":
        return "brew install python@3.13, or the installer from python.org/downloads"
    if platform == "win32":
        return "winget install Python.Python.3.13, or the installer from python.org/downloads"
    return "with your package manager; on Debian and Ubuntu python3.11-venv, python3.12-venv or python3.13-venv"
