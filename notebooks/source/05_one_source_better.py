# %% [markdown]
# # One source, sharpened
#
# Retrieve 50, keep 5: with a single store, too, a reranker puts the best passages first. How many candidates are worth
# their time, how long a passage should be, and which metadata should be sent: this notebook measures all three.

# %% [markdown]
# ## One source
#
# The language reference is one book in one vector store. Settings are chosen on the development questions; the test
# questions stay untouched until the first exercise. Only questions that the book answers take part: those with a
# passage of grade 3 in it.

# %% tags=["timing"]
import os
from importlib.metadata import version

import pandas as pd
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import MetadataMode, TextNode

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import draw_curves, find_knee, find_worst, keep_answered, measure
from nvrerank_helpers.evaluation import measure_by_count, measure_coverage, measure_latency
from nvrerank_helpers.evaluation import run_search, truncate_candidates
from nvrerank_helpers.lessons import check
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import StaticEmbedding, make_search

os.environ["NVRERANK_KEPT_VECTORS"] = "0"  # no vectors of earlier runs, so times are comparable
print(f"llama-index-core {version('llama-index-core')}, ir-measures {version('ir-measures')}")
connect()

# %%
nodes = load_passages(source="reference")
store = VectorStoreIndex(nodes, embed_model=StaticEmbedding()).as_retriever(similarity_top_k=100)
questions = keep_answered(load_questions("development"), nodes)
print(f"{len(nodes)} passages, {len(questions)} development questions")

# %% [markdown]
# ## Copy this
#
# The whole pattern in one cell, for your own project: put in your passages, your query and your embedding. The store
# brings 50 candidates, or as many as it has, and the reranker keeps five.

# %% tags=["copy-this"]
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.retrieval import StaticEmbedding

my_texts = ["A list keeps its order.", "A set drops duplicates.", "A tuple cannot change."]
my_query = "Which collection holds each value only once?"
my_index = VectorStoreIndex(
    [TextNode(text=text) for text in my_texts], embed_model=StaticEmbedding()
)
my_candidates = my_index.as_retriever(similarity_top_k=50).retrieve(my_query)
for my_hit in NVIDIARerank(top_n=5).postprocess_nodes(my_candidates, query_str=my_query):
    print(f"{my_hit.score:6.2f}  {my_hit.node.get_content()}")

# %% [markdown]
# ## The price
#
# A reranker reads every candidate. How much longer will 100 take than 10? Each measurement takes passages that the
# service has not seen yet, because the stand-in remembers those that it has.

# %% tags=["timing"]
reranker = NVIDIARerank(top_n=None)
counts = [5, 10, 20, 30, 50, 100]
price = measure_latency(reranker, questions[0].text, nodes, counts, rounds=2)
price.round(0).to_frame()

# %% [markdown]
# Time grows about as fast as the number of candidates. Does quality keep up? A passage's score does not depend on the
# others, so 100 are reranked once and every smaller number follows exactly. Draw the two curves in your mind first.

# %%
candidates = run_search("vector", store.retrieve, questions)
reranked = run_search("reranked", make_search(store, reranker), questions)
quality = measure_by_count(reranked, candidates, questions, counts)[["nDCG@10", "recall@50"]]
quality.round(3)

# %% tags=["timing"]
marked = find_knee(quality["nDCG@10"])
draw_curves({"quality": quality, "milliseconds": price.to_frame("time")}, marked, f"knee: {marked}")

# %% [markdown]
# recall@50 is what is within reach, nDCG@10 what the order makes of it. Both climb steeply at first; time goes on rising.
# The dashed line marks the knee: the point of nDCG@10 that is highest above the straight line between its ends.
#
# ## Where more hurts
#
# The mean hides the questions for which more candidates are worse. Do you expect any that lose nDCG@10 when 100 are
# reranked and not 10?

# %%
losers = find_worst(truncate_candidates(reranked, candidates, 10), reranked, questions)
losers.drop(columns="best passage").round(2)

# %% [markdown]
# `before` and `after` are the ranks of the best judged passage, with 10 and with 100 candidates. `now first` may be a
# look-alike that only the longer list brought in: each additional candidate is one more chance to be fooled.
#
# ## How long should a passage be?
#
# The judgments name passages of at most 1,000 characters. Other lengths need a fair way to carry them over: the same
# text is reranked for each (25,000 characters), and the same room is read of each result (5,000).

