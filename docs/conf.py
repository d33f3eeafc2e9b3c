"""How Sphinx makes the web site of the course; `python -m tools.site_tool` runs it.

The pages are the files that readers open in the repository: README.md, the notebooks with their committed outputs,
the texts beside them, and the reference in this folder. Nothing on the site is fetched from another host.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.site_tool.pages import add_contents, describe_figures, write_math  # noqa: E402

project = "NVIDIA NIM reranking with LlamaIndex"
root_doc = "README"
include_patterns = [
    "README.md",
    "notebooks/*.ipynb",
    "notebooks/*.md",
    "docs/*.md",
    "deploy/README.md",
    "nvrerank_helpers/*/README.md",
]
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# The notebooks are shown as they were committed; `make notebooks` runs them.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "code"  # docstrings write names in single backticks
autodoc_typehints = "none"  # the text has them as `Args`, with units
autodoc_member_order = "bysource"

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["book.css"]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search field is in the side bar
    "footer_content_items": [],
    "use_fullscreen_button": False,
}


def setup(app: Sphinx) -> None:
    """Let Sphinx call what the course adds."""
    app.connect("source-read", add_contents)
    app.connect("doctree-read", describe_figures)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
