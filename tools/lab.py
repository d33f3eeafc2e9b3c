"""Open the course in JupyterLab, or serve it and print the address if no browser can open.

Options go to JupyterLab: `python -m tools.lab --port 9000`.
"""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from jupyterlab.labapp import main  # type: ignore[import-untyped]
from nbformat.sign import NotebookNotary

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = "notebooks/00_start_here.ipynb"

# Without these JupyterLab asks every new reader about news, and looks for updates on the network.
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def has_browser(platform: str, env: Mapping[str, str]) -> bool:
    """Return whether a browser with a window can open; Linux without a display has at most a text browser."""
    if platform == "linux" and not any(env.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def list_options(*, browser: bool, root: bool) -> list[str]:
    """Return JupyterLab's options; `root` is whether this is the administrator, as in most containers."""
    return [f"--LabApp.default_url=/lab/tree/{FIRST}"] + ["--no-browser"] * (not browser) + ["--allow-root"] * root


def write_defaults(prefix: Path) -> None:
    """Write JupyterLab's defaults for this environment; a reader's own settings take precedence."""
    settings = prefix / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET), encoding="utf-8")


def sign(folder: Path) -> None:
    """Sign the notebooks: JupyterLab hides figures in notebooks that nobody signed."""
    notary = NotebookNotary()  # type: ignore[no-untyped-call]
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        notary.sign(notebook)  # type: ignore[no-untyped-call]
    notary.store.close()


if __name__ == "__main__":
    write_defaults(Path(sys.prefix))
    os.chdir(Path(__file__).resolve().parent.parent)
    sign(Path("notebooks"))
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    main([*list_options(browser=has_browser(sys.platform, os.environ), root=is_root), *sys.argv[1:]])
