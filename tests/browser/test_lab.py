"""A reader opens a notebook and runs all of it by the menu."""

import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

LAB, NOTEBOOK_7 = "lab/tree", "notebooks"
MILLISECONDS = 300_000


def choose(page, menu, entry):
    """Choose an entry of the menu bar."""
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=entry, exact=True).click()


def open_notebook(page, address):
    """Open a notebook and wait until its kernel is there and has nothing to do."""
    with page.expect_websocket(lambda socket: "/api/kernels/" in socket.url, timeout=60_000):
        page.goto(address)
    expect(page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']:visible")).to_be_visible(timeout=60_000)


def saved(page, path):
    """Save the notebook as a reader would, and return it as it is on the disk."""
    with page.expect_response(lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url):
        page.keyboard.press("Control+s")
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize(
    ("front_end", "name"),
    [(LAB, "00_start_here"), (LAB, "04_hybrid_retriever"), (NOTEBOOK_7, "00_start_here")],
    ids=["lab-00", "lab-04", "notebook7-00"],
)
def test_run_all_cells_reaches_the_last_one_without_an_error(page, lab, request, front_end, name):
    # Under its own name, the notebook has its own kernel, which counts from 1.
    notebooks = lab.folder / "notebooks"
    path = Path(shutil.copy(notebooks / f"{name}.ipynb", notebooks / f"{request.node.callspec.id}.ipynb"))
    count = sum(cell.cell_type == "code" for cell in nbformat.read(path, as_version=4).cells)
    open_notebook(page, lab.address(front_end, path.stem))
    choose(page, "Edit", "Clear Outputs of All Cells")
    choose(page, "Run", "Run All Cells")
    expect(page.locator(".jp-InputPrompt", has_text=f"[{count}]:")).to_be_visible(timeout=MILLISECONDS)

    code = [cell for cell in saved(page, path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, count + 1))
    errors = [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert errors == []


def test_figures_are_shown_before_anything_runs(page, lab):
    open_notebook(page, lab.address(LAB, "00_start_here"))
    figure = page.locator(".jp-RenderedSVG img")
    figure.scroll_into_view_if_needed()
    expect(figure).to_be_visible()
