"""Runs as Parquet: which ones are refused before any request, and how a run is split into blocks."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_runs import make_run
from hypothesis import given
from hypothesis import strategies as st

from nvrerank_helpers.bulk import BadRun
from nvrerank_helpers.bulk.blocks import get_block_name, write_blocks
from nvrerank_helpers.bulk.parquet import check_columns, find_run_files, read_batches, read_rows

RUN = make_run(queries=6, passages=3)


def split(run, folder, block_pairs):
    run.to_parquet(folder / "in.parquet")
    (folder / "blocks").mkdir()
    return write_blocks(read_batches([folder / "in.parquet"]), folder / "blocks", block_pairs)


def test_a_block_ends_with_a_query(tmp_path):
    assert split(RUN, tmp_path, 4) == [6, 6, 6]


def test_the_blocks_have_every_row_in_order(tmp_path):
    sizes = split(RUN, tmp_path, 4)
    rows = [row for number in range(len(sizes)) for row in read_rows(tmp_path / "blocks" / get_block_name(number))]
    assert rows == list(RUN.itertuples(index=False, name=None))


def test_a_query_longer_than_a_batch_stays_whole(tmp_path):
    assert split(make_run(queries=2, passages=2500), tmp_path, 10) == [2500, 2500]


@given(sizes=st.lists(st.integers(1, 30), min_size=1), rows=st.integers(1, 20), block_pairs=st.integers(1, 40))
def test_the_blocks_do_not_depend_on_how_a_run_is_read(tmp_path_factory, sizes, rows, block_pairs):
    qids = [str(number) for number, size in enumerate(sizes) for _ in range(size)]
    table = pa.table({"qid": qids, "query": qids, "docno": [str(row) for row in range(len(qids))], "text": qids})
    sizes_of_blocks = [
        write_blocks(table.to_batches(max_chunksize=most), tmp_path_factory.mktemp("blocks"), block_pairs)
        for most in (rows, 1000)
    ]
    assert sizes_of_blocks[0] == sizes_of_blocks[1]
    assert sum(sizes_of_blocks[0]) == len(qids)
    assert all(size >= block_pairs for size in sizes_of_blocks[0][:-1])


def check_and_split(file):
    check_columns([file])
    write_blocks(read_batches([file]), file.parent, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda run: run.drop(columns="docno"),
            r"no column docno; it has qid, query, text.*docno \(id of the passage\)",
        ),
        (lambda run: run.assign(qid=range(len(run))), "column qid is of type int64; write it as text"),
        (lambda run: run.assign(text=run["text"].where(run.index != 7)), "column text has no value in row 7"),
        (lambda run: run.assign(docno="d"), "Passage 'd' appears twice under query 'q0'"),
        (lambda run: run.assign(query=run["docno"]), "Query id 'q0' has two queries"),
        (lambda run: run.sort_values("text"), "are not consecutive"),
        (lambda run: run.head(0), "has no rows"),
    ],
)
def test_a_bad_run_is_refused_with_what_to_do(tmp_path, change, message):
    changed = change(RUN)
    types = {"qid": pa.int64() if changed.dtypes["qid"] == "int64" else pa.string()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in changed.columns])
    pq.write_table(pa.Table.from_pandas(changed, schema, preserve_index=False), tmp_path / "in.parquet")
    with pytest.raises(BadRun, match=message):
        check_and_split(tmp_path / "in.parquet")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "in.parquet").write_text("qid,query")
    with pytest.raises(BadRun, match="cannot be read as Parquet"):
        check_columns([tmp_path / "in.parquet"])


@pytest.mark.parametrize("path", ["", "nothing.parquet"])
def test_a_missing_file_is_named(tmp_path, path):
    with pytest.raises(BadRun, match="No Parquet file at"):
        find_run_files(tmp_path / path)


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for name in ("b", "a"):
        RUN.to_parquet(tmp_path / f"{name}.parquet")
    assert [file.name for file in find_run_files(tmp_path)] == ["a.parquet", "b.parquet"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_text_of_every_kind_is_read(tmp_path, kind):
    schema = pa.schema([(name, kind) for name in RUN.columns])
    pq.write_table(pa.Table.from_pandas(RUN, preserve_index=False).cast(schema), tmp_path / "in.parquet")
    check_columns([tmp_path / "in.parquet"])
    read = pd.concat([batch.to_pandas() for batch in read_batches([tmp_path / "in.parquet"])])
    assert read["docno"].tolist() == RUN["docno"].tolist()
