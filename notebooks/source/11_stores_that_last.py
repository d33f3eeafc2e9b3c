# %% [markdown]
# # Stores that last
#
# `build_hybrid` keeps everything in memory: when the program ends, all is lost, and the next start embeds every passage
# again. This notebook keeps passages, vectors and the BM25 index on disk, changes them, kills a program in the middle
# of it, and says what another database would change.

# %% [markdown]
# ## One truth, and what follows from it
#
# A hybrid retriever needs two indexes of the same passages, and two copies can disagree. So only one of them is the
# truth: a database with text and vector of each passage. The BM25 index is a file that is derived from it and says
# which state of the database it was made from. Whoever finds an older state there makes it again.

# %% tags=["timing"]
import tempfile
from importlib.metadata import version

import pandas as pd
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.schema import TextNode
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import draw_bars, draw_curves, fit_judgments, measure, run_search
from nvrerank_helpers.evaluation import show_grades
from nvrerank_helpers.lessons import PROGRAM, add_and_kill, check, measure_time, price_of_a_change
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import StaticEmbedding, StoreError, build_hybrid, make_search
from nvrerank_helpers.retrieval import open_store

print(f"LlamaIndex {version('llama-index-core')}, LanceDB {version('lancedb')}")
connect()

# %% [markdown]
# ## Made once
#
# `open_store` makes a store in a folder, with LanceDB: no server, a library that reads and writes files. LlamaIndex's
# `TokenCountingHandler` notes every text that the model embeds. Predict: how many texts, and how many seconds?

# %%
counter = TokenCountingHandler(tokenizer=str.split)
model = StaticEmbedding(callback_manager=CallbackManager([counter]))
folder = tempfile.mkdtemp()
passages = sorted(load_passages(), key=lambda node: node.node_id)

# %% tags=["timing"]
store, query = open_store(f"{folder}/passages", model), "two roads"
first = {"embed, write": lambda: store.add(passages), "BM25": lambda: store.ids("bm25")}
made = measure_time(first)
print(f"{len(store):,} passages, {len(counter.embedding_token_counts):,} texts embedded")

# %% [markdown]
# One text for each passage and one more: a sentence that `open_store` embeds to know the model again.
#
# ## Opened again
#
# `ids("bm25")` also made the BM25 index and wrote it to disk. Now the next morning: the same folder is opened anew and
# asked. How many texts will be embedded, and how does the first query compare with what was done above?

# %% tags=["timing"]
counter.reset_counts()
again = open_store(f"{folder}/passages", model)
times = pd.concat([made, measure_time({"first query": lambda: again.retriever().retrieve(query)})])
print(f"{len(counter.embedding_token_counts)} texts embedded, none of them a passage")
display(times.round(3), draw_bars(times, "seconds"))

# %% [markdown]
# Next to nothing: the vectors stay on disk until they are searched, and the BM25 index is only read. With an embedding
# service in the place of our static vectors, the longest bar would also be the one on the bill.
#
# ## The same retriever
#
# `retriever()` gives the `HybridRetriever` of `build_hybrid`. On all test questions, will the two rank alike?

# %%
questions, _ = fit_judgments(load_questions("test"), passages)
systems = {"in memory": build_hybrid(passages), "from disk": again.retriever()}
runs = [run_search(name, hybrid.retrieve, questions) for name, hybrid in systems.items()]
display(measure(runs, questions).drop(columns="milliseconds per question").round(3))
search = make_search(again.retriever(), NVIDIARerank(top_n=5))
show_grades(search(questions[0].text), questions[0]).round(2)

# %% [markdown]
# They do, to the last digit: vectors are compared exactly and scored by cosine, and BM25 counts the same words. A
# reranker works over a store as over anything that retrieves, as the second table shows for the first question.
#
# ## Add, change, delete
#
# `again` was opened before these changes, and its retriever was made before them, too. What will it find?

# %%
asked = again.retriever(similarity_top_k=3)
notes = {"note.a": "The zebra filter is full: E42.", "note.b": "A zebra is not a filter."}
store.add([TextNode(id_=name, text=text) for name, text in notes.items()])
store.change([TextNode(id_="note.a", text="The okapi filter is full: E43.")])
store.delete(["note.b"])
for word in ("zebra", "okapi"):
    print(word, [found.node_id for found in asked.retrievers["bm25"].retrieve(word)])
