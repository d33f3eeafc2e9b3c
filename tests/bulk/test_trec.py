import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.bulk import BadRun, RunLine
from nvrerank_helpers.bulk.trec import join_texts, read_run_lines

WORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1)


@given(WORDS, WORDS, st.integers(1, 1000), st.floats(allow_nan=False, allow_infinity=False), WORDS)
def test_a_line_is_read_as_it_was_written(qid, docno, rank, score, tag):
    line = RunLine(qid, docno, rank, score, tag)
    assert list(read_run_lines([f"{line}\n"])) == [line]


def test_ir_measures_reads_what_is_written(tmp_path):
    file = tmp_path / "a.run"
    file.write_text(f"{RunLine('1', 'x', 1, 2.5)}\n{RunLine('1', 'y', 2, -0.125)}\n")
    read = [(line.query_id, line.doc_id, line.score) for line in ir_measures.read_trec_run(str(file))]
    assert read == [("1", "x", 2.5), ("1", "y", -0.125)]


@pytest.mark.parametrize("id_", ["", "two words", "tab\tbed", " x"])
def test_an_id_that_a_run_file_cannot_hold_is_refused(id_):
    with pytest.raises(BadRun, match="one word without blanks"):
        str(RunLine(id_, "x", 1, 0.0))


@pytest.mark.parametrize("line", ["1 Q0 x 1 2.5", "1 Q0 x one 2.5 tag", "1 Q0 x 1 high tag", "1 Q0 a b 1 2.5 tag"])
def test_a_line_that_is_not_of_a_run_is_refused_with_its_number(line):
    with pytest.raises(BadRun, match="Line 2 of the run is not"):
        list(read_run_lines(["1 Q0 x 1 2.5 tag", line]))


def test_empty_lines_are_skipped():
    assert list(read_run_lines(["", "1 Q0 x 1 2.5 tag\n", "\n"])) == [RunLine("1", "x", 1, 2.5, "tag")]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.run").write_text("1 Q0 x 1 2.5 tag\n1 Q0 y 2 2.0 tag\n2 Q0 x 1 1.0 tag\n")
    (tmp_path / "queries.tsv").write_text("1\twhich way?\n2\twhere to?\n")
    (tmp_path / "passages.tsv").write_text("y\ttwo roads\nx\ta wood\twith a tab\nz\tnever asked\n")
    return tmp_path


def rows(folder):
    return list(join_texts(folder / "a.run", folder / "queries.tsv", folder / "passages.tsv", folder / "texts.sqlite"))


def test_the_ids_of_a_run_are_joined_with_their_texts(files):
    assert rows(files) == [
        ("1", "which way?", "x", "a wood\twith a tab"),
        ("1", "which way?", "y", "two roads"),
        ("2", "where to?", "x", "a wood\twith a tab"),
    ]
    assert not (files / "texts.sqlite").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("queries.tsv", "1\twhich way?\n", "names '2', which is not in .*queries.tsv"),
        ("passages.tsv", "x\ta wood\n", "names 'y', which is not in .*passages.tsv"),
        ("passages.tsv", "x\ta wood\nx\tanother\n", "has an id twice"),
        ("queries.tsv", "1 which way?\n", "Line 1 of .*queries.tsv is not `qid<TAB>query`"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(files, file, text, message):
    (files / file).write_text(text)
    with pytest.raises(BadRun, match=message):
        rows(files)
