# %% [markdown]
# # Scale out: a whole collection
#
# A log of a million queries, a collection to be labelled: nobody waits for one answer, and everything has to get done.
# You rerank thousands of pairs with several processes, break the job in three ways, find out what bounds its speed, and
# compute what ten million queries take.

# %% [markdown]
# ## Blocks, workers, services
#
# `rerank` cuts its input into blocks of whole queries. Workers, processes that [Ray](https://docs.ray.io) starts and
# watches over, take blocks, ask the services, and write a file for each. A file is there whole or not at all, so the
# folder itself says what is left to do. The input is a table: what a first stage found, here BM25 in Python's docstrings.

# %% tags=["timing"]
import os
from importlib.metadata import version

import pandas as pd
from ir_measures import RR, Qrel, calc_aggregate, nDCG, read_trec_run
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.bulk import rerank
from nvrerank_helpers.evaluation import attempt, draw_curves, fit_judgments, run_load
from nvrerank_helpers.lessons import BulkLesson, build_run_table, check
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import MatchingBM25Retriever

print(f"Ray {version('ray')}, pandas {pd.__version__}, {connect()}")

# %%
passages, questions = load_passages(source="library"), load_questions("test")
first_stage = MatchingBM25Retriever(nodes=passages, similarity_top_k=40)
collection = build_run_table({q.id: q.text for q in questions}, first_stage.retrieve)
collection.head(3)

# %% [markdown]
# ## The whole run
#
# BM25's `rank` and `score` are not needed, and may stay. The lesson brings its own Ray and its own stand-in, the same for
# everybody. Two workers, blocks of 200 pairs or a few more: how many blocks will there be? (A bar would show the progress.)

# %% tags=["timing"]
lesson = BulkLesson(workers=4)
run = lesson.folder / "in.parquet"
collection.to_parquet(run)
job = {"base_urls": [lesson.address], "workers": 2, "block_pairs": 200, "progress": False}
whole = rerank(run, lesson.folder / "whole", **job)
print(whole)
ranked = pd.read_parquet(whole.out / "ranked")
ranked.head(3)

# %% [markdown]
# A row for each pair, best first; pandas reads the folder as one table.
#
# ## Kill a worker
#
# When the first block comes back, the next cell kills the process that did it, by signal 9, which nothing can catch. It
# was in the middle of others. How many rows will be missing, and how many processes will have written blocks?


# %%
def kill_first(done):
    if not victims:
        victims.append(done.pid)
        os.kill(done.pid, 9)


victims = []
with lesson.control.faults("delay=fixed seconds=0.3"):
    mended = rerank(run, lesson.folder / "killed", on_block=kill_first, **job)
rows = pd.read_parquet(mended.out / "ranked")
print(f"{len(rows):,} of {len(ranked):,} rows, all equal: {rows.equals(ranked)}")
print(f"{len({done.pid for done in mended.done})} processes wrote blocks")

# %% [markdown]
# None is missing: Ray started a third process, and the lost blocks were done again.
#
# ## A job that stops, a row that fails
#
# First, the credit is used up at the 47th request (402): the job stops, and the same call goes on later. How many
# requests will that one send? Then, one passage in a request of 40 is far too long, and `truncate="NONE"` forbids to
# cut it. How many pairs will fail?

# %% tags=["timing"]
with lesson.control.faults("status=402 share=0.02", seed=4):
    print(attempt(lambda: rerank(run, lesson.folder / "night", **job)).error, end="\n\n")
before, rest = lesson.requests, rerank(run, lesson.folder / "night", **job)
print(rest, f"{rest.requests} requests sent, {lesson.requests - before} received", sep="\n")

# %%
odd = collection.head(40).assign(text=lambda t: t["text"].where(t["rank"] != 8, "word " * 12_000))
odd.to_parquet(lesson.folder / "odd.parquet")
partly = rerank(lesson.folder / "odd.parquet", lesson.folder / "partly", truncate="NONE", **job)
pd.read_parquet(partly.out / "failed").to_dict("records")