print("both sides agree:", again.ids("bm25") == again.ids("vector"))

# %% [markdown]
# A retriever asks the database for its state before each query, so it sees what others committed. A change takes the
# old node's place in one step: no reader finds both, and none finds neither.
#
# ## Killed in the middle
#
# The program that is printed below adds the passages in batches of 100. `add_and_kill` listens until five are
# acknowledged and ends it with `kill -9`, which no program can catch. What may the store hold?

# %% tags=["timing"]
print(PROGRAM)
acknowledged = add_and_kill(f"{folder}/half", batches=5)
half = open_store(f"{folder}/half", model)
print(f"{acknowledged} acknowledged, {len(half)} held, agree: {half.ids('bm25') == half.ids()}")

# %% [markdown]
# All that was acknowledged is there, and never a part of a batch: a batch is one transaction. (Once in a while there is
# one batch more, committed before its line was written.) Killed while it writes the BM25 index, a program leaves a folder
# with another name, which nobody reads.
#
# ## What is refused
#
# Mistakes that would make a store useless in silence are errors. Will one of these three change something?

# %%
attempts = {
    "a node that is there": lambda: store.add([TextNode(id_="new", text="new"), passages[0]]),
    "an id that is not": lambda: store.delete(["note.a", "note.z"]),
    "another model": lambda: open_store(f"{folder}/half", StaticEmbedding(model_name="other")),
}
before = len(store)
for what, attempt in attempts.items():
    try:
        attempt()
    except (ValueError, StoreError) as error:
        print(f"{what}: {type(error).__name__}: {str(error).replace(folder, '…')}\n")
print("passages more or fewer:", len(store) - before)

# %% [markdown]
# ## One line for PostgreSQL
#
# `open_store("postgresql://user:password@host/database")` and nothing else: the same methods over pgvector.
#
# | | LanceDB in a folder | PostgreSQL with pgvector |
# |---|---|---|
# | runs | in your program, extra `lancedb` | as a server, extra `postgres` |
# | programs at once | on one machine | on many |
# | two writers | take turns, by a lock on a file | take turns, by a lock on a row |
# | `kill -9` | whole batches | whole batches |
# | power cut | may lose the last batches | loses nothing acknowledged |
# | deleted texts | on disk until `compact()` | on disk until `VACUUM` |
# | BM25 index | in the folder | a file of each machine |
#
# LlamaIndex has a class for either engine, too. With the versions of this course both keep an id twice and change a node
# in two steps, so ours speak to the engines themselves.
#
# ## The price of one changed passage
#
# BM25 weighs a word by how many passages hold it, so one changed passage touches the weights of all, and the next query
# makes the whole index again. We change one passage in ever larger stores. Which of the two curves rises faster?

# %% tags=["timing"]
growing = open_store(f"{folder}/growing", model)
price = price_of_a_change(growing, passages, [1000, 2000, 4000, 8000])
display(price.round(3), draw_curves({"seconds": price}, 8000, "this collection"))

# %% [markdown]
# Here this design loses: who changes and asks every second pays for a whole index each time. Collect changes.
#
# ## A thousand times the size
#
# With this slope the first query after a change would wait for minutes. Use instead:
#
# - **Words**: the engine's own full-text index, kept up with each change: LanceDB's `create_fts_index("text")`, or in
#   PostgreSQL an extension for BM25 (its own `ts_rank` is none).
# - **Vectors**: an index that looks at a part of them, HNSW or IVF, and finds nearly all: measure its recall.
# - **Loading**: batches of some thousands, for each batch is a transaction.
#
# ## Copy this
#
# Put a folder or a `postgresql://` address into `NVRERANK_STORE`, run this twice, and the second run embeds no text again.

# %% tags=["copy-this"]
import os
import tempfile
from llama_index.core.schema import TextNode
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.retrieval import open_store

