"""Record rankings and logits of the test questions, to compare two states of the code on one machine.

python -m tools.golden_rankings record FILE
python -m tools.golden_rankings compare FILE

Processors round differently, so a file is only good for the machine that wrote it.
"""

import argparse
import json
import sys
from pathlib import Path

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import fit_judgments
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid


def rerank_all() -> dict[str, list[list[str | float | None]]]:
    """Rerank every test question; return the ids and scores of both stages by question id."""
    connect()
    nodes = load_passages()
    hybrid = build_hybrid(nodes, 50)
    questions, _ = fit_judgments(load_questions("test"), nodes)
    reranker = NVIDIARerank(top_n=None)
    found = {}
    for question in questions:
        fused = hybrid.retrieve(question.text)
        best = reranker.postprocess_nodes(fused, query_str=question.text)
        found[question.id] = [[item.node_id, item.score] for item in [*fused, *best]]
    return found


def main() -> int:
    """Record, or compare and return 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    found = rerank_all()
    if options.action == "record":
        options.file.write_text(json.dumps(found), encoding="utf-8")
        return 0
    recorded = json.loads(options.file.read_text(encoding="utf-8"))
    different = [id_ for id_ in recorded if recorded[id_] != found.get(id_)]
    print(f"{len(recorded)} questions, {len(different)} with other rankings or logits: {different[:5]}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