# %% [markdown]
# Done is done: as many requests as questions were left. And one pair failed, with its reason: a refused request is halved
# until the culprit is found.
#
# ## From run file to run file
#
# For trec_eval, the first stage is a run file, and so is the result. These are the options behind
# `python -m nvrerank_helpers bulk`; the lesson adds `--base-url`, which you may give several times. Does reranking help?

# %% tags=["timing"]
lesson.write_trec_files(collection)
command = """--run bm25.run --queries queries.parquet --passages passages.parquet
             --out trec --trec reranked.run --workers 1 --quiet"""
print(lesson.command(command))
answerable, _ = fit_judgments(questions, passages)
grades = [Qrel(q.id, docno, grade) for q in answerable for docno, grade in q.relevant.items()]
files = {name: lesson.folder / f"{name}.run" for name in ("bm25", "reranked")}
figures = {name: read_trec_run(str(path)) for name, path in files.items()}
measures = [nDCG @ 10, RR @ 10]
pd.DataFrame({n: calc_aggregate(measures, grades, f) for n, f in figures.items()}).T.round(3)

# %% [markdown]
# ## What bounds the speed?
#
# Here, the stand-in's own computing. So two services play GPUs far away: 80 ms on the way, then 40 ms for each request,
# sequentially; that is 25 requests of 20 passages a second. A worker asks about two queries at once. Where will
# each line become flat?
#
# The second cell takes one service's best rate to ten million queries. Put your own price in.

# %% tags=["timing"]
folder, small, reports = lesson.folder, collection.groupby("qid", sort=False).head(20)[:800], {}
small.to_parquet(folder / "small.parquet")
far = lesson.far_services(2, small["text"])
shape = {"run": folder / "small.parquet", "in_flight": 2, "block_pairs": 40, "progress": False}
for services, name in enumerate(("1 service", "2 services"), 1):
    for workers in (1, 2, 4):
        at = {"out": folder / f"{services}-{workers}", "base_urls": far[:services]}
        reports[workers, name] = rerank(workers=workers, **at, **shape)
table = pd.Series({key: report.rate for key, report in reports.items()}).unstack()
rates = table.rename_axis("workers")
display(draw_curves({"pairs a second": rates}, 2, "4 requests on the way"), rates.round())

# %% tags=["timing"]
hours, price = 10_000_000 * 20 / rates["1 service"].max() / 3600, 2.50
bill = pd.DataFrame(index=pd.Index([1, 2, 8, 32], name="services"))
bill["hours"], bill["cost"] = hours / bill.index, hours * price
bill.round(1)

# %% [markdown]
# More workers help until the services are full, then only more services do; these change the time, not the bill. The GPUs
# are pretended: take your rate from minutes of your own. At the 40 requests a minute of the API catalog's free tier it
# would be 174 days.
#
# ## Exercise 1
#
# It must be done in a night of **10 hours**. How many services of this kind do you rent? Compute it from `hours`.
#
# <details><summary>Hint</summary>
#
# `hours` is what one service needs, and a part of a service cannot be rented.
#
# </details>

