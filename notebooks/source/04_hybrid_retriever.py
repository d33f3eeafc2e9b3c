# %% [markdown]
# # Two stores, one reranker
#
# Real collections come from several places, and each place may have the store that suits it. This notebook queries two
# stores independently, joins what they find, lets a reranker decide, measures the gain, and answers with sources.

# %% [markdown]
# ## Two kinds of documents, two stores
#
# The documents are on your disk already. Docstrings of the standard library are short and full of names: a BM25 store
# matches their words. The language reference is long and explains: a vector store compares meanings. Each store ranks
# what it holds and knows nothing of the other, so putting both on one scale is the reranker's work.

# %% tags=["timing"]
from importlib.metadata import version

from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever, QueryFusionRetriever
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import compare, draw_gains, draw_moves, fit_judgments, measure
from nvrerank_helpers.evaluation import measure_each, run_search, show_grades
from nvrerank_helpers.lessons import check, nvidia_llm
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import HybridRetriever, MatchingBM25Retriever, StaticEmbedding
from nvrerank_helpers.retrieval import build_hybrid, make_search

print(f"LlamaIndex {version('llama-index-core')}, bm25s {version('bm25s')}")
connect()

# %%
docstrings, reference = load_passages(source="library"), load_passages(source="reference")
names = MatchingBM25Retriever(nodes=docstrings, similarity_top_k=50)
meanings = VectorStoreIndex(reference, embed_model=StaticEmbedding())
stores = {"docstrings": names, "reference": meanings.as_retriever(similarity_top_k=50)}

# %% [markdown]
# ## Each is asked alone
#
# Every question comes with judgments: a passage of grade 3 answers it, 2 answers a part, 1 helps. We take the test
# questions, which were not used to set anything up. This one names a class and asks for an explanation. Which store has
# the answer, the docstrings (first table) or the reference? And if both were sorted by score?

# %%
questions, _ = fit_judgments(load_questions("test"), docstrings + reference)
question = next(q for q in questions if q.text.startswith("When I look up an absent key"))
print(f"{len(questions)} questions, {len(docstrings + reference):,} passages\n\n{question.text}")
display(*[show_grades(store.retrieve(question.text), question) for store in stores.values()])

# %% [markdown]
# ## Joined
#
# Each store found a part, between passages that only look right, and their scores share no scale. LlamaIndex's classic
# `HybridRetriever`, from its example notebooks, appends one list to the other and drops what came twice. Ours gives a
# passage 1 / (60 + rank) for each list that holds it (reciprocal rank fusion). These two lists share nothing, so that
# merely takes turns. Where will the graded passages end up?

# %%
hybrid = HybridRetriever(stores, similarity_top_k=50)
joined = hybrid.retrieve(question.text)
reranker = NVIDIARerank(top_n=None)
reranked = reranker.postprocess_nodes(joined, query_str=question.text)
display(draw_moves(joined, reranked[:8]))
show_grades(reranked, question, top=8).round(2)

# %% [markdown]
# Each line is one of the eight best passages, drawn from its place in the joined list. The graded ones have gathered at
# the top, from both kinds of documents: a logit means the same wherever a passage comes from.
#
# ## LlamaIndex's `QueryFusionRetriever`
#
# One class, four ways to join:
#
# - `simple`, the default: each passage keeps its best raw score;
# - `reciprocal_rerank`: our rule, but ranks count from 0, and the 60 is fixed;
# - `relative_score` and `dist_based_score`: each list's scores are stretched to a common range.
#
# Guess for each: how many of the first ten come from the reference?

# %%
both, llm = list(stores.values()), nvidia_llm()
options = {"llm": llm, "num_queries": 1, "similarity_top_k": 50}
modes = ["simple", "reciprocal_rerank", "relative_score", "dist_based_score"]
fusions = {mode: QueryFusionRetriever(both, mode=mode, **options) for mode in modes}
for mode, fusion in fusions.items():
    ten = fusion.retrieve(question.text)[:10]
    share = sum(found.node.metadata["source"] == "reference" for found in ten)
    print(f"{mode:17}  best score {ten[0].score:6.3f}, {share} of ten from the reference")

# %% [markdown]
# A cosine never exceeds 1 and a BM25 score easily does, so with `simple` the reference cannot win, however good its
# passages are. Nothing fails and nothing warns.
#
# ## Three more traps
#
# What will these lines do? They leave out the LLM where none is needed, join a list that has the same text on two
# pages, and fuse the list of a retriever that keeps it, as a cache does.

# %%
try:
    QueryFusionRetriever(both, num_queries=1)
except ValueError as error:
    print(str(error).strip("* \n").partition("\n")[0])


# %%
class Remembering(BaseRetriever):
    def _retrieve(self, _):
        return kept


twin = reference[0].model_copy(update={"id_": "the same text, another page"})
pair = VectorStoreIndex([reference[0], twin], embed_model=StaticEmbedding()).as_retriever()
kept = pair.retrieve("truth")
before = [round(found.score, 3) for found in kept]
left = QueryFusionRetriever([Remembering()], mode="relative_score", **options).retrieve("truth")
print(f"{len(before)} passages went in, {len(left)} came out")
print(f"scores of the kept list: {before} before, {[found.score for found in kept]} after")

# %% [markdown]
# 1. Without `llm=` it takes LlamaIndex's default, OpenAI's, and stops where that has no key, though `num_queries=1`
#    needs none. (With the default of 4 queries, an LLM is asked to write three before every search.)
# 2. Twins are recognized by a hash of text and metadata, not by id: one of two sources can no longer be cited.
# 3. Scores are overwritten in the retriever's own list.
#
# ## All test questions
#
# One question proves nothing: `run_search` asks all test questions, `measure` compares with the judgments. Which rows will
# be the same, and what does reranking leave unchanged?

