"""Open the course in JupyterLab; where no browser can open, serve it and print the address.

Options are handed on to JupyterLab: `python tools/lab.py --port 9000`.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from jupyterlab.labapp import main  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = "notebooks/00_start_here.ipynb"


def has_browser(platform: str, env: Mapping[str, str]) -> bool:
    """Tell whether a browser with a window can open.

    Args:
        platform: A value of `sys.platform`.
        env: Environment variables.

    Returns:
        False on Linux without a display, where at most a text browser would come up in the terminal.
    """
    if platform == "linux" and not any(env.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def options(*, browser: bool, root: bool) -> list[str]:
    """Return JupyterLab's options: which page, what it may do, and no question about news from elsewhere.

    Args:
        browser: Whether a browser can open.
        root: Whether this is the administrator, as in most containers.

    Returns:
        Command-line options.
    """
    chosen = [
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    return chosen + ["--no-browser"] * (not browser) + ["--allow-root"] * root


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    main([*options(browser=has_browser(sys.platform, os.environ), root=is_root), *sys.argv[1:]])
