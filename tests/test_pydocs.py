import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers import pydocs
from nvrerank_helpers.evaluation import present
from nvrerank_helpers.pydocs import MAX_CHARACTERS, load_passages, load_questions, split_at_paragraphs

PASSAGES = {node.id_: node for node in load_passages()}


def test_there_are_thousands_of_passages_each_with_its_own_id():
    assert len(PASSAGES) == len(load_passages()) > 7000


def test_no_passage_is_longer_than_promised():
    assert max(len(node.text) for node in PASSAGES.values()) <= MAX_CHARACTERS


@pytest.mark.parametrize("name", ["os.path.join", "str.split", "asyncio.gather", "reference.with", "reference.with#2"])
def test_a_passage_is_found_under_the_name_that_people_use(name):
    assert PASSAGES[name].text.startswith(name.partition("#")[0])


def test_metadata_is_not_part_of_what_models_see():
    node = PASSAGES["math.sqrt"]
    assert node.metadata == {"module": "math", "kind": "function", "source": "library"}
    assert node.get_content("embed") == node.get_content("llm") == node.text


def test_no_passage_shows_this_machine():
    assert not [id_ for id_, node in PASSAGES.items() if sys.prefix in node.text or " at 0x" in node.text]


def test_loading_leaves_no_trace_in_this_process():
    code = (
        "import sys; from nvrerank_helpers.pydocs import load_passages; load_passages(); print('ftplib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_python_without_its_documentation_is_an_error_that_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(pydocs, "__file__", str(tmp_path / "__init__.py"))
    pydocs._collected.cache_clear()
    with pytest.raises(RuntimeError, match="whole standard library"):
        load_passages()
    monkeypatch.undo()
    pydocs._collected.cache_clear()


@given(st.text(alphabet="ab \n", max_size=200), st.integers(1, 40))
def test_splitting_loses_nothing_but_white_space(text, limit):
    parts = split_at_paragraphs(text, limit)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= limit for part in parts)


def test_short_paragraphs_stay_together():
    assert split_at_paragraphs("one\n\ntwo\n\nthree", 9) == ["one\n\ntwo", "three"]


def test_there_are_at_least_sixty_questions_half_of_them_for_the_test():
    assert len(load_questions()) >= 60
    assert len(load_questions("test")) == len(load_questions("development")) == len(load_questions()) / 2


def test_every_question_has_a_passage_that_answers_it():
    assert all(3 in question.relevant.values() for question in load_questions())


def test_grades_are_one_to_three():
    assert {grade for question in load_questions() for grade in question.relevant.values()} == {1, 2, 3}


def test_ids_and_texts_of_questions_occur_once():
    questions = load_questions()
    assert len({q.id for q in questions}) == len({q.text.lower() for q in questions}) == len(questions)


def test_nearly_every_judged_passage_exists_in_this_python():
    questions = load_questions()
    _, left_out = present(questions, PASSAGES.values())
    assert left_out <= 0.05 * sum(len(question.relevant) for question in questions)


def test_the_questions_are_one_json_object_a_line():
    text = pydocs.files(pydocs.__name__).joinpath("questions.jsonl").read_text(encoding="utf-8")
    assert all(set(json.loads(line)) == {"id", "text", "split", "relevant", "begins"} for line in text.splitlines())
