# %% [markdown]
# # Two stores, one reranker
#
# Exact names are found by words, descriptions by meaning. This notebook puts two kinds of documentation into a BM25
# store and a vector store, joins what both find, lets a reranker decide, and measures what every step gains.

# %% [markdown]
# ## The idea
#
# Each store has blind spots: BM25 needs a shared word, static vectors blur rare names. Asking both raises the chance
# that the answer is among the candidates. Which of the candidates comes first is then the reranker's business.

# %% tags=["timing"]
from importlib.metadata import version

import pandas as pd

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.charts import before_and_after, gains
from nvrerank_helpers.evaluation import judged, measure, measure_each, present, run, side_by_side
from nvrerank_helpers.exercises import check
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid

print(f"bm25s {version('bm25s')}, faiss {version('faiss-cpu')}")
connect()

# %% [markdown]
# ## Two kinds of documents, two stores
#
# The corpus is on your disk already: the docstrings of the standard library (short, full of names) and the language
# reference (long, full of explanations), as `help()` shows them. `build_hybrid` puts them into a BM25 store and a
# vector store, and joins the two in a `HybridRetriever`.

# %%
nodes = load_passages()
hybrid = build_hybrid(nodes, similarity_top_k=50)
pd.Series([node.metadata["source"] for node in nodes], name="passages").value_counts()

# %% [markdown]
# ## Asked separately
#
# Every question of the course comes with judgments: which passages answer it, and how well. Half of the questions were
# used to set things up; these here are the other half, the test questions. We begin with one of them and ask BM25 alone.

# %%
questions, left_out = present(load_questions("test"), nodes)
question = next(q for q in questions if q.text.startswith("What does a function return if"))
print(
    f"{len(questions)} questions; {left_out} judged passages are not in this Python\n\n{question.text}"
)
judged(hybrid.retrievers["bm25"].retrieve(question.text), question)

# %% [markdown]
# The column `grade` holds what was judged by reading: 3 answers the question, 2 answers a part of it, 1 helps, 0 does
# not. Now the vector store gets the same question. How many of these five do you expect to meet again?

# %%
judged(hybrid.retrievers["vector"].retrieve(question.text), question)

# %% [markdown]
# ## Joined
#
# BM25 scores and cosines have no common scale, so the retriever joins ranks: a passage earns 1 / (60 + rank) from each
# list that has it (reciprocal rank fusion). Two middling ranks beat one good rank. The metadata keeps where a passage
# came from, and none of it is sent to a model.

# %%
fused = hybrid.retrieve(question.text)
origin = pd.DataFrame([node.metadata for node in fused[:10]], index=[n.node_id for n in fused[:10]])
origin["grade"] = [question.relevant.get(id_, 0) for id_ in origin.index]
origin[["grade", "bm25_rank", "vector_rank"]]

# %% [markdown]
# Look at the rows with a grade. Joining has its price too: a passage that one store ranked high and the other low sinks
# below passages that both found so-so. Which ranks will the reranker give to the graded ones?

# %%
reranker = NVIDIARerank(top_n=None)
reranked = reranker.postprocess_nodes(fused, query_str=question.text)
display(before_and_after(fused, reranked[:8]))
judged(reranked, question)

# %% [markdown]
# Each line is one of the eight best passages, drawn from its fused rank. In the table the graded ones stand on top: they
# had been found, but below passages that only look like the question.
#
# ## All test questions
#
# One question proves nothing. `run` asks every test question, `measure` compares with the judgments. nDCG@10 rewards high grades on top, MRR@10 an early first hit, hit@1 a hit in first place;
# recall@50 is the share of the judged passages that are among the first 50. Which of these can reranking change?

# %%
searches = {name: store.retrieve for name, store in hybrid.retrievers.items()}
searches["fused"] = hybrid.retrieve
searches["reranked"] = lambda query: reranker.postprocess_nodes(
    hybrid.retrieve(query), query_str=query
)
runs = {name: run(name, search, questions) for name, search in searches.items()}
table = measure(runs.values(), questions)
quality = table.drop(columns="milliseconds per question")
quality.round(3)

# %% tags=["timing"]
table["milliseconds per question"].round(1).to_frame()