# %%
lengths = {}
for size in (300, 1000, 3000):
    chunks = load_passages(size, source="reference")
    near = VectorStoreIndex(chunks, embed_model=StaticEmbedding())
    search = make_search(near.as_retriever(similarity_top_k=25_000 // size), reranker)
    found = run_search(str(size), search, questions)
    lengths[size] = measure_coverage(found, questions, chunks=chunks, passages=nodes).mean()
pd.DataFrame(lengths).T.rename_axis("characters a passage").round(3)

# %% [markdown]
# *Judged text* counts the judged characters in that room, each times its grade. It favours the length that was judged:
# of a short chunk, only its own characters count. *A piece* asks for 100 characters of an answer and favours short
# chunks; *half an answer* is between. Where the columns disagree, the length is a question of what you need.
#
# ## What is sent with it?
#
# `metadata_mode` decides that. Here the chapter moves from the text into the metadata, beside facts about a file.

# %%
rich = []
for node in nodes:
    title, _, text = node.text.partition("\n")
    facts = {"chapter": title, "file_name": f"{title}.txt", "file_size": len(text)}
    file = ["file_name", "file_size"]
    rich.append(
        TextNode(id_=node.id_, text=text, metadata=facts, excluded_embed_metadata_keys=file)
    )
for mode in (MetadataMode.NONE, MetadataMode.EMBED, MetadataMode.ALL):
    print(f"{mode.name}:  {rich[0].get_content(mode)[:90]!r}")

# %%
rich_store = VectorStoreIndex(rich, embed_model=StaticEmbedding()).as_retriever(similarity_top_k=20)
sent = {
    mode.name: make_search(rich_store, NVIDIARerank(top_n=None, metadata_mode=mode))
    for mode in (MetadataMode.NONE, MetadataMode.EMBED, MetadataMode.ALL)
}
modes = measure([run_search(name, search, questions) for name, search in sent.items()], questions)
modes[["nDCG@10", "MRR@10", "hit@1"]].round(3)

# %% [markdown]
# `NVIDIARerank` sends `EMBED` unless told otherwise: what the store has embedded. Compare these differences with those
# between the numbers of candidates; with so few questions, hundredths say nothing. What `ALL` adds is silent about the
# question, yet costs tokens.
#
# ## Exercise 1
#
# Does the knee hold on questions that had no say in it? On the test questions, which **share** of the nDCG@10 that 100
# candidates gain over the store's own order does the knee keep?
#
# <details><summary>Hint 1</summary>
#
# `trial` has three rows. The gain of a row is its nDCG@10 less that of the row `vector`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `ndcg = trial["nDCG@10"]` lets you write `ndcg[str(marked)]`, `ndcg["100"]` and `ndcg["vector"]`.
#
# </details>

# %%
fresh = keep_answered(load_questions("test"), nodes)
first, full = (
    run_search("vector", store.retrieve, fresh),
    run_search("all", make_search(store, reranker), fresh),
)
trial = measure(
    [first, truncate_candidates(full, first, marked), truncate_candidates(full, first, 100)], fresh
)
# <starter> share_kept = ...
# <solution>
ndcg = trial["nDCG@10"]
share_kept = (ndcg[str(marked)] - ndcg["vector"]) / (ndcg["100"] - ndcg["vector"])
# </solution>

# %% tags=["check"]
gained = trial["nDCG@10"] - trial.at["vector", "nDCG@10"]
kept = float(gained.iloc[1] / gained.iloc[2])
check(share_kept, kept, right="near 1, the knee holds.", wrong="divide one gain by the other.")

# %% [markdown]
# ## Exercise 2
#
# A service that counts tokens counts metadata too. Over all passages of `rich`: which share of the characters that
# `ALL` sends is metadata, so is not sent with `NONE`?
#
# <details><summary>Hint</summary>
#
# `sum(len(node.get_content(MetadataMode.ALL)) for node in rich)` is the whole; the same with `NONE` is the text alone.
#
# </details>

# %%
# <starter> metadata_share = ...
# <solution>
everything = sum(len(node.get_content(MetadataMode.ALL)) for node in rich)
text_alone = sum(len(node.get_content(MetadataMode.NONE)) for node in rich)
metadata_share = 1 - text_alone / everything
# </solution>

# %% tags=["check"]
sizes = [sum(len(node.get_content(mode)) for node in rich) for mode in ("none", "all")]
paid = 1 - sizes[0] / sizes[1]
check(metadata_share, paid, right="you pay for it in every query.", wrong="what does ALL add?")

# %% [markdown]
# ## Key points
#
# - Quality rises with the number of candidates and flattens; time goes on rising. Choose near the knee, on questions
#   that you do not report on.
# - A judgment belongs to a stretch of text: compare chunk sizes by what can be read of it in the same room.
# - Send metadata that says what the text is about, and nothing else.
#
# ## Check yourself
#
# 1. Why could the results for 5 to 50 candidates be derived from one run over 100?
#
# <details><summary>Answer</summary>
#
# The reranker scores each passage on its own. Without the later candidates, the others keep their scores and their order.
#
# </details>
#
# 2. A colleague halves the chunk size, keeps five chunks, and finds that nDCG@5 has changed. What is wrong with that?
#
# <details><summary>Answer</summary>
#
# Five short chunks are less text than five long ones, and the judgments are for other units. Compare the same amount of
# text, both for the reranker to read and for the language model.
#
# </details>
#
# 3. Your latency budget allows 20 candidates and the knee is at 50. What do you do first?
#
# <details><summary>Answer</summary>
#
# Improve the first stage, so that what is relevant is among the first 20: recall at 20 is the ceiling of what the
# reranker can give you.
#
# </details>
