"""Run a notebook from top to bottom and keep those parts of its outputs that are the same on every machine."""

# nbformat has no type hints.
# mypy: allow-untyped-calls

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

from .catalogue import CourseError
from .source import Course

CELL_TIMEOUT_S = 300
WIDGET = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")

# Kept out of a build, so that the outputs are those of the stand-in, whoever builds.
PRIVATE_VARIABLES = ("NVIDIA_", "NVRERANK_", "NGC_", "OPENAI_")


def execute(course: Course, notebook: NotebookNode) -> list[str]:
    """Run all cells in place, in the notebooks' folder, and clean their outputs.

    Returns:
        One note for each cell that wrote to stderr, which is not kept.

    Raises:
        CourseError: A cell failed or took longer than 300 s.
    """
    metadata = dict(notebook.metadata)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT_S,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    )
    with tempfile.TemporaryDirectory() as ipython_dir:
        try:
            client.execute(cwd=str(course.folder), env=_environment(ipython_dir))
        except (CellExecutionError, CellTimeoutError) as error:
            raise CourseError(f"{metadata['nvrerank']['source']}: {ANSI.sub('', str(error))}") from error
    notebook.metadata = NotebookNode(metadata)
    return list(_clean(course, notebook))


def _environment(ipython_dir: str) -> dict[str, str]:
    """Return the environment of the kernel: the caller's, without keys and personal settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_VARIABLES)}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    fixed |= {"PYTHON_DOTENV_DISABLED": "1"}  # a person's own .env above the notebooks may contain a key
    fixed |= {"NVRERANK_KEPT_VECTORS": "0"}  # times are those of texts that the stand-in has not seen
    return kept | fixed | {"COLUMNS": "100", "TQDM_DISABLE": "1", "IPYTHONDIR": ipython_dir}


def _clean(course: Course, notebook: NotebookNode) -> Iterator[str]:
    """Drop stderr and widgets, join stdout, take out machine paths; yield a note for each stderr."""
    places = _machine_folders(course)
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        outputs: list[NotebookNode] = []
        for output in cell.outputs:
            if WIDGET in output.get("data", {}):  # a progress bar of the run, which is over
                continue
            if output.get("name") == "stderr":
                yield f"cell {number} wrote to stderr, not kept: {output.text.strip()[:200]}"
            elif outputs and output.output_type == outputs[-1].output_type == "stream":
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        for output in outputs:
            _scrub(output, places)
        cell.outputs = outputs


def _machine_folders(course: Course) -> dict[re.Pattern[str], str]:
    """Return the folders of this machine as patterns, the longest first, each with its replacement."""
    folders = {
        str(course.root.resolve()): ".",
        str(Path.home()): "~",
        str(Path(tempfile.gettempdir()).resolve()): "<temporary folder>",
    }
    ordered = sorted(folders, key=len, reverse=True)
    return {re.compile(rf"(?<![\w./~-]){re.escape(path)}(?=[/\\])"): folders[path] for path in ordered}


def _scrub(output: NotebookNode, places: dict[re.Pattern[str], str]) -> None:
    """Replace in an output's text what is true of one machine only."""
    holder, names = (output, ["text"]) if output.output_type == "stream" else (output.data, list(output.data))
    for name in names:
        if isinstance(holder[name], str) and not name.startswith("image/"):
            for pattern, replacement in places.items():
                holder[name] = pattern.sub(replacement, holder[name])
            holder[name] = ADDRESS.sub("", holder[name])
