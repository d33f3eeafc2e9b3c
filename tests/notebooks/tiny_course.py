"""The text of a course of one tiny notebook."""

from pathlib import Path

from tools.notebook_tool.source import Course

CATALOGUE = """
[keys]
"not needed" = "not needed."

[[notebook]]
file = "00_tiny"
title = "A tiny lesson"
level = "beginner"
minutes = 1
needs = []
key = "not needed"
verbs = ["add", "subtract"]
data = "two numbers"
license = "none"
"""

SOURCE = """# %% [markdown]
# # A tiny lesson

# %%
import os
import sys
import time
from pathlib import Path

from nvrerank_helpers.lessons import check

print("NVIDIA_API_KEY" in os.environ, Path.cwd() / "data.csv")

# %% tags=["timing"]
time.perf_counter_ns()

# %%
print("a warning", file=sys.stderr)
print("after it")
object()

# %%
two = 2
# <starter> total = ...
# <solution>
# Both are whole numbers.
total = two + two
# </solution>

# %% tags=["check"]
check(total, 4, right="two and two.", wrong="count again.")
"""


def write_course(root: Path) -> Course:
    (root / "notebooks" / "source").mkdir(parents=True)
    for folder in (root, root / "notebooks"):
        (folder / "README.md").write_text("# Tiny\n<!-- course:begin -->\n<!-- course:end -->\n", encoding="utf-8")
    (root / "notebooks" / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    (root / "notebooks" / "source" / "00_tiny.py").write_text(SOURCE, encoding="utf-8")
    return Course(root)
