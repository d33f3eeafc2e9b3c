"""Runs as Parquet: what is refused before anything is asked, and how a run is cut."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_runs import a_run
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.bulk.blocks import block_name, cut
from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.parquet import check_columns, read_columns, run_batches, run_files

RUN = a_run(queries=6, passages=3)


def blocks_of(run, folder, block_pairs):
    run.to_parquet(folder / "in.parquet")
    (folder / "blocks").mkdir()
    return cut(run_batches([folder / "in.parquet"]), folder / "blocks", block_pairs)


def test_a_block_ends_with_a_query(tmp_path):
    assert blocks_of(RUN, tmp_path, 4) == [6, 6, 6]


def test_every_row_is_in_a_block_in_its_order(tmp_path):
    sizes = blocks_of(RUN, tmp_path, 4)
    rows = [row for number in range(len(sizes)) for row in read_columns(tmp_path / "blocks" / block_name(number))]
    assert rows == list(RUN.itertuples(index=False, name=None))


def test_a_query_longer_than_what_is_read_at_once_stays_whole(tmp_path):
    assert blocks_of(a_run(queries=2, passages=2500), tmp_path, 10) == [2500, 2500]


@given(sizes=st.lists(st.integers(1, 30), min_size=1), rows=st.integers(1, 20), block_pairs=st.integers(1, 40))
def test_where_a_run_is_cut_does_not_depend_on_how_it_is_read(tmp_path_factory, sizes, rows, block_pairs):
    qids = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    table = pa.table({"qid": qids, "query": qids, "docno": [str(row) for row in range(len(qids))], "text": qids})
    cuts = [
        cut(table.to_batches(max_chunksize=most), tmp_path_factory.mktemp("blocks"), block_pairs)
        for most in (rows, 1000)
    ]
    assert cuts[0] == cuts[1]
    assert sum(cuts[0]) == len(qids)
    assert all(size >= block_pairs for size in cuts[0][:-1])


def checked_and_cut(file):
    check_columns([file])
    cut(run_batches([file]), file.parent, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: run.drop(columns="docno"),
            r"no column docno; it has qid, query, text.*docno \(id of the passage\)",
        ),
        (lambda run: run.assign(qid=range(len(run))), "column qid is of type int64; write it as text"),
        (lambda run: run.assign(text=run["text"].where(run.index != 7)), "column text has no value in row 7"),
        (lambda run: run.assign(docno="d"), "Passage 'd' stands twice under query 'q0'"),
        (lambda run: run.assign(query=run["docno"]), "Query id 'q0' has two queries"),
        (lambda run: run.sort_values("text"), "do not stand together"),
        (lambda run: run.head(0), "has no rows"),
    ],
)
def test_a_run_that_is_not_right_is_refused_with_what_to_do(tmp_path, change, message):
    changed = change(RUN)
    types = {"qid": pa.int64() if changed.dtypes["qid"] == "int64" else pa.string()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in changed.columns])
    pq.write_table(pa.Table.from_pandas(changed, schema, preserve_index=False), tmp_path / "in.parquet")
    with pytest.raises(BadRun, match=message):
        checked_and_cut(tmp_path / "in.parquet")


def test_what_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "in.parquet").write_text("qid,query")
    with pytest.raises(BadRun, match="cannot be read as Parquet"):
        check_columns([tmp_path / "in.parquet"])


@pytest.mark.parametrize("path", ["", "nothing.parquet"])
def test_where_there_is_no_file_that_is_said(tmp_path, path):
    with pytest.raises(BadRun, match="No Parquet file at"):
        run_files(tmp_path / path)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in ("b", "a"):
        RUN.to_parquet(tmp_path / f"{name}.parquet")
    assert [file.name for file in run_files(tmp_path)] == ["a.parquet", "b.parquet"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_text_of_every_kind_is_read(tmp_path, kind):
    schema = pa.schema([(name, kind) for name in RUN.columns])
    pq.write_table(pa.Table.from_pandas(RUN, preserve_index=False).cast(schema), tmp_path / "in.parquet")
    check_columns([tmp_path / "in.parquet"])
    read = pd.concat([batch.to_pandas() for batch in run_batches([tmp_path / "in.parquet"])])
    assert read["docno"].tolist() == RUN["docno"].tolist()
