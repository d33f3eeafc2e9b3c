"""Pool passages for judging, and work with the judged questions: `python -m tools.notebook_tool.questions COMMAND`.

    pool NEW.jsonl FOLDER     write what to judge, one file for each question
    mark                      note how the judged parts of long texts begin
    agreement                 how far a second pass over 30 questions agrees
    fit                       the line from raw score to logit, for nim_standin/scoring/late_interaction.py

A question is judged on the union of the first 20 passages of BM25, of the vectors and of the reranked list, shown in
alphabetical order and without rank or score, so that the judgments favor none of the three.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tqdm.auto import tqdm

from nvrerank_helpers.nim_standin import Job, RelevanceModel
from nvrerank_helpers.pydocs import BEGINNING, load_passages, load_questions, strip_title
from nvrerank_helpers.retrieval import build_hybrid

QUESTIONS = Path(__file__).parents[2] / "nvrerank_helpers" / "pydocs" / "questions.jsonl"
SECOND_PASS = QUESTIONS.with_name("second_pass.jsonl")
CANDIDATES = 50  # passages of the fused list that are reranked
DEPTH = 20  # passages of each list that are judged


def pool(questions: Path, folder: Path) -> None:
    """Write one file for each question, with the passages to judge."""
    hybrid = build_hybrid(load_passages(), similarity_top_k=CANDIDATES)
    model = RelevanceModel.load()
    folder.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    for row in tqdm(rows, desc="pooling"):
        fused = hybrid.retrieve(row["text"])
        logits = model.score(Job(row["text"], [found.node.get_content() for found in fused])).logits
        reranked = [fused[position] for position in (-logits).argsort(kind="stable")]
        single = [found for store in hybrid.retrievers.values() for found in store.retrieve(row["text"])[:DEPTH]]
        pooled = {found.node_id: found.node.get_content() for found in [*single, *reranked[:DEPTH]]}
        shown = "\n\n".join(f"=== {id_}\n{text}" for id_, text in sorted(pooled.items()))
        (folder / f"{row['id']}.txt").write_text(f"QUESTION {row['text']}\n\n{shown}\n", encoding="utf-8")


def mark() -> None:
    """Note in the file of questions how the judged parts of long texts begin; only on the Python that was judged on."""
    texts = {node.node_id: node.text for node in load_passages()}
    lines = []
    for question in load_questions():
        parts = [id_ for id_ in question.relevant if "#" in id_ or f"{id_}#2" in texts]
        row = asdict(question) | {"begins": {id_: strip_title(texts[id_])[:BEGINNING] for id_ in parts}}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    QUESTIONS.write_text("".join(lines), encoding="utf-8")


def print_agreement() -> None:
    """Print how far the second, blind pass agrees with the judgments, passage by passage.

    Cohen's kappa (1960) with quadratic weights for the four grades (0 is not relevant), and without for relevant (2 or
    3) against the rest: 1 is full agreement, 0 is what chance would give.
    """
    first = {question.id: question.relevant for question in load_questions()}
    rows = [json.loads(line) for line in SECOND_PASS.read_text(encoding="utf-8").splitlines()]
    pairs = np.array([(first[row["id"]].get(id_, 0), grade) for row in rows for id_, grade in row["grades"].items()])
    print(f"{len(rows)} questions, {len(pairs):,} passages, {(pairs > 0).any(axis=1).sum()} of them relevant to either")
    print(f"the same grade: {(pairs[:, 0] == pairs[:, 1]).mean():.1%}; {np.ptp(pairs, axis=1).max()} apart at the most")
    print(f"kappa of the grades, quadratic weights: {_kappa(pairs):.2f}")
    print(f"kappa of relevant (2 or 3) against the rest: {_kappa((pairs >= 2).astype(int)):.2f}")


def _kappa(pairs: NDArray[np.int64]) -> float:
    """Return Cohen's kappa with quadratic weights; for two classes it is the plain one."""
    expected = (pairs[:, 0][:, None] - pairs[:, 1][None, :]) ** 2
    return float(1 - ((pairs[:, 0] - pairs[:, 1]) ** 2).mean() / expected.mean())


def fit() -> None:
    """Print the line from raw score to logit that makes the sigmoid of the logit the share of relevant passages.

    Logistic regression (maximum likelihood) on the fused lists of the development questions; relevant means judged 2
    or 3.
    """
    hybrid = build_hybrid(load_passages(), similarity_top_k=CANDIDATES)
    model = RelevanceModel.load()
    raw: list[float] = []
    relevant: list[bool] = []
    for question in tqdm(load_questions("development"), desc="scoring"):
        fused = hybrid.retrieve(question.text)
        raw += model.score(Job(question.text, [found.node.get_content() for found in fused])).raw.tolist()
        relevant += [question.relevant.get(found.node_id, 0) >= 2 for found in fused]
    signs = np.where(relevant, 1.0, -1.0)

    def loss(line: NDArray[np.float64]) -> float:
        return float(np.logaddexp(0, -signs * (line[0] * np.array(raw) + line[1])).mean())

    slope, intercept = minimize(loss, x0=np.array([1.0, 0.0])).x
    print(f"{sum(relevant)} of {len(raw)} passages are relevant: logit = {slope:.1f} * raw {intercept:+.1f}")


def main() -> None:
    """Run the command that the command line names."""
    commands = {"mark": mark, "agreement": print_agreement, "fit": fit}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subparsers = parser.add_subparsers(dest="command", required=True)
    pooling = subparsers.add_parser("pool")
    pooling.add_argument("questions", type=Path)
    pooling.add_argument("folder", type=Path)
    for name in commands:
        subparsers.add_parser(name)
    asked = parser.parse_args()
    if asked.command == "pool":
        pool(asked.questions, asked.folder)
    else:
        commands[asked.command]()


if __name__ == "__main__":
    main()
