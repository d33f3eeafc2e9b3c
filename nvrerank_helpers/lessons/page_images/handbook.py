"""Makes the handbook that the notebook on page images searches: a PDF as they come, with all their nuisances."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from nvrerank_helpers.extras import extra
from nvrerank_helpers.lessons.page_images.drawings import (
    BLUE,
    BOLD,
    FONT,
    GREY,
    INK,
    PICTURES,
    SLANTED,
    draw_bar_chart,
    draw_form,
    draw_shares,
    paste,
    scan,
)

WIDTH, HEIGHT = 420, 440  # points: a booklet, nearly square
MARGIN = 44
SIZES = {"title": 17.0, "text": 10.5, "small": 4.0}


def write_handbook(path: str | Path) -> Path:
    """Write the handbook of the Tarnholm T8, a heat pump that does not exist, as a PDF of 18 pages.

    The same reportlab and pypdfium2 write the same bytes each time.

    Args:
        path: Where to write it.

    Returns:
        The path.

    Raises:
        ExtraNotInstalled: The extra `pages` is missing.
        OSError: It cannot be written there.
    """
    path = Path(path)
    path.write_bytes(_build_document(_load_content()))
    return path


def list_titles() -> list[str]:
    """Return the titles of the handbook's pages, in order.

    Example:
        >>> list_titles()[-1]
        'Warranty'
    """
    return [page["title"] for page in _load_content()]


@cache
def _load_content() -> list[dict[str, Any]]:
    content = tomllib.loads(files(__package__).joinpath("handbook.toml").read_text(encoding="utf-8"))
    pages: list[dict[str, Any]] = content["page"]
    return pages


def _build_document(content: list[dict[str, Any]]) -> bytes:
    with extra("pages"):
        from reportlab.lib.utils import ImageReader
        from reportlab.pdfgen.canvas import Canvas
    _register_fonts()
    file = BytesIO()
    canvas = Canvas(file, pagesize=(WIDTH, HEIGHT), invariant=1)
    canvas.setTitle("Tarnholm T8: owner's handbook")
    for number, page in enumerate(content, 1):
        if page.get("scanned"):
            picture = scan(_build_document([page | {"scanned": False}]))
            canvas.drawImage(ImageReader(picture), 0, 0, WIDTH, HEIGHT)
        else:
            _draw(canvas, page, number if len(content) > 1 else None)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _draw(canvas: Any, page: Mapping[str, Any], number: int | None) -> None:
    from reportlab.platypus import Frame

    flowables = [
        _paragraph(page["title"], "title"),
        *(flowable for block in page.get("block", ()) for flowable in _flowables(block)),
    ]
    if "cover" in page:
        _cover(canvas, page["cover"])
    frame = Frame(MARGIN, MARGIN, WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN, 0, 0, 0, 0)
    frame.addFromList(flowables, canvas)
    if flowables:
        raise ValueError(f"The page {page['title']!r} is too long: move a block of it to another page.")
    if number is not None:
        canvas.setFont(FONT, 7)
        canvas.setFillColor(GREY)
        canvas.drawString(MARGIN, 24, "Tarnholm T8")
        canvas.drawRightString(WIDTH - MARGIN, 24, str(number))


def _cover(canvas: Any, words: str) -> None:
    canvas.setFillColor(BLUE)
    canvas.rect(0, 60, WIDTH, 200, stroke=0, fill=1)
    canvas.setStrokeColor("#FFFFFF")
    canvas.setLineWidth(4)
    canvas.rect(120, 105, 180, 110)
    canvas.circle(185, 160, 40)
    for height in (130, 160, 190):
        canvas.line(240, height, 285, height)
    paragraph = _paragraph(words, "text")
    paragraph.wrap(WIDTH - 2 * MARGIN, HEIGHT)
    paragraph.drawOn(canvas, MARGIN, HEIGHT - 140)


def _flowables(block: Mapping[str, Any]) -> Iterator[Any]:
    """Turn one block of the content into what reportlab puts on a page."""
    from reportlab.platypus import Spacer

    yield KINDS[block["kind"]](block)
    yield Spacer(1, 9)


def _text(block: Mapping[str, Any]) -> Any:
    return _paragraph(block["text"], "text")


def _small(block: Mapping[str, Any]) -> Any:
    return _paragraph(block["text"], "small")


def _list(block: Mapping[str, Any]) -> Any:
    return _paragraph("<br/>".join(block["items"]), "text")


def _columns(block: Mapping[str, Any]) -> Any:
    from reportlab.platypus import Table

    cells = [_paragraph(block["left"], "text"), "", _paragraph(block["right"], "text")]
    style = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ]
    return Table([cells], colWidths=[156, 20, 156], style=style)


def _table(block: Mapping[str, Any]) -> Any:
    from reportlab.platypus import Table

    style = [
        ("FONT", (0, 0), (-1, 0), BOLD, 9.5),
        ("FONT", (0, 1), (-1, -1), FONT, 9.5),
        ("LINEBELOW", (0, 0), (-1, -1), 0.5, GREY),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
    ]
    table = Table(block["rows"], style=style, hAlign="LEFT", rowHeights=26)
    return _turn_sideways(table) if block.get("sideways") else table


def _turn_sideways(flowable: Any) -> Any:
    """Turn a flowable by a quarter, as wide tables stand in print."""
    from reportlab.platypus import Flowable

    class Sideways(Flowable):  # type: ignore[misc]  # reportlab has no types
        def wrap(self, _width: float, height: float) -> tuple[float, float]:
            self.length, self.breadth = flowable.wrap(height, _width)
            return self.breadth, self.length

        def draw(self) -> None:
            self.canv.rotate(90)
            flowable.drawOn(self.canv, 0, -self.breadth)

    return Sideways()


def _picture(block: Mapping[str, Any]) -> Any:
    from reportlab.platypus import Image

    drawing = _make_drawing(block)
    file = BytesIO()
    paste(drawing).save(file, "PNG")
    file.seek(0)
    return Image(file, drawing.width, drawing.height, hAlign="LEFT")


def _make_drawing(block: Mapping[str, Any]) -> Any:
    if block["kind"] == "picture":
        return PICTURES[block["name"]]()
    if block["kind"] == "form":
        return draw_form(block["rows"])
    draw = draw_bar_chart if block["kind"] == "bars" else draw_shares
    return draw(block["title"], block["labels"], block["values"])


KINDS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "text": _text,
    "small": _small,
    "list": _list,
    "columns": _columns,
    "table": _table,
    "bars": _picture,
    "shares": _picture,
    "form": _picture,
    "picture": _picture,
}


def _paragraph(words: str, style: str) -> Any:
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    size = SIZES[style]
    font = BOLD if style == "title" else FONT
    after = 12 if style == "title" else 0
    colour = GREY if style == "small" else INK
    shape = {"fontSize": size, "leading": size * 1.45, "spaceAfter": after}
    return Paragraph(words, ParagraphStyle(style, fontName=font, textColor=colour, **shape))


def _register_fonts() -> None:
    from reportlab.pdfbase.pdfmetrics import registerFont
    from reportlab.pdfbase.ttfonts import TTFont

    for font in (FONT, BOLD, SLANTED):
        registerFont(TTFont(font, f"{font}.ttf"))