# %% [markdown]
# Joining brings more of the judged passages into reach (recall@50), but not by itself to the top. Reranking raises the
# other three and leaves recall@50 alone: the same passages in another order. The second table has the price. The
# stand-in remembers passages, so a second run is faster; a NIM's model reads question and passage together each time.
#
# ## Who gains, who loses?
#
# A mean can hide anything. Here is the difference in nDCG@10 for every single question, sorted. Do you expect losses?

# %%
difference = measure_each(runs["reranked"], questions) - measure_each(runs["fused"], questions)
gains(difference, "nDCG@10 gained by reranking")

# %%
worst = next(q for q in questions if q.id == difference.idxmin())
moves = side_by_side(hybrid.retrieve(worst.text), searches["reranked"](worst.text))
print(f"{worst.text}  ({difference.min():+.2f})")
moves[moves["passage"].isin(worst.relevant)].round(3)

# %% [markdown]
# Most questions gain and a few lose; the table shows where the graded passages of the one that lost most went. Those
# that do not move are mostly questions for which nothing that was judged had been found: no order helps there.

# %% [markdown]
# ## Exercise 1
#
# The reranker's ceiling: for how many of the test questions is **no** passage of grade 3 among the 50 fused candidates?
#
# <details><summary>Hint 1</summary>
#
# `runs["fused"].ranked[q.id]` holds the ids of the candidates of a question, `q.relevant` its grades.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `any(q.relevant.get(id_) == 3 for id_ in runs["fused"].ranked[q.id])` is true where there is one.
#
# </details>

# %%
# <starter> out_of_reach = ...
# <solution>
found = [any(q.relevant.get(id_) == 3 for id_ in runs["fused"].ranked[q.id]) for q in questions]
out_of_reach = found.count(False)
# </solution>

# %% tags=["check"]
missed = sum(3 not in map(q.relevant.get, runs["fused"].ranked[q.id]) for q in questions)
check(out_of_reach, missed, right="no reranker can answer these.", wrong="who has no grade 3?")

# %% [markdown]
# ## Exercise 2
#
# Does reranking need all 50 candidates? Rerank only the first **10** of the fused list for every test question and
# compute its nDCG@10. Predict first: more, less, or the same as with 50?
#
# <details><summary>Hint</summary>
#
# Copy the line that defines `searches["reranked"]`, cut the list with `[:10]`, and use `run` and `measure` as above.
#
# </details>

# %%
# <starter> ndcg_of_ten = ...
# <solution>
ten = run(
    "ten",
    lambda query: reranker.postprocess_nodes(hybrid.retrieve(query)[:10], query_str=query),
    questions,
)
ndcg_of_ten = measure([ten], questions)["nDCG@10"].item()
# </solution>

# %% tags=["check"]
check(
    ndcg_of_ten,
    lambda value: quality["nDCG@10"]["fused"] < value < quality["nDCG@10"]["reranked"],
    right="better than not reranking, but answers below rank 10 stay out of reach.",
    wrong="it should lie between the fused list and the reranked one: cut the candidates.",
)

# %% [markdown]
# ## Key points
#
# - Two stores of different kind find more together than either alone; joining ranks needs no common scale.
# - The first stage sets the ceiling (recall), the reranker decides the order below it (nDCG, MRR, hit@1).
# - The gain has a price in time, and some questions lose: measure both on your own questions.
#
# ## Check yourself
#
# 1. Why does `HybridRetriever` add reciprocal ranks and not scores?
#
# <details><summary>Answer</summary>
#
# A BM25 score may be 7 and a cosine 0.4: added up, BM25 alone would decide. Ranks mean the same in both lists.
#
# </details>
#
# 2. recall@50 did not change by reranking 50 candidates. Could recall@10 have changed?
#
# <details><summary>Answer</summary>
#
# Yes: passages move from below rank 10 into the first ten. Only the set of all 50 stays the same.
#
# </details>
#
# 3. A colleague reports a higher nDCG@10 on the questions that she used to choose the settings. What do you ask?
#
# <details><summary>Answer</summary>
#
# For the figure on questions that were not used for choosing. That is why the questions here are split into
# development and test.
#
# </details>
