"""The pictures in the handbook: charts, a scheme and pictograms, drawn with reportlab and turned into pixels."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from nvrerank_helpers.extras import extra
from nvrerank_helpers.lessons.page_images.pdf import render

if TYPE_CHECKING:
    from PIL.Image import Image

FONT, BOLD, SLANTED = "Vera", "VeraBd", "VeraIt"  # come with reportlab, so the pages look the same everywhere
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#D55E00", "#009E73", "#56B4E9"
GREY, INK = "#999999", "#222222"
SHADES = (BLUE, SKY, GREEN, "#E69F00", GREY)
PIXELS = 2  # of a picture, per point
TILT = 0.7  # degrees by which a scan lies askew
PAPER = 240  # grey value of a copy's background, of 255
SPECKLES = 400  # dark dots on a copied page


def paste(drawing: Any) -> "Image":
    """Turn a drawing into pixels, as a picture that was pasted into a document has them."""
    with extra("pages"):
        from reportlab.graphics import renderPDF
        from reportlab.pdfgen.canvas import Canvas
    file = BytesIO()
    canvas = Canvas(file, pagesize=(drawing.width, drawing.height), invariant=1)
    renderPDF.draw(drawing, canvas, 0, 0)
    canvas.save()
    return render(file.getvalue(), PIXELS)


def scan(pdf: bytes) -> "Image":
    """Turn the first page of a PDF into what a copier makes of it: grey, askew and speckled."""
    import numpy as np
    from PIL import Image

    page = render(pdf, PIXELS).convert("L").rotate(TILT, Image.Resampling.BICUBIC, fillcolor=255)
    grey = np.minimum(np.asarray(page), PAPER)
    chance = np.random.default_rng(0)
    grey[chance.integers(page.height, size=SPECKLES), chance.integers(page.width, size=SPECKLES)] = 90
    return Image.fromarray(grey)


def draw_bar_chart(title: str, labels: Sequence[str], values: Sequence[float]) -> Any:
    """Draw horizontal bars with their values behind them."""
    with extra("pages"):
        from reportlab.graphics.charts.barcharts import HorizontalBarChart
    height = 17 * len(labels)
    drawing = _add_title(title, height + 30)
    chart = HorizontalBarChart()
    chart.x, chart.y, chart.width, chart.height = 78, 4, 200, height
    chart.data = [tuple(reversed(values))]
    chart.categoryAxis.categoryNames = list(reversed(labels))
    chart.categoryAxis.labels.fontName, chart.categoryAxis.labels.fontSize = FONT, 9
    chart.categoryAxis.visibleTicks = chart.valueAxis.visible = False
    chart.valueAxis.valueMin, chart.valueAxis.valueMax = 0, max(values)
    chart.bars[0].fillColor, chart.bars[0].strokeColor = _colour(BLUE), None
    chart.barLabelFormat, chart.barLabels.fontName, chart.barLabels.fontSize = "%s", FONT, 9
    chart.barLabels.boxAnchor, chart.barLabels.dx = "w", 4
    drawing.add(chart)
    return drawing


def draw_shares(title: str, labels: Sequence[str], values: Sequence[float]) -> Any:
    """Draw a pie."""
    with extra("pages"):
        from reportlab.graphics.charts.piecharts import Pie
    drawing = _add_title(title, 220)
    pie = Pie()
    pie.x, pie.y, pie.width, pie.height = 116, 40, 110, 110
    pie.data, pie.startAngle = list(values), 90
    pie.labels = [f"{label}, {value}" for label, value in zip(labels, values, strict=True)]
    pie.slices.fontName, pie.slices.fontSize, pie.slices.strokeColor = FONT, 8, _colour("#FFFFFF")
    pie.simpleLabels, pie.sideLabels = 0, 1
    for number, shade in enumerate(SHADES[: len(values)]):
        pie.slices[number].fillColor = _colour(shade)
    drawing.add(pie)
    return drawing


def draw_form(rows: Sequence[Sequence[str]]) -> Any:
    """Draw the lines of a form, filled in by hand."""
    with extra("pages"):
        from reportlab.graphics.shapes import Drawing
    step = 38
    drawing = Drawing(332, step * len(rows))
    for number, (asked, answer) in enumerate(rows, 1):
        base = step * (len(rows) - number) + 6
        _line(drawing, 0, base - 4, 332, base - 4, GREY)
        _words(drawing, asked, 0, base + 17, size=8, colour="#666666")
        _words(drawing, answer, 20, base + 1, font=SLANTED, size=12, colour="#1B3A93")
    return drawing


def draw_pipes() -> Any:
    """Draw how the parts of the heating are connected."""
    with extra("pages"):
        from reportlab.graphics.shapes import Drawing
    drawing = Drawing(332, 288)
    for words, left, bottom, width, height in (
        ("outdoor unit", 0, 160, 96, 60),
        ("three-way valve", 128, 175, 96, 30),
        ("buffer tank", 242, 110, 84, 96),
        ("hot water tank", 128, 232, 96, 54),
        ("strainer", 10, 96, 76, 26),
        ("expansion vessel 18 litres", 0, 2, 150, 34),
        ("radiators", 242, 24, 84, 40),
    ):
        _box(drawing, words, left, bottom, width, height)
    for x, y, to_x, to_y, shade in (
        (96, 190, 128, 190, ORANGE),
        (224, 190, 242, 190, ORANGE),
        (176, 205, 176, 232, ORANGE),
        (284, 110, 284, 64, ORANGE),
        (242, 50, 196, 50, BLUE),
        (196, 50, 196, 109, BLUE),
        (196, 109, 86, 109, BLUE),
        (48, 122, 48, 160, BLUE),
        (30, 36, 30, 96, BLUE),
    ):
        _line(drawing, x, y, to_x, to_y, shade)
    _words(drawing, "hot", 102, 195, size=9, colour=ORANGE)
    _words(drawing, "cool return", 116, 114, size=9, colour=BLUE)
    _words(drawing, "safety valve 3 bar", 38, 58, size=9)
    return drawing


def draw_glance() -> Any:
    """Draw what to do and what not to do, without a word."""
    with extra("pages"):
        from reportlab.graphics.shapes import Circle, Drawing
    drawing = Drawing(332, 306)
    for row, (paint, good) in enumerate(((_snow, False), (_hedge, True), (_laundry, False))):
        bottom = 306 - 102 * (row + 1)
        _unit(drawing, 70, bottom)
        paint(drawing, 70, bottom)
        shade = BLUE if good else ORANGE
        drawing.add(Circle(276, bottom + 50, 26, strokeColor=_colour(shade), strokeWidth=5, fillColor=None))
        marks = ((262, 50, 272, 38), (272, 38, 292, 64)) if good else ((262, 64, 290, 36), (262, 36, 290, 64))
        for x, y, to_x, to_y in marks:
            _line(drawing, x, bottom + y, to_x, bottom + to_y, shade, 5)
    return drawing


PICTURES: dict[str, Callable[[], Any]] = {"pipes": draw_pipes, "glance": draw_glance}


def _unit(drawing: Any, left: float, bottom: float) -> None:
    from reportlab.graphics.shapes import Circle, Rect

    drawing.add(Rect(left, bottom, 110, 68, strokeColor=_colour(INK), fillColor=_colour("#F2F2F2"), strokeWidth=2))
    drawing.add(Circle(left + 40, bottom + 34, 26, strokeColor=_colour(INK), fillColor=None, strokeWidth=2))
    for x, y in ((0, 26), (26, 0), (18, 18), (18, -18)):
        _line(drawing, left + 40 - x, bottom + 34 - y, left + 40 + x, bottom + 34 + y, INK)


def _snow(drawing: Any, left: float, bottom: float) -> None:
    from reportlab.graphics.shapes import Circle

    for number in range(11):
        for height in (72 + number % 3 * 4, 8 + number % 2 * 10):
            flake = Circle(
                left + 11 * number, bottom + height, 8, strokeColor=_colour(GREY), fillColor=_colour("#FFFFFF")
            )
            drawing.add(flake)


def _hedge(drawing: Any, left: float, bottom: float) -> None:
    from reportlab.graphics.shapes import Circle

    for number in range(7):
        leaves = Circle(
            left - 52 + number % 2 * 12, bottom + 8 + 9 * number, 9, strokeColor=None, fillColor=_colour(GREEN)
        )
        drawing.add(leaves)
    _line(drawing, left - 34, bottom - 4, left - 2, bottom - 4, INK)


def _laundry(drawing: Any, left: float, bottom: float) -> None:
    from reportlab.graphics.shapes import Rect

    _line(drawing, left - 30, bottom + 82, left + 140, bottom + 82, INK)
    for place in (left + 6, left + 48, left + 84):
        drawing.add(Rect(place, bottom + 38, 26, 44, strokeColor=_colour(INK), fillColor=_colour(SKY)))


def _add_title(title: str, height: float) -> Any:
    from reportlab.graphics.shapes import Drawing

    drawing = Drawing(332, height)
    _words(drawing, title, 0, height - 14, font=BOLD, size=10)
    return drawing


def _box(drawing: Any, words: str, left: float, bottom: float, width: float, height: float) -> None:
    from reportlab.graphics.shapes import Rect

    drawing.add(Rect(left, bottom, width, height, strokeColor=_colour(INK), fillColor=_colour("#F2F2F2")))
    _words(drawing, words, left + width / 2, bottom + height / 2 - 3, size=9, anchor="middle")


def _words(
    drawing: Any,
    words: str,
    x: float,
    y: float,
    *,
    size: int,
    font: str = FONT,
    colour: str = INK,
    anchor: str = "start",
) -> None:
    from reportlab.graphics.shapes import String

    style = {"fontName": font, "fontSize": size, "fillColor": _colour(colour), "textAnchor": anchor}
    drawing.add(String(x, y, words, **style))


def _line(drawing: Any, x: float, y: float, to_x: float, to_y: float, shade: str, width: float = 2) -> None:
    from reportlab.graphics.shapes import Line

    drawing.add(Line(x, y, to_x, to_y, strokeColor=_colour(shade), strokeWidth=width))


def _colour(shade: str) -> Any:
    from reportlab.lib.colors import HexColor

    return HexColor(shade)
