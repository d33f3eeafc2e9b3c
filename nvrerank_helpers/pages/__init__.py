"""Pages of a PDF as passages: read by their text layer, seen as pictures, or both; and a handbook to try it on."""

from nvrerank_helpers.pages.handbook import titles, write_handbook
from nvrerank_helpers.pages.questions import by_kind, load_questions
from nvrerank_helpers.pages.reading import Page, nodes_of, read_pages
from nvrerank_helpers.pages.searching import page_search
from nvrerank_helpers.pages.showing import Gallery, kinds_figure, winners

__all__ = [
    "Gallery",
    "Page",
    "by_kind",
    "kinds_figure",
    "load_questions",
    "nodes_of",
    "page_search",
    "read_pages",
    "titles",
    "winners",
    "write_handbook",
]
