"""What Sphinx adds to the course's files: a table of contents, descriptions of figures, formulas without a script."""

from pathlib import Path
from xml.etree import ElementTree as ET

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from tools.notebook_tool.catalogue import Catalogue
from tools.notebook_tool.source import Course

logger = logging.getLogger(__name__)

MORE = ["notebooks/TEACHING", "deploy/README", "nvrerank_helpers/*/README", "docs/api"]
TITLE = "{http://www.w3.org/2000/svg}title"


def make_contents(catalogue: Catalogue) -> str:
    """Return the site's table of contents: two hidden `toctree` directives, which the theme shows beside every page."""
    lessons = [f"{entry.number}  {entry.title} <notebooks/{entry.file}>" for entry in catalogue.entries]
    return _toctree("The course", ["notebooks/README", *lessons]) + _toctree("More", MORE)


def _toctree(caption: str, lines: list[str]) -> str:
    return "\n\n" + "\n".join(["```{toctree}", ":hidden:", ":glob:", f":caption: {caption}", "", *lines, "```"])


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the table of contents to the start page, which has none in the repository (event `source-read`)."""
    if page == app.config.root_doc:
        source[0] += make_contents(Course(Path(app.srcdir)).catalogue)


def describe_figures(app: Sphinx, page: nodes.document) -> None:
    """Give each figure the SVG's title as its description (event `doctree-read`).

    Sphinx puts an SVG into the page as a picture, and a screen reader doesn't read what is inside a picture.
    """
    for image in page.findall(nodes.image):
        path = Path(app.srcdir, image["uri"])
        if path.suffix == ".svg" and not image.get("alt"):
            image["alt"] = ET.parse(path).findtext(TITLE)  # noqa: S314 - our own figure
        if not image.get("alt"):
            logger.warning("a figure does not say what it shows: %s", image["uri"], location=image)


def write_math(writer: HTML5Translator, formula: nodes.Element) -> None:
    """Write a formula as MathML, which browsers show without a script; MathJax would be fetched from another host."""
    try:
        writer.body.append(tex2mathml(formula.astext(), as_block=isinstance(formula, nodes.math_block)))
    except MathError as error:
        logger.warning("a formula that cannot be shown: %s", error, location=formula)
    raise nodes.SkipNode
