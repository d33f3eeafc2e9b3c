"""Run the demo and put its picture and its report into README.md: `python -m tools.notebook_tool.result`."""

from pathlib import Path

from nvrerank_helpers.evaluation import draw_bars
from nvrerank_helpers.lessons import format_report, run_demo
from tools.notebook_tool.catalogue import fill_readme

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "notebooks" / "images" / "result.svg"


def main() -> None:
    """Write the picture and the part of the README that shows what `make demo` prints."""
    demo = run_demo()
    figure = draw_bars(demo.table, "nDCG@10")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(figure.svg, encoding="utf-8")
    printed, _, _ = format_report(demo).partition("\n\nWhere to go next")
    place = PICTURE.relative_to(ROOT).as_posix()
    text = f"![{figure.description}]({place})\n\n```text\n{printed}\n```"
    readme = ROOT / "README.md"
    readme.write_text(fill_readme(readme.read_text(encoding="utf-8"), "result", text), encoding="utf-8")


if __name__ == "__main__":
    main()