# %%
# <starter> rented = ...
# <solution>
rented = int(hours // 10) + 1
# </solution>

# %% tags=["check"]
least = next(number for number in range(1, 10_000) if hours / number <= 10)
wrong = "divide the hours of one service by 10, and round up."
check(rented, least, right="with one less the night is too short.", wrong=wrong)

# %% [markdown]
# ## Copy this
#
# A job of your own, small. Put your table in; `connect()` chooses the service, and the workers find its key in the
# environment. Outside the course give `out` a folder that stays.

# %% tags=["copy-this"]
from tempfile import TemporaryDirectory
import pandas as pd
from nvrerank_helpers import connect
from nvrerank_helpers.bulk import rerank

connect()
my_passages = [("bat", "Bats sleep upside down."), ("horse", "A horse can sleep on its feet.")]
my_rows = [("q1", "Which animal sleeps standing up?", *passage) for passage in my_passages]
my_table = pd.DataFrame(my_rows, columns=["qid", "query", "docno", "text"])
with TemporaryDirectory() as my_folder:
    my_table.to_parquet(f"{my_folder}/in.parquet")
    my_report = rerank(f"{my_folder}/in.parquet", f"{my_folder}/out", workers=1, progress=False)
    print(pd.read_parquet(my_report.out / "ranked"))

# %% [markdown]
# ## Exercise 2
#
# One row of the job `partly` failed, as it may not be cut. Have **that row alone** reranked with `truncate="END"`, and
# give the report.
#
# <details><summary>Hint 1</summary>
#
# `odd[odd["rank"] == 8]` is its row. Write it to a separate file, in `lesson.folder`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# A folder belongs to one job: take a new one, and call `rerank(file, folder, truncate="END", **job)`.
#
# </details>

# %%
# <starter> cut = ...
# <solution>
odd[odd["rank"] == 8].to_parquet(lesson.folder / "one.parquet")
cut = rerank(lesson.folder / "one.parquet", lesson.folder / "one", truncate="END", **job)
# </solution>

# %% tags=["check"]
one_row = "the row has a logit now, which judges the beginning of its text."
other = "it should be a report of one pair, none of which failed."
check(cut, lambda r: (r.pairs, r.failed) == (1, 0), right=one_row, wrong=other)

# %% [markdown]
# ## When a loop is enough
#
# The same load on one such service from a plain loop: the reranker of every lesson, 40 calls at once, no Ray. Which is
# done first?

# %% tags=["timing"]
plain, text = NVIDIARerank(base_url=far[0], top_n=None), questions[0].text
hits = first_stage.retrieve(text)[:20]
loop = await run_load(
    lambda: plain.apostprocess_nodes(hits, query_str=text), calls=40, concurrency=40
)
lesson.close()
bulk, names = reports[4, "1 service"], ("plain loop", "job at work", "job", "job and Ray")
spans = [loop.seconds, bulk.working, bulk.seconds, bulk.seconds + lesson.ray_seconds]
pd.DataFrame({"seconds": spans}, names).round(1)

# %% [markdown]
# The loop: one process can keep a service busy, and Ray costs its start each time. Take the job where hours of work must
# not be lost, or one process is not enough.
#
# ## At a thousand times the size
#
# | here | there |
# | --- | --- |
# | a file of three thousand rows | a folder of Parquet files; no more than a block of them is in memory |
# | Ray on this machine | a cluster: `RAY_ADDRESS` names it, and all machines see the folder `out` |
# | two services, named one by one | many, or a load balancer before them |
# | blocks of 200 pairs | of 2,000 to 20,000: a crash costs the blocks in work, and each is a file |
# | a few failed rows | count them by `error` before you read one |
#
# ## Key points
#
# - Let the files say what is done: then a crash costs the blocks in work, and a restart needs no thought.
# - Ask what bounds you: workers, until the services are full, then services.
# - The bill depends on pairs and the rate of one service; their number buys time.
# - For a small job write the loop.
#
# ## Check yourself
#
# 1. Why are blocks cut between queries and never within one?
#
# <details><summary>Answer</summary>
#
# The ranks of a query need all its logits. With whole queries, a block's file is final when it is written.
#
# </details>
#
# 2. A second service brought nothing. What was the bound?
#
# <details><summary>Answer</summary>
#
# The workers: they had too few requests on the way to fill the first. Give more workers, or more `in_flight` to each.
#
# </details>
#
# 3. The same command is started twice by mistake, for the same folder. What should happen?
#
# <details><summary>Answer</summary>
#
# The second must stop at once: `rerank` locks the folder and says that another process is at work in it.
#
# </details>
