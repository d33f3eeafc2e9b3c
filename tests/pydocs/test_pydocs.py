import json
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.evaluation import fit_judgments
from nvrerank_helpers.pydocs import load_passages, load_questions, passages
from nvrerank_helpers.pydocs.passages import MAX_CHARACTERS, split_at_paragraphs

PASSAGES = {node.id_: node for node in load_passages()}


def test_there_are_thousands_of_passages_each_with_its_own_id():
    assert len(PASSAGES) == len(load_passages()) > 7000


def test_no_passage_is_longer_than_promised():
    assert max(len(node.text) for node in PASSAGES.values()) <= MAX_CHARACTERS


@pytest.mark.parametrize("name", ["os.path.join", "str.split", "asyncio.gather", "reference.with", "reference.with#2"])
def test_the_id_of_a_passage_is_the_name_that_people_use(name):
    assert PASSAGES[name].text.startswith(name.partition("#")[0])


def test_one_source_can_be_loaded_alone():
    reference = load_passages(source="reference")
    assert {node.metadata["source"] for node in reference} == {"reference"}
    assert [node.id_ for node in reference] == [id_ for id_ in PASSAGES if id_.startswith("reference.")]


def test_passages_can_be_shorter():
    assert max(len(node.text) for node in load_passages(300)) <= 300


def test_passages_without_room_after_a_title_are_refused():
    with pytest.raises(ValueError, match="at least 300"):
        load_passages(299)


def test_models_do_not_see_the_metadata():
    node = PASSAGES["math.sqrt"]
    assert node.metadata == {"module": "math", "kind": "function", "source": "library"}
    assert node.get_content("embed") == node.get_content("llm") == node.text


def test_no_passage_shows_this_machine():
    assert not [id_ for id_, node in PASSAGES.items() if sys.prefix in node.text or " at 0x" in node.text]


def test_loading_imports_nothing_into_this_process():
    code = (
        "import sys; from nvrerank_helpers.pydocs import load_passages; load_passages(); print('ftplib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_python_without_its_documentation_is_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(passages, "__file__", str(tmp_path / "passages.py"))
    passages._collect_entries.cache_clear()
    with pytest.raises(RuntimeError, match="whole standard library"):
        load_passages()
    monkeypatch.undo()
    passages._collect_entries.cache_clear()


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 40))
def test_splitting_loses_only_white_space(text, limit):
    parts = split_at_paragraphs(text, limit)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= limit for part in parts)


def test_half_of_the_questions_are_for_the_test():
    assert len(load_questions()) >= 150
    assert len(load_questions("test")) == len(load_questions("development")) == len(load_questions()) / 2


def test_every_question_has_a_passage_that_answers_it_unless_none_does():
    for question in load_questions():
        assert (3 in question.relevant.values()) != (question.kind == "no_answer" and not question.relevant)


@pytest.mark.parametrize("kind", ["name", "paraphrase", "two_sources", "near_duplicates", "no_answer"])
def test_each_hard_kind_is_in_both_halves(kind):
    halves = [sum(question.kind == kind for question in load_questions(split)) for split in ("test", "development")]
    assert min(halves) >= 4


def test_a_question_of_two_sources_needs_both():
    for question in load_questions():
        if question.kind == "two_sources":
            good = {id_ for id_, grade in question.relevant.items() if grade >= 2}
            assert {id_.startswith("reference.") for id_ in good} == {True, False}


def test_grades_are_one_to_three():
    assert {grade for question in load_questions() for grade in question.relevant.values()} == {1, 2, 3}


def test_ids_and_texts_of_questions_occur_once():
    questions = load_questions()
    assert len({q.id for q in questions}) == len({q.text.lower() for q in questions}) == len(questions)


def test_nearly_every_judged_passage_exists_in_this_python():
    questions = load_questions()
    _, left_out = fit_judgments(questions, PASSAGES.values())
    assert left_out <= 0.05 * sum(len(question.relevant) for question in questions)


FIELDS = {"id", "text", "split", "relevant", "begins", "kind"}


def test_the_questions_are_one_json_object_a_line():
    text = files("nvrerank_helpers.pydocs").joinpath("questions.jsonl").read_text(encoding="utf-8")
    assert all(set(json.loads(line)) == FIELDS for line in text.splitlines())
