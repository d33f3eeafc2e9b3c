"""The pages of a PDF: the words of their text layer, and what they look like."""

import base64
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from nvrerank_helpers.extras import extra

if TYPE_CHECKING:
    from PIL.Image import Image

DOTS_PER_INCH = 108  # print of 8 points can be read, that of 5 hardly; a page of A4 has 893 x 1263 pixels then
POINTS_PER_INCH = 72
COLOURS = 48  # of a page as PNG: text and charts have few, and the file is a third of one in full colour

SeenAs = Literal["text", "image", "both"]


@dataclass(frozen=True)
class Page:
    """One page of a PDF.

    Attributes:
        number: From 1, as a reader of the PDF counts.
        text: The words of the text layer; empty for a scan.
        pictures: How many pictures lie on it, such as photographs, scans and pasted charts. Lines and shapes that
            are drawn by the PDF itself are not counted.
        png: The whole page as a picture.

    Example:
        >>> Page(3, "two roads", 0, b"").node("text").get_content()
        'two roads'
    """

    number: int
    text: str
    pictures: int
    png: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Name of the page, as judgments have it."""
        return f"page {self.number}"

    def node(self, seen_as: SeenAs) -> TextNode:
        """Return what a reranker gets to see.

        Args:
            seen_as: `text` for the text layer alone, `image` for the picture alone, `both` for both.

        Returns:
            A `TextNode`, or an `ImageNode` that holds the picture as base64.

        Raises:
            ValueError: `seen_as` is none of the three.
        """
        if seen_as not in get_args(SeenAs):
            raise ValueError(f"seen_as must be one of {', '.join(get_args(SeenAs))}, not {seen_as!r}.")
        text = "" if seen_as == "image" else self.text
        facts: dict[str, Any] = {"metadata": {"page": self.number}}
        facts |= {f"excluded_{reader}_metadata_keys": ["page"] for reader in ("embed", "llm")}
        if seen_as == "text":
            return TextNode(id_=self.id, text=text, **facts)
        picture = base64.b64encode(self.png).decode("ascii")
        return ImageNode(id_=self.id, text=text, image=picture, image_mimetype="image/png", **facts)


def read_pages(pdf: bytes | str | Path, dots_per_inch: int = DOTS_PER_INCH) -> list[Page]:
    """Read all pages of a PDF with PDFium, the engine of Chromium.

    Args:
        pdf: A file, or its bytes.
        dots_per_inch: Of the pictures. More shows smaller print and sends more.

    Returns:
        The pages in order. The same file and the same pypdfium2 give the same pictures.

    Raises:
        ExtraNotInstalled: The extra `pages` is missing.
        FileNotFoundError: There is no such file.
        ValueError: It is no PDF, is damaged or wants a password, or `dots_per_inch` is not positive.
    """
    if dots_per_inch <= 0:
        raise ValueError(f"dots_per_inch must be above 0, not {dots_per_inch}: 144 is a good number for text.")
    scale = dots_per_inch / POINTS_PER_INCH
    return [
        Page(number, _read_text(page), _find_pictures(page), to_png(_render_page(page, scale), COLOURS))
        for number, page in enumerate(_read_each(pdf), 1)
    ]


def render(pdf: bytes, scale: float) -> "Image":
    """Draw the first page of a PDF."""
    return next(_render_page(page, scale) for page in _read_each(pdf))


def to_png(image: "Image", colours: int) -> bytes:
    """Return a picture as a small PNG file."""
    from PIL import Image

    file = BytesIO()
    few = image.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def make_page_nodes(pages: Iterable[Page], seen_as: SeenAs) -> list[NodeWithScore]:
    """Return pages as a reranker takes them; of a page without text, `text` would show nothing, so it is left out.

    Args:
        pages: The pages.
        seen_as: What is shown of them, see `Page.node`.

    Returns:
        One node a page, without scores.

    Example:
        >>> [found.node_id for found in make_page_nodes([Page(1, "two roads", 0, b""), Page(2, "", 1, b"")], "text")]
        ['page 1']
    """
    return [NodeWithScore(node=page.node(seen_as)) for page in pages if page.text or seen_as != "text"]


def _read_each(pdf: bytes | str | Path) -> Iterator[Any]:
    with extra("pages"):
        import pypdfium2
    if not isinstance(pdf, bytes):
        pdf = Path(pdf).read_bytes()
    try:
        document = pypdfium2.PdfDocument(pdf)
    except pypdfium2.PdfiumError as error:
        raise ValueError(f"This cannot be read as a PDF ({error}): open it in a viewer, without a password.") from error
    with closing(document):
        for page in document:
            with closing(page):
                yield page


def _render_page(page: Any, scale: float) -> "Image":
    with closing(page.render(scale=scale)) as bitmap:
        image: Image = bitmap.to_pil().convert("RGB")
        return image.copy()


def _read_text(page: Any) -> str:
    with closing(page.get_textpage()) as layer:
        lines: str = layer.get_text_bounded()
    return "\n".join(line.strip() for line in lines.splitlines()).strip()


def _find_pictures(page: Any) -> int:
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    return sum(1 for _ in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE]))
