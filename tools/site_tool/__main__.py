"""Make the course as a web site in build/site, and check it.

    python -m tools.site_tool

Sphinx shows the notebooks with their committed outputs. Nothing is run, and nothing is fetched, neither now nor by the
reader's browser. A warning is an error. In the end every page is read: the check fails if a link inside the site leads
nowhere, or if a script, style or picture is on another host.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tools.site_tool.checks import list_pages, site_problems

ROOT = Path(__file__).resolve().parents[2]


def build(root: Path, site: Path) -> int:
    """Make the site of the repository in `root` anew, and return Sphinx's status: 0 if there was no warning."""
    shutil.rmtree(site, ignore_errors=True)
    options = ["--builder", "html", "--conf-dir", str(root / "docs"), "--doctree-dir", str(site.parent / "doctrees")]
    strict = ["--fresh-env", "--fail-on-warning", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, *strict, str(root), str(site)]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        shutil.copy(site / "README.html", site / "index.html")  # what a web server shows first
    return status


def main(root: Path = ROOT) -> int:
    """Make the site and check it; return 0 if all is well."""
    site = root / "build" / "site"
    status = build(root, site)
    if status:
        return status
    found = list(site_problems(site))
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        start = (site / "index.html").relative_to(root)
        print(f"{len(list_pages(site))} pages, and every link inside leads somewhere. Open {start} in a browser.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
