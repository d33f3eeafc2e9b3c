"""Each structure rule finds what it is there to find, and accepts what is allowed."""

from pathlib import Path

import pytest
import structure_rules as rules
from nbformat import v4

WORDS = "word " * 40
TITLE = "# T\n\n" + "\n".join(f"- **{label}:** x" for label in rules.HEADER)
END = """## Key points

- One.
- Two.

## Check yourself

1. Why? <details>a?</details>
2. How? <details>b</details>
3. When? <details>c</details>"""
LINKS = "---\n\n[All notebooks](../README.md)"


def notebook(*cells):
    """A notebook of cells given as text: Markdown begins with `md:`."""
    made = []
    for text in cells:
        if text.startswith("md:"):
            made.append(v4.new_markdown_cell(text.removeprefix("md:")))
        else:
            made.append(v4.new_code_cell(text))
    return v4.new_notebook(cells=made)


def problems(rule, *cells):
    return "\n".join(rule(notebook(*cells), Path(__file__).parent))


def test_a_notebook_that_keeps_all_rules_has_no_problems():
    body = [text for n in range(6) for text in (f"md:{WORDS}", f"a{n} = 1\nfor i in []:\n    i")]
    good = notebook(f"md:{TITLE}", "import json", *body, f"md:{END}", "md:" + LINKS.replace("../README.md", "#t"))
    good.cells[1].outputs = [v4.new_output("stream", text="json 2.0.9")]
    assert {rule.__name__: list(rule(good, Path())) for rule in rules.RULES} == {
        rule.__name__: [] for rule in rules.RULES
    }


@pytest.mark.parametrize(
    ("rule", "cells", "problem"),
    [
        (rules.has_one_title_and_skips_no_level, ["md:# A", "md:# B"], "exactly one H1"),
        (rules.has_one_title_and_skips_no_level, ["md:# A\n\n### C"], "'C' skips from level 1 to 3"),
        (rules.opens_with_the_header, ["md:# A"], "no 'API key'"),
        (rules.has_15_to_30_cells, ["1"], "1 cells"),
        (rules.explains_at_least_as_much_as_it_runs, ["1", "2", "md:x"], "2 code cells, 1 Markdown"),
        (rules.explains_at_least_as_much_as_it_runs, ["1", "2", "3"], "three code cells in a row from cell 1"),
        (rules.keeps_code_cells_short, ["1\n" * 5], "median code cell has 5"),
        (rules.keeps_code_cells_short, ["1", "1", "1", "1\n" * 13], "over 12 lines"),
        (rules.keeps_code_cells_short, ["1", "1", "1\n" * 16], "code cell 3 has 16 lines"),
        (rules.keeps_prose_readable, ["md:# T", "md:too short", "md:end"], "median cell of prose has 2"),
        (rules.keeps_prose_readable, ["md:# T", "md:" + "w " * 91, "md:end"], "cell 2 has 91 words"),
        (rules.defines_little, ["def f():\n    return 1"], "2 of 2 code lines"),
        (rules.ends_with_key_points_and_questions, ["md:## Key points", "md:x"], "the last two sections are"),
        (rules.ends_with_key_points_and_questions, [f"md:{END.replace('- Two.', '')}", "md:x"], "not a list"),
        (rules.ends_with_key_points_and_questions, [f"md:{END.replace('<details>a?', '')}", "md:x"], "2 folded"),
        (
            rules.ends_with_key_points_and_questions,
            [f"md:{END.replace('Why?', 'Why.')}", "md:x"],
            "fewer than three questions",
        ),
        (rules.links_lead_somewhere, ["md:[a](gone.ipynb)"], "gone.ipynb leads nowhere"),
        (rules.links_lead_somewhere, ["md:the end"], "the last cell is not the links"),
        (rules.imports_once_and_shows_versions, ["1"], "imports nothing"),
        (rules.imports_once_and_shows_versions, ["import json"], "shows no version"),
        (rules.imports_once_and_shows_versions, ["import json", "import re"], "cell 2 imports something"),
        (rules.imports_public_names_only, ["from nvrerank_helpers.connector.keys import _find"], "private name"),
        (rules.imports_public_names_only, ["from nvrerank_helpers._keys import find"], "private name"),
        (rules.imports_public_names_only, ["client._session"], "private name _session"),
        (rules.runs_plain_python, ["%matplotlib inline"], "a magic"),
        (rules.runs_plain_python, ["!ls"], "a shell line"),
        (rules.runs_plain_python, ["chart;"], "semicolon"),
        (rules.runs_plain_python, ["chart;  # hidden"], "semicolon"),
        (rules.binds_each_name_in_one_cell, ["x = 1", "x = 2"], "x is bound in cells [1, 2]"),
        (rules.binds_each_name_in_one_cell, ["x, y = 1, 2", "with a as x:\n    1"], "x is bound"),
        (rules.binds_each_name_in_one_cell, ["x = 1", "for x in []:\n    1"], "x is bound"),
        (rules.binds_each_name_in_one_cell, ["import x.y", "x = 1"], "x is bound"),
        (rules.stays_true_and_calm, ["md:as of now"], "'as of' dates the text"),
        (rules.stays_true_and_calm, ["md:since May 2025"], "'2025' dates the text"),
        (rules.stays_true_and_calm, ["md:a powerful model"], "'powerful' is hype"),
    ],
)
def test_a_rule_finds(rule, cells, problem):
    assert problem in problems(rule, *cells)


@pytest.mark.parametrize(
    ("rule", "cells"),
    [
        (rules.has_one_title_and_skips_no_level, ["md:# A", "md:```python\n# not a heading\n```"]),
        (rules.keeps_prose_readable, [f"md:{TITLE}", f"md:{WORDS}", "md:## H\n\n- " + "w " * 95, "md:end"]),
        (rules.keeps_prose_readable, [f"md:{TITLE}", f"md:{WORDS}\n<details>\n\n{'w ' * 95}\n</details>", "md:end"]),
        (rules.runs_plain_python, ["text = 'a;'\nprint(';')"]),
        (rules.binds_each_name_in_one_cell, ["for x in []:\n    1", "for x in []:\n    _ = 1", "_ = 2"]),
        (rules.binds_each_name_in_one_cell, ["[x for x in []]", "x = 1", "def f():\n    x = 2"]),
        (rules.imports_public_names_only, ["verdict._repr_html_()"]),
    ],
)
def test_a_rule_accepts(rule, cells):
    assert problems(rule, *cells) == ""
