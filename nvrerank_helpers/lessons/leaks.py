"""Find API keys where others could read them: in the files that git would publish, and in its history."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvrerank_helpers.connector import redact

# Keys have 64 characters behind the prefix (the rules of public secret scanners); placeholders are far shorter.
KEY_FORM = "nvapi-[A-Za-z0-9_-]{20,}"  # as Python and git read it
AROUND = 40  # characters shown on either side of a key
# For the lesson's repository: nothing of the person's own settings, and the same names of commits everywhere.
_PERSON = {"NAME": "A learner", "EMAIL": "learner@example.org", "DATE": "2000-01-01T00:00:00Z"}
_ALONE = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _PERSON.items()}
_ALONE |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_DEFAULT_HASH": "sha1"}


@dataclass(frozen=True)
class Leak:
    """A key where it should not be.

    Attributes:
        place: The file and the line, or the commit and the file.
        text: What stands around the key; the key itself is cut out.
    """

    place: str
    text: str


def find_leaks(folder: str | Path = ".") -> list[Leak]:
    """Look for API keys in the files of a project and in every commit of its git history.

    Files that git ignores are passed over, because they stay on this machine. Where a folder is no git repository,
    every file in it is read. Keys in pictures, in archives and in messages of commits are not found.

    Args:
        folder: The project.

    Returns:
        One entry a key, those in files first. The key itself is in none of them.

    Raises:
        NotADirectoryError: There is no such folder.

    Example:
        >>> find_leaks("my-project")  # doctest: +SKIP
        [Leak(place='settings.py, line 3', text='KEY = "nvapi-…"')]
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder: name the one that holds your project.")
    return [*_in_files(root), *_in_history(root)]


def would_be_published(path: str | Path) -> bool:
    """Tell whether git would take a file into a commit: it lies in a repository that does not ignore it.

    Where git cannot be asked, the answer for a file inside a repository is yes, to be on the safe side.

    Args:
        path: The file; it need not exist.

    Example:
        >>> would_be_published(".env")  # doctest: +SKIP
        False
    """
    folder = Path(path).absolute().parent
    inside = any((above / ".git").exists() for above in (folder, *folder.parents))
    return inside and git(folder, "check-ignore", "--quiet", "--", Path(path).name) is None


def leaky_project(folder: str | Path) -> Path:
    """Write a small project that leaked a key, for a lesson: two commits, and the output of a notebook.

    Args:
        folder: An empty folder. Without git it gets the files and no history.

    Returns:
        The folder. The key in it is made up.

    Example:
        >>> project = leaky_project("lesson")  # doctest: +SKIP
    """
    root, key = Path(folder), "nvapi-" + 4 * "a-made-up-lesson"
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", **_ALONE)
    settings, notebook = root / "settings.py", root / "analysis.ipynb"
    settings.write_text(f'MODEL = "the model"\nKEY = "{key}"\n', encoding="utf-8", newline="\n")
    _commit(root, "First version")
    settings.write_text('import os\n\nKEY = os.environ["NVIDIA_API_KEY"]\n', encoding="utf-8", newline="\n")
    output = {"output_type": "stream", "name": "stdout", "text": [f"asking with {key}"]}
    cell = {"cell_type": "code", "source": ["print(f'asking with {KEY}')"], "outputs": [output]}
    notebook.write_text(json.dumps({"cells": [cell]}, indent=1), encoding="utf-8", newline="\n")
    _commit(root, "The key comes from the environment now")
    return root


def _commit(root: Path, message: str) -> None:
    git(root, "add", "--all", **_ALONE)
    git(root, "commit", "--quiet", f"--message={message}", **_ALONE)


def git(folder: Path, *arguments: str, **variables: str) -> str | None:
    """Run git in a folder and return what it printed.

    Args:
        folder: Where to run it.
        arguments: What stands behind `git`.
        variables: Of the environment; the caller's own variables for git are left out, since they may name another
            repository.

    Returns:
        Its output, or None where git is not installed or reported a failure.

    Example:
        >>> git(Path("."), "--version")  # doctest: +SKIP
        'git version 2.39.5'
    """
    command = shutil.which("git")
    if command is None:
        return None
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    ended = subprocess.run(  # noqa: S603 - git itself, no shell
        [command, "-C", str(folder), *arguments],
        capture_output=True,
        check=False,
        env=kept | variables,
        encoding="utf-8",
        errors="replace",
    )
    return ended.stdout if ended.returncode == 0 else None


def _in_files(root: Path) -> Iterator[Leak]:
    listed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is None:
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    else:
        names = sorted(set(filter(None, listed.split("\0"))))
    for name in names:
        path = root / name
        if not path.is_file():  # deleted and not yet committed, or a submodule
            continue
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                yield from (
                    Leak(f"{name}, line {number}", _around(line, found)) for found in re.finditer(KEY_FORM, line)
                )


def _in_history(root: Path) -> Iterator[Leak]:
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--relative", "--unified=0", "--format=commit %h")
    log = git(root, "-c", "core.quotePath=false", "log", "--all", "--patch", *plain, f"-G{KEY_FORM}", "--", ".")
    commit = name = ""
    for line in (log or "").splitlines():
        if line.startswith("commit "):
            commit = line
        elif line.startswith("+++ "):
            name = line.removeprefix("+++ ").removeprefix("b/")
        elif line.startswith("+"):
            yield from (
                Leak(f"{commit}, {name}", _around(line[1:], found)) for found in re.finditer(KEY_FORM, line[1:])
            )


def _around(line: str, found: re.Match[str]) -> str:
    """Return what stands around a key, without any key."""
    # Cut out of the whole line first: a window's edge may lie within another key.
    before, after = redact(line[: found.start()])[-AROUND:], redact(line[found.end() :])[:AROUND]
    return f"{before}nvapi-…{after}".strip()
