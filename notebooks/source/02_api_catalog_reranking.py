# %% [markdown]
# # Ask the API catalog
#
# One line makes a reranker. This notebook shows what is behind it: which model answers, what its numbers mean, what
# happens to long passages, and how far the free tier goes. Failures are shown on a catalog of the lesson's own, so that
# they are the same with a key and without.

# %%
import asyncio
import time
from importlib.metadata import version

import pandas as pd
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.connector import CATALOG, CATALOG_ADDRESS, ModelRetired, PassageTooLong
from nvrerank_helpers.connector import RateLimited, sigmoid
from nvrerank_helpers.evaluation import collect_judged_logits, draw_thresholds, measure_kept
from nvrerank_helpers.lessons import MockCatalog, check
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid

print(f"llama-index-core {version('llama-index-core')}, httpx {version('httpx')}")

# %% tags=["timing"]
connect()

# %% [markdown]
# ## One line
#
# `NVIDIARerank(top_n=4)` sends the question with all the passages and keeps the best four. Here are six, from Python's
# own documentation. Which two will be left out, and which of the others comes first?

# %%
question = "I need the items of a list in ascending order, as a new list"
names = ["list.copy", "list.sort", "math.sqrt", "random.shuffle", "reversed", "sorted"]
six = [NodeWithScore(node=node) for node in load_passages() if node.node_id in names]
reranker = NVIDIARerank(top_n=4)
best = reranker.postprocess_nodes(six, query_str=question)
print(f"{reranker.last_call.requests} request, {reranker.last_call.tokens} tokens")
pd.Series({hit.node_id: hit.score for hit in best}, name="logit").round(2).to_frame()

# %% [markdown]
# The question is sent with each passage, and the tokens of all these pairs are counted: `last_call` has the sum.
#
# ## Which model answers?
#
# The catalog has an address for each model and no list of its rerankers, so the connector carries a table. An old model
# ends for everybody on one day. What will a program see that still asks for it?

# %%
table = pd.DataFrame(CATALOG.values()).set_index("id").fillna("")
table[["status", "end_of_life", "token_limit", "passage_limit", "images"]]

# %%
old, lesson = "nvidia/llama-3.2-nv-rerankqa-1b-v2", MockCatalog()
try:
    NVIDIARerank(model=old, base_url=CATALOG_ADDRESS)
except ModelRetired as error:
    print(f"Before anything is sent: {error}\n")
try:
    lesson.reranker(model=old).postprocess_nodes(six, query_str=question)
except ModelRetired as error:
    print(f"Asked all the same: {error.args[0]}\n  {error.hint}")

# %% [markdown]
# The first message costs no request and names the replacement. Leave `model` out, and the table's current one is
# asked; `allow_retired=True` asks in spite of the table.
#
# ## What the numbers mean
#
# A logit has no bounds and no unit. The sigmoid squeezes it into 0 to 1; NVIDIA's RAG blueprint divides by 10 first.
# Which of the columns would you trust to say "this passage is relevant"?

# %%
hits = NVIDIARerank(top_n=None).postprocess_nodes(six, query_str=question)
logit = pd.Series({hit.node_id: hit.score for hit in hits})
tenth = logit.map(lambda one: sigmoid(one, 10))
pd.DataFrame({"logit": logit, "sigmoid": logit.map(sigmoid), "of logit / 10": tenth}).round(2)

# %% [markdown]
# All three columns have the same order, so ranking needs no sigmoid. They differ where a number is compared with a
# threshold: 0.4 means something else in each.
#
# ## Many queries at once
#
# To judge thresholds we need many answers. `apostprocess_nodes` waits without blocking, and nine retries outlast a full
# minute on the free tier. How long will thirty queries take, at once, if a service far away needs half a second each?