# %%
systems = {name: store.retrieve for name, store in stores.items()}
systems["classic"] = lambda query: [found for store in both for found in store.retrieve(query)]
systems |= {f"fusion, {mode}": fusion.retrieve for mode, fusion in fusions.items()}
systems |= {"joined": hybrid.retrieve, "reranked": make_search(hybrid, reranker)}
runs = {name: run_search(name, search, questions) for name, search in systems.items()}
table = measure(runs.values(), questions).drop(columns="milliseconds per question")
table.round(3)

# %%
print(compare(runs["joined"], runs["reranked"], questions))
difference = measure_each(runs["reranked"], questions) - measure_each(runs["joined"], questions)
draw_gains(difference, "nDCG@10 gained by reranking")

# %% [markdown]
# `classic` and `simple` rank as the docstrings do alone: the second store is there, and nobody sees it. Reranking keeps
# recall@50, for it adds nothing, and lifts the rest. Above the figure stand the mean gain, its 95 % interval
# and p: an interval above zero is hardly chance. Some questions lose; `06_measure_it` looks at them.
#
# ## An answer with sources
#
# Retriever, reranker and LLM make a query engine. The second question has no answer here: Python cannot do it. Will the
# engine say so, and will the best logit be lower?

# %%
engine = RetrieverQueryEngine.from_args(hybrid, llm, node_postprocessors=[NVIDIARerank(top_n=4)])
hopeless = next(q for q in load_questions("test") if q.text.startswith("forcibly stop a"))
for asked in (question, hopeless):
    answer = engine.query(asked.text)
    print(f"{asked.text}\n{llm.model} says:\n{answer}")
    display(show_grades(answer.source_nodes, asked).round(2))

# %% [markdown]
# The stand-in's LLM only quotes sentences of the four passages, with their source, and NVIDIA's writes its own. The first
# answer can be checked in its sources. The second may sound as sure, and none of its passages has a grade: a reranker
# always finds a best one, and its logit need not give it away. Show readers the sources.
#
# ## Copy this
#
# The whole pipeline for your own texts, both stores over all of them. It asks the service that your environment names.

# %% tags=["copy-this"]
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.lessons import nvidia_llm
from nvrerank_helpers.retrieval import build_hybrid

connect()
my_texts = ["E42 means that the filter is full.", "Rinse a full filter with cold water."]
my_hybrid = build_hybrid([TextNode(text=my_text) for my_text in my_texts])
my_steps = [NVIDIARerank(top_n=2)]
my_engine = RetrieverQueryEngine.from_args(my_hybrid, nvidia_llm(), node_postprocessors=my_steps)
print(my_engine.query("The display says E42. What does it mean?"))

# %% [markdown]
# ## Exercise 1
#
# A colleague writes `QueryFusionRetriever(both)` and wonders why the reference never shows. Write the line so that it
# joins by rank, sends each question only as it was asked, and returns 50 passages, as our `hybrid` does.
#
# <details><summary>Hint 1</summary>
#
# Three of its arguments have the wrong default, and one more must not be left out.
#
# </details>
# <details><summary>Hint 2</summary>
#
# They are `mode`, `num_queries`, `similarity_top_k` and `llm`.
#
# </details>

# %%
# <starter> mended = ...
# <solution>
mended = QueryFusionRetriever(
    both, llm, mode="reciprocal_rerank", num_queries=1, similarity_top_k=50
)
# </solution>


# %% tags=["check"]
goal = [found.node_id for found in joined]
yes = "the same 50 passages in the same order as from our hybrid."
no = "its list is not that of hybrid: look at mode, num_queries and similarity_top_k."
check(mended, lambda m: [n.node_id for n in m.retrieve(question.text)] == goal, right=yes, wrong=no)

# %% [markdown]
# ## Exercise 2
#
# Would more help? `build_hybrid(docstrings + reference)` puts **both** kinds into **both** stores. Rerank its lists for
# all test questions and compare with `runs["reranked"]`. Predict: is the interval above zero?
#
# <details><summary>Hint 1</summary>
#
# `run_search("everything", make_search(..., reranker), questions)` asks all questions.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `compare` takes the run before, the run after, and the questions.
#
# </details>

# %%
# <starter> everything = ...
# <starter> more = ...
# <solution>
everywhere = build_hybrid(docstrings + reference)
everything = run_search("everything", make_search(everywhere, reranker), questions)
more = compare(runs["reranked"], everything, questions)
# An interval that holds zero: two indexes over everything cost more and did not show that they gain more.
# </solution>

# %% tags=["check"]
old = runs["reranked"]
gained = f"{more}. Weigh that against a second index of everything."
order = "compare runs['reranked'] with everything, in this order."
check(more, lambda c: c == compare(old, everything, questions), right=gained, wrong=order)

# %% [markdown]
# ## Key points
#
# - Give each kind of document the store that suits it, and let the reranker put all on one scale.
# - How lists are joined decides what is among the candidates; raw scores of different stores must not be mixed.
# - With `QueryFusionRetriever` say `mode`, `num_queries`, `similarity_top_k` and `llm`, each time.
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
# 2. All candidates are reranked. Does it still matter how they were joined?
#
# <details><summary>Answer</summary>
#
# For their order no, for their choice yes: joining decides which 50 of the 100 the reranker gets to see.
#
# </details>
#
# 3. The answer quotes a passage correctly and is still wrong. Where do you look first?
#
# <details><summary>Answer</summary>
#
# At the sources and their logits. If the passage that answers is not among them, see whether the first stage found it;
# if it did not, no reranker and no LLM can help.
#
# </details>
