"""Pages shown in a notebook, and the figure of what each way of reading them is worth."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO

import altair as alt
import pandas as pd
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.evaluation import BASE, DOWN, SAME, UP, Figure, apply_style
from nvrerank_helpers.lessons.page_images.pdf import Page, to_png
from nvrerank_helpers.pydocs import Question

HEADER = alt.Header(labelAngle=0, labelAlign="left", labelFontSize=13)
COLOURS = 16  # of a small page; a notebook should stay small too


class Gallery:
    """Pages side by side, each with a caption.

    Args:
        pages: The pages.
        captions: What is written under each; its number if None.
        width: Pixels of each page.

    Raises:
        ValueError: There are not as many captions as pages.
    """

    def __init__(self, pages: Sequence[Page], captions: Sequence[str] | None = None, width: int = 200) -> None:
        self.pages = list(pages)
        self.captions = [page.id for page in pages] if captions is None else list(captions)
        if len(self.captions) != len(self.pages):
            raise ValueError(f"There are {len(self.pages)} pages and {len(self.captions)} captions: give one each.")
        self.width = width

    def _repr_html_(self) -> str:
        shown = [self._figure(page, caption) for page, caption in zip(self.pages, self.captions, strict=True)]
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(shown)}</div>'

    def __repr__(self) -> str:
        return f"Gallery: {'; '.join(self.captions)}"

    def _figure(self, page: Page, caption: str) -> str:
        source = base64.b64encode(make_thumbnail(page.png, self.width)).decode("ascii")
        picture = (
            f'<img alt="{page.id}, small" width="{self.width}" style="border:1px solid #999" '
            f'src="data:image/png;base64,{source}">'
        )
        said = f'<figcaption style="max-width:{self.width}px;font-size:12px">{escape(caption)}</figcaption>'
        return f'<figure style="margin:0">{picture}{said}</figure>'


def list_winners(found: Sequence[NodeWithScore], pages: Sequence[Page], question: Question) -> Gallery:
    """Show the pages that a reranker put first.

    Args:
        found: Nodes of pages, best first, as many as are to be seen.
        pages: All pages of the PDF.
        question: What was asked.

    Returns:
        The pages with rank, logit, and grade by the judgments (0 where a page was not judged relevant).
    """
    seen = {page.id: page for page in pages}
    captions = [
        f"{rank}. {item.node_id}, logit {item.score:.1f}, grade {question.relevant.get(item.node_id, 0)}"
        for rank, item in enumerate(found, 1)
    ]
    return Gallery([seen[item.node_id] for item in found], captions)


def make_thumbnail(png: bytes, width: int) -> bytes:
    """Return a small copy of a picture as PNG."""
    from PIL import Image

    with Image.open(BytesIO(png)) as image:
        small = image.convert("RGB").resize(
            (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
        )
    return to_png(small, COLOURS)


def draw_kinds(table: pd.DataFrame, title: str = "nDCG@10") -> Figure:
    """Draw what each system reaches for each kind of question.

    Args:
        table: As `questions.by_kind` makes it, with at most four systems.
        title: What the numbers are.

    Returns:
        A group of bars a kind, a bar a system with its name and number.
    """
    systems = [column for column in table.columns if column != "questions"]
    rows = table[systems].rename_axis("kind").reset_index().melt("kind", var_name="system", value_name="value")
    counts = [f"{kind} ({count})" for kind, count in table["questions"].items()]
    rows["kind"] = rows["kind"].map(dict(zip(table.index, counts, strict=True)))
    rows["label"] = [f"{row.value:.2f}" for row in rows.itertuples()]
    base = alt.Chart(rows).encode(
        x=alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(values=[0, 0.5, 1])),
        y=alt.Y("system:N", sort=systems, title=None),
    )
    colours = alt.Scale(domain=systems, range=[SAME, BASE, DOWN, UP][-len(systems) :])
    bar = base.mark_bar(height=14).encode(color=alt.Color("system:N", scale=colours, legend=None))
    label = base.mark_text(align="left", dx=5).encode(text="label:N")
    drawn = alt.layer(bar, label).properties(width=330, height=19 * len(systems))
    panels = drawn.facet(row=alt.Row("kind:N", sort=counts, title=None, header=HEADER), spacing=12)
    said = "; ".join(
        f"{kind}: " + ", ".join(f"{system} {table.loc[kind, system]:.2f}" for system in systems) for kind in table.index
    )
    return Figure(apply_style(panels), f"{title} by where the answer is. {said}.")