connect()
my_texts = {"e42": "E42 means that the filter is full.", "rinse": "Rinse it with cold water."}
my_store = open_store(os.environ.get("NVRERANK_STORE") or tempfile.mkdtemp())
if not my_store.ids():
    my_store.add([TextNode(id_=name, text=text) for name, text in my_texts.items()])
my_found = my_store.retriever().retrieve("What is E42?")
print(NVIDIARerank(top_n=1).postprocess_nodes(my_found, query_str="What is E42?")[0].text)

# %% [markdown]
# ## Exercise 1
#
# The store `half` is as the killed program left it. Make it whole: it should hold all `passages`, without embedding any
# again that is there. Put the nodes that you add into `missing`.
#
# <details><summary>Hint 1</summary>
#
# `half.ids()` says what is there.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `add` refuses ids that are there, so choose before you add.
#
# </details>

# %%
# <starter> missing = ...
# <solution>
there = half.ids()
missing = [node for node in passages if node.node_id not in there]
if missing:  # nothing is, when this cell is run a second time
    half.add(missing)
# </solution>

# %% tags=["check"]
yes = "batches are whole, so the ids alone tell what is missing."
no = "half and passages must have the same ids, and missing must be what was added."
whole = half.ids("bm25") == {node.node_id for node in passages}
check(missing, lambda m: whole and len(m) < len(passages), right=yes, wrong=no)

# %% [markdown]
# ## Exercise 2
#
# A new edition arrives: some notes changed, some are new, some are gone. Bring `animals` up to date, and embed only what
# differs: put the ids that you embed into `embedded`.
#
# <details><summary>Hint 1</summary>
#
# `animals.get(ids)` gives the old nodes; compare their `text` with that of the new ones.
#
# </details>
# <details><summary>Hint 2</summary>
#
# New are the ids only in `edition`, gone are those only in `animals.ids()`.
#
# </details>

# %%
animals = open_store(tempfile.mkdtemp(), model)
animals.add([TextNode(id_=word, text=f"{word}, first edition") for word in ("ant", "bee", "cow")])
edition = {"bee": "bee, first edition", "cow": "cow, second edition", "dog": "dog, first edition"}
# <starter> embedded = ...
# <solution>
old = {id_: node.text for id_, node in animals.get(list(animals.ids())).items()}
changed = [id_ for id_ in edition if id_ in old and old[id_] != edition[id_]]
new = [id_ for id_ in edition if id_ not in old]
animals.change([TextNode(id_=id_, text=edition[id_]) for id_ in changed])
animals.add([TextNode(id_=id_, text=edition[id_]) for id_ in new])
animals.delete([id_ for id_ in old if id_ not in edition])
embedded = changed + new
# </solution>

# %% tags=["check"]
kept = {id_: node.text for id_, node in animals.get(sorted(animals.ids("bm25"))).items()}
done = "one was changed, one is new, one is gone, and the bee was left alone."
oops = "compare animals with edition, id by id."
check(embedded, lambda e: kept == edition and sorted(e) == ["cow", "dog"], right=done, wrong=oops)

# %% [markdown]
# ## Key points
#
# - One store is the truth, the other is derived from it and says from which state: so they cannot disagree for long.
# - A batch is a transaction. After a crash, look at the ids that are there and add the rest.
# - A store belongs to one embedding model; with another one it must be made anew.
# - Which database it is, is one line; when BM25 must be made again is what you feel first as it grows.
#
# ## Check yourself
#
# 1. A program dies after the database committed and before the BM25 file was written. Who repairs this, and when?
#
# <details><summary>Answer</summary>
#
# The next query or the next program: it sees that the file was made from an older state and makes it again from the
# texts, without embedding anything.
#
# </details>
#
# 2. Why is changing a node not the same as deleting it and adding it again?
#
# <details><summary>Answer</summary>
#
# Those are two transactions. Between them readers miss the node, and a program that dies there has lost it.
#
# </details>
#
# 3. Why does a store note which model made its vectors, when the number of dimensions can be seen?
#
# <details><summary>Answer</summary>
#
# Vectors of two models with the same dimensions can be compared without any error, and the ranking means nothing.
#
# </details>