# %% tags=["timing"]
questions = load_questions("development")[:30]
hybrid = build_hybrid(load_passages(), similarity_top_k=30)
found = {asked.id: hybrid.retrieve(asked.text) for asked in questions}
ranking, far = NVIDIARerank(top_n=None, max_retries=9), lesson.reranker("nvapi-far")
calls = [ranking.apostprocess_nodes(found[q.id], query_str=q.text) for q in questions]
lists = dict(zip(found, await asyncio.gather(*calls), strict=True))
logits = collect_judged_logits(lists, questions)
with lesson.control.faults("delay=fixed seconds=0.5"):
    started = time.perf_counter()
    await asyncio.gather(*(far.apostprocess_nodes(six, query_str=q.text) for q in questions))
    seconds = time.perf_counter() - started
print(f"{len(logits)} logits. Far away, thirty at once: {seconds:.1f} s")

# %% [markdown]
# Sequentially they take fifteen seconds; at once they wait together.
#
# ## Where a threshold does not help
#
# Now the logits of the judged passages: blue for those that help to answer, orange for all others. A sigmoid of ½ is a
# logit of 0, where many would cut. Will that separate the two?

# %%
display(draw_thresholds(logits, 0))
measure_kept(logits, [-10, -8, -6, -5, -4, -3, -2, 0, 2, 5]).map("{:.0%}".format)

# %% [markdown]
# Blue lies further right, which is why ranking works. But the two overlap: each threshold that drops most of the orange
# drops good passages too, and where to cut depends on the model. Choose with judged questions of your own, or keep a
# fixed number.
#
# ## Long passages
#
# Question and passage together must fit into the model. One fact is sent alone, before much other text, and behind it. What
# remains of it?

# %%
when, fact = "When does the library open?", "The library opens at eight in the morning. "
ferry = 1_500 * "The ferry leaves at noon again. "
passages = {"alone": fact, "before the rest": fact + ferry, "behind the rest": ferry + fact}
long = [NodeWithScore(node=TextNode(id_=where, text=text)) for where, text in passages.items()]
try:
    lesson.reranker(truncate="NONE").postprocess_nodes(long, query_str=when)
except PassageTooLong as error:
    print(f"NONE: {error.args[0]}\n  {error.hint}")
cutting = lesson.reranker(truncate="END", top_n=None)
places = {hit.node_id: hit.score for hit in cutting.postprocess_nodes(long, query_str=when)}
print(f"END: {cutting.last_call.tokens:,} tokens for the three passages")
pd.Series(places, name="logit").round(2).to_frame()

# %% [markdown]
# With `NONE` one long passage makes the whole request an error. `END`, our default, cuts at the limit of 8,192 tokens a
# passage, and the fact behind it is gone without a word. Short nodes are the cure.
#
# ## The free tier
#
# It answers a number of requests a minute and then says 429. How many? And how many minutes do 10,000 take?

# %%
hasty, answers = lesson.reranker("nvapi-hasty", max_retries=0), []
try:
    while len(answers) < 1000:
        answers.append(hasty.postprocess_nodes(six, query_str=question))
except RateLimited as error:
    print(f"{len(answers)} answers, then: {error.args[0]}\n  {error.hint}")
patient = lesson.reranker("nvapi-calm")
with lesson.control.faults("status=429 retry-after=1 times=2"):
    patient.postprocess_nodes(six, query_str=question)
