"""The main job in the terminal: two stores, one reranker, every test question, measured."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from llama_index.core.schema import NodeWithScore

from nvrerank_helpers.connect import Service, connect
from nvrerank_helpers.connector import NVIDIARerank
from nvrerank_helpers.evaluation import MILLISECONDS, fit_judgments, measure, measure_each, run_search, show_grades
from nvrerank_helpers.pydocs import Question, load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid

CANDIDATES = 50
SHOWN = 5

NEXT = """\
Where to go next
  make lab                                    the course in JupyterLab, from notebooks/00_start_here.ipynb
  notebooks/04_hybrid_retriever.ipynb         how these figures come about, step by step
  NVIDIA_API_KEY=nvapi-… make demo            the same with NVIDIA's API catalog
  NVIDIA_BASE_URL=http://localhost:1976/v1 make demo    the same with your own NIM"""


@dataclass(frozen=True)
class Demo:
    """What the demo found out."""

    service: Service
    passages: int
    questions: int
    left_out: int
    table: pd.DataFrame
    gains: "pd.Series[float]"
    example: Question
    before: list[NodeWithScore]
    after: list[NodeWithScore]

    @property
    def ratio(self) -> float:
        """Return nDCG@10 of the reranked list divided by that of the fused list."""
        return float(self.table.at["reranked", "nDCG@10"] / self.table.at["fused", "nDCG@10"])


def run_demo() -> Demo:
    """Connect, load the corpus, build both stores, rerank every test question, measure.

    Returns:
        The figures and one example.

    Raises:
        RerankError: The service does not answer as it should.
        StandInError: The stand-in cannot start.
    """
    service = connect()
    print(f"Reranking with {service}")
    nodes = load_passages()
    hybrid = build_hybrid(nodes, CANDIDATES, show_progress=True)
    questions, left_out = fit_judgments(load_questions("test"), nodes)
    print(f"{len(nodes):,} passages in two stores, {len(questions)} test questions\n")
    reranker = NVIDIARerank(top_n=None)

    def rerank(query: str) -> list[NodeWithScore]:
        return reranker.postprocess_nodes(hybrid.retrieve(query), query_str=query)

    searches = {**{name: store.retrieve for name, store in hybrid.retrievers.items()}, "fused": hybrid.retrieve}
    runs = {name: run_search(name, search, questions) for name, search in (searches | {"reranked": rerank}).items()}
    gains = measure_each(runs["reranked"], questions) - measure_each(runs["fused"], questions)
    example = next(question for question in questions if question.id == gains.idxmax())
    return Demo(
        service=service,
        passages=len(nodes),
        questions=len(questions),
        left_out=left_out,
        table=measure(runs.values(), questions),
        gains=gains,
        example=example,
        before=hybrid.retrieve(example.text),
        after=rerank(example.text),
    )


def format_report(demo: Demo) -> str:
    """Say in plain text what the demo found out: one example, the table, where to go next."""
    lines = [
        f"The question that gained most: {demo.example.text}",
        *_list_top("Before: the fused list", demo.before, demo.example),
        *_list_top(f"After: reranked from the first {CANDIDATES}", demo.after, demo.example),
        "The number in brackets is the judged grade: 3 answers the question, 2 a part of it, 1 helps.",
        "",
        f"All {demo.questions} test questions, {demo.passages:,} passages",
        demo.table.to_string(
            formatters={MILLISECONDS: "{:.1f}".format}, float_format="{:.3f}".format, index_names=False
        ),
        "",
        f"nDCG@10 of reranked against fused: {demo.ratio:.2f} times; {(demo.gains > 0).sum()} questions better, "
        f"{(demo.gains == 0).sum()} equal, {(demo.gains < 0).sum()} worse.",
    ]
    if demo.left_out:
        lines.append(f"Judged passages that the documentation of this Python does not have: {demo.left_out}.")
    return "\n".join([*lines, "", NEXT])


def _list_top(title: str, found: list[NodeWithScore], question: Question) -> list[str]:
    rows = [
        f"  {rank}. [{row.grade or '-'}] {row.passage:<44.44} {row.begins}"
        for rank, row in show_grades(found, question, SHOWN).iterrows()
    ]
    return [title, *rows, ""]


def print_demo(json_file: Path | None = None) -> None:
    """Run the demo, print its report, and write the figures where a file is named.

    Args:
        json_file: Where to write the figures as JSON.

    Raises:
        RerankError: The service does not answer as it should.
        OSError: The file cannot be written.
    """
    if json_file and not json_file.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {json_file.parent} to write {json_file.name} to: make it first.")
    demo = run_demo()
    if json_file:
        systems = demo.table.reset_index().to_dict(orient="records")
        figures = {"service": demo.service.service, "questions": demo.questions, "passages": demo.passages}
        json_file.write_text(json.dumps(figures | {"systems": systems}, indent=2) + "\n", encoding="utf-8")
    print(format_report(demo))
