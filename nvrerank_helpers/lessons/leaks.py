"""A small project that leaked a key, for a lesson."""

import json
import os
import subprocess
from pathlib import Path

# Nothing of the person's own settings, and the same names of commits everywhere.
PERSON = {"NAME": "A learner", "EMAIL": "learner@example.org", "DATE": "2000-01-01T00:00:00Z"}
ALONE = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in PERSON.items()}
ALONE |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_DEFAULT_HASH": "sha1"}


def make_leaky_project(folder: str | Path) -> Path:
    """Write a project with two commits that leaked a key, also in the output of a notebook. It needs git.

    Args:
        folder: An empty folder.

    Returns:
        The folder. The key in it is made up.

    Raises:
        FileNotFoundError: git is not installed.
    """
    root, key = Path(folder), "nvapi-" + 4 * "a-made-up-lesson"
    root.mkdir(parents=True, exist_ok=True)
    run_git(root, "init", "--quiet")
    settings, notebook = root / "settings.py", root / "analysis.ipynb"
    settings.write_text(f'MODEL = "the model"\nKEY = "{key}"\n', encoding="utf-8", newline="\n")
    _commit(root, "First version")
    settings.write_text('import os\n\nKEY = os.environ["NVIDIA_API_KEY"]\n', encoding="utf-8", newline="\n")
    output = {"output_type": "stream", "name": "stdout", "text": [f"asking with {key}"]}
    cell = {"cell_type": "code", "source": ["print(f'asking with {KEY}')"], "outputs": [output]}
    notebook.write_text(json.dumps({"cells": [cell]}, indent=1), encoding="utf-8", newline="\n")
    _commit(root, "The key comes from the environment now")
    return root


def run_git(folder: Path, *arguments: str) -> str:
    """Run git in a folder with none of the person's settings, and return what it prints.

    Raises:
        FileNotFoundError: git is not installed.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=False, env=others | ALONE, capture_output=True, encoding="utf-8").stdout  # noqa: S603


def _commit(root: Path, message: str) -> None:
    run_git(root, "add", "--all")
    run_git(root, "commit", "--quiet", f"--message={message}")