print(f"Told when to come back: {patient.last_call.retries} retries, then an answer")
lasts = {n: (n - 1) // len(answers) for n in (40, 1_000, 10_000)}
pd.DataFrame({"requests": lasts.keys(), "minutes": lasts.values()}).set_index("requests")

# %% [markdown]
# Where a service says when to come back, the connector waits, up to 30 seconds. The catalog's 429 does not say so:
# after three tries in about two seconds the connector gives up. Pace long runs yourself.
#
# ## Copy this
#
# Everything above in one cell for your own project:

# %% tags=["copy-this"]
from llama_index.core.schema import NodeWithScore, TextNode
from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.connector import RerankError

my_texts = ["A list keeps its order.", "A set drops duplicates.", "A tuple cannot change."]
my_nodes = [NodeWithScore(node=TextNode(text=text)) for text in my_texts]
my_reranker = NVIDIARerank(top_n=2, truncate="END", max_retries=5, deadline=60)
try:
    for my_hit in my_reranker.postprocess_nodes(my_nodes, query_str="Which one has no doubles?"):
        print(f"{my_hit.score:6.2f}  {my_hit.node.get_content()}")
except RerankError as my_error:
    print(my_error)  # what happened and what to do; RateLimited, ModelRetired … are its kinds

# %% [markdown]
# ## Exercise 1
#
# The blueprint advises to keep what scores at least 0.3 on its scale, the sigmoid of the logit divided by 10. What
# share of the **relevant** passages, 0 to 1, does that keep here? Then look at what a plain sigmoid would keep.
#
# <details><summary>Hint 1</summary>
#
# `good = logits.loc[logits["kind"] == "relevant", "logit"]` are the logits of the relevant passages.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `sigmoid(logit, 10)` divides first. The mean of a column of true and false is the share of true.
#
# </details>

# %%
# <starter> share = ...
# <solution>
good = logits.loc[logits["kind"] == "relevant", "logit"]
share = (good.map(lambda logit: sigmoid(logit, 10)) >= 0.3).mean()
# The same 0.3 on a plain sigmoid: (good.map(sigmoid) >= 0.3).mean()
# </solution>

# %% tags=["check"]
shares = measure_kept(logits, [-8.473, -0.847])["relevant"]  # 0.3 on both scales
why = f"a plain 0.3 would keep {shares.iloc[1]:.0%} of them."
check(share, float(shares.iloc[0]), right=why, wrong="divide by 10, relevant ones only.")

# %% [markdown]
# ## Exercise 2
#
# A request takes at most 512 passages; the connector splits longer lists and joins the answers. Rerank these 1,300 with
# a reranker of the lesson's catalog. How many requests did that take? Guess first, then read it from `last_call`.
#
# <details><summary>Hint</summary>
#
# `lesson.reranker(top_n=4)` makes the reranker; its `last_call.requests` has the number after the call.
#
# </details>

# %%
many = [NodeWithScore(node=TextNode(text=f"{n} squared is {n * n}.")) for n in range(1300)]
# <starter> requests_made = ...
# <solution>
squares = lesson.reranker(top_n=4)
squares.postprocess_nodes(many, query_str="What is 36 squared?")
requests_made = squares.last_call.requests
# </solution>

# %% tags=["check"]
check(requests_made, 3, right="512, 512 and 276.", wrong="1,300 / 512, rounded up.")

# %% [markdown]
# ## Key points
#
# - Leave `model` out to get the live one; a retired one answers 410, and the connector tells so before it asks.
# - Logits order passages. A threshold belongs to one model and one scale, and is chosen with judged questions.
# - `truncate="END"` cuts silently, `"NONE"` refuses; lists of any length are sent in requests of at most 512 passages.
# - The free tier counts requests: one request with many passages is cheaper than many with few.
#
# ## Check yourself
#
# 1. A relevant passage has a sigmoid of 0.2. Is the model wrong?
#
# <details><summary>Answer</summary>
#
# No: the sigmoid is no probability, and nothing says that relevant passages lie above ½. Only the order counts.
#
# </details>
#
# 2. You rerank 50 candidates for each of 2,000 queries. Does a larger batch size shorten that on the free tier?
#
# <details><summary>Answer</summary>
#
# No. 50 passages are one request already, so there are 2,000 requests, at the number a minute that was seen above.
#
# </details>
#
# 3. Your token count is the model's limit, exactly, for many queries. What should you suspect?
#
# <details><summary>Answer</summary>
#
# Passages are being cut. Ask one of them with `truncate="NONE"`: the refusal tells how long it is.
#
# </details>
