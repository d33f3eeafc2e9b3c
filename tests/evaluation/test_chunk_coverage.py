import pytest
from llama_index.core.schema import TextNode

from nvrerank_helpers.evaluation.chunk_coverage import Place, locate_chunks, measure_coverage
from nvrerank_helpers.evaluation.measures import Run
from nvrerank_helpers.pydocs import Question, load_passages

LETTERS = "x" * 400


def node(id_, text):
    return TextNode(id_=id_, text=f"title\n{text}")


PASSAGES = [node("t", LETTERS), node("t#2", LETTERS), node("u", LETTERS)]
CHUNKS = [node("t", LETTERS[:200]), node("t#2", LETTERS[:200]), node("t#3", LETTERS), node("u", LETTERS)]
QUESTION = Question("q", "which way?", "test", {"t": 3, "u": 1})


def seen(*ranked, budget=400):
    run = Run("s", {"q": list(ranked)}, [0.1])
    return measure_coverage(run, [QUESTION], chunks=CHUNKS, passages=PASSAGES, budget=budget).loc["q"].to_dict()


def test_titles_and_white_space_do_not_count():
    assert locate_chunks([node("a", "one two"), node("a#2", "\n x"), node("b", "y")]) == {
        "a": Place("a", 0, 6),
        "a#2": Place("a", 6, 7),
        "b": Place("b", 0, 1),
    }


def test_seeing_all_of_the_best_passage_is_the_maximum():
    assert seen("t", "t#2") == {"judged text": 1, "half an answer": 1, "a piece": 1}


def test_a_passage_counts_for_the_part_that_is_seen():
    assert seen("t", "t#3") == {"judged text": 0.5, "half an answer": 1, "a piece": 1}


def test_text_beyond_the_budget_is_not_seen():
    assert seen("t#3", "t") == {"judged text": 0, "half an answer": 0, "a piece": 0}


def test_the_last_chunk_is_cut_to_the_rest_of_the_budget():
    assert seen("t#3", "t", budget=520) == {
        "judged text": pytest.approx(120 * 3 / (400 * 3 + 120)),
        "half an answer": 0,
        "a piece": 1,
    }


def test_a_low_grade_gains_less_and_is_not_an_answer():
    assert seen("u") == {"judged text": pytest.approx(1 / 3), "half an answer": 0, "a piece": 0}


def test_text_that_is_seen_twice_counts_once():
    assert seen("t", "t", "t#2", budget=600)["judged text"] == pytest.approx(1200 / (1200 + 200))


def test_finding_nothing_covers_nothing():
    assert set(seen().values()) == {0}


def test_a_budget_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        seen("t", budget=0)


@pytest.mark.parametrize("size", [300, 3000])
def test_all_chunk_sizes_contain_the_same_text(size):
    def lengths(nodes):
        return {place.text: place.end for place in locate_chunks(nodes).values()}

    assert lengths(load_passages(size, source="reference")) == lengths(load_passages(source="reference"))
