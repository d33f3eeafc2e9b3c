# %% [markdown]
# # Start here: what a reranker changes
#
# Retrieval finds passages that look like the question. A reranker compares each of them with the question closely and
# puts those that answer it first. Five passages are enough to see the difference.

# %% [markdown]
# ## Two stages
#
# The first stage must look at everything, so it has to be cheap: shared words, or vectors that were computed before
# the question was known. The reranker is far more careful and far more costly, so it only sees the few candidates
# that the first stage brings.

# %%
from importlib.metadata import version

from llama_index.core.schema import TextNode

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.connector import ModelRetired
from nvrerank_helpers.evaluation import compare_orders, draw_moves
from nvrerank_helpers.lessons import check
from nvrerank_helpers.retrieval import build_hybrid

print(f"nvrerank-helpers {version('nvrerank-helpers')}, LlamaIndex {version('llama-index-core')}")

# %% [markdown]
# ## Which service answers?
#
# `connect()` looks for your own NIM, then for an API key, and starts a small service on your machine when it finds
# neither. It points this program at what it chose, so that `NVIDIARerank()` needs no address. Call it first.

# %% tags=["timing"]
service = connect()
service

# %% [markdown]
# The table says what was chosen and why. The stand-in speaks the protocol of an NVIDIA NIM and ranks with a real but
# small model: it reads each text on its own and then compares word with word. NVIDIA's models read question and passage
# together and rank better, so the ideas carry over and the numbers do not.
#
# ## Five passages and a question
#
# Which of the five answers the question best, and which comes second? Decide before you go on. In LlamaIndex a
# passage is a node; its id will stand in the pictures.

# %%
question = "How do I delete a folder with everything inside?"
texts = {
    "list.clear": "list.clear removes everything inside the list.",
    "os.remove": "os.remove deletes one file.",
    "Path.mkdir": "pathlib.Path.mkdir makes a new folder, and the folders above it if wanted.",
    "shutil.rmtree": "shutil.rmtree removes a directory tree: files, subfolders and all.",
    "os.rmdir": "os.rmdir removes a directory that is empty.",
}
nodes = [TextNode(id_=name, text=text) for name, text in texts.items()]

# %% [markdown]
# ## The first stage
#
# `build_hybrid` puts the nodes into a store that matches words (BM25) and a store that compares vectors, and joins
# their two lists into one. Where do you expect the passage that you chose?

# %%
candidates = build_hybrid(nodes).retrieve(question)
for rank, found in enumerate(candidates, 1):
    print(rank, found.node.text)

# %% [markdown]
# The first stage follows surface: *folder*, *delete*, *everything* and *inside* are words of the question, while the
# passage that answers it says *directory tree* and *removes*. That is why the best answer is so low.
#
# ## The reranker
#
# `NVIDIARerank` sends the question and the candidates to the service in one request and gets a number for each
# passage, the logit. Higher is better. With `top_n=None` it returns all of them in their new order.

# %%
reranker = NVIDIARerank(top_n=None)
reranked = reranker.postprocess_nodes(candidates, query_str=question)
compare_orders(candidates, reranked).round(3)

# %% [markdown]
# Read the column `move`: ▲ went up, ▼ went down. The logit is a raw score without fixed bounds; only its order counts
# here, and a relevant passage may well have a negative one. The old score is still there, on its own scale.

# %%
draw_moves(candidates, reranked, labels=texts)

# %% [markdown]
# The same as a picture: blue lines rise, orange lines fall. The passage that deletes a folder with its contents is
# now first, and the one that deletes only an empty folder comes next.
#
# ## Where it does not help
#
# A reranker doesn't read minds. This question asks for the opposite: only `Path.mkdir` is right, since all the
# others remove something. Guess where it lands, then run the cell.

# %%
tricky = "Which of these does not delete anything?"
fooled = reranker.postprocess_nodes(candidates, query_str=tricky)
place = [found.node_id for found in fooled].index("Path.mkdir") + 1
print(f"Path.mkdir came out at place {place} of {len(fooled)}.")

# %% [markdown]
# If the place is not 1, the model that answered was led by the word *delete* and missed the *not*. Negation is a known
# weakness of small models. Look at results like this one before you trust an average.
#
# ## When a model is gone
#
# Hosted models are withdrawn over time. LlamaIndex's own class asks for the one below if you name none. What
# will happen: an empty list, an error of the network, or an answer from another model?

# %%
gone = "nvidia/nv-rerankqa-mistral-4b-v3"
try:
    NVIDIARerank(model=gone, base_url="https://ai.api.nvidia.com")
except ModelRetired as error:
    print(error)

# %% [markdown]
# A typed error, before anything is sent, that says what to use instead. All errors of a reranker are a `RerankError`
# with a hint like this one; `01` and `02` show the others.
#
# ## Copy this
#
# Reranking in your own project: put in your question and passages. It asks the service that your environment names.

# %% tags=["copy-this"]
from llama_index.core.schema import NodeWithScore, TextNode
from nvrerank_helpers import NVIDIARerank, connect

connect()
my_question = "Which animal sleeps standing up?"
my_texts = ["Bats sleep upside down.", "A horse can sleep on its feet.", "Cats nap a lot."]
my_nodes = [NodeWithScore(node=TextNode(text=my_text)) for my_text in my_texts]
for my_best in NVIDIARerank(top_n=2).postprocess_nodes(my_nodes, query_str=my_question):
    print(round(my_best.score, 2), my_best.node.text)

# %% [markdown]
# ## Exercise 1
#
# How many of the five passages moved **up** for the first question? Count in the table or in the picture.
#
# <details><summary>Hint</summary>
#
# Blue lines with ▲ are those that moved up.
#
# </details>

# %%
# <starter> moved_up = ...
# <solution>
# The column "move" begins with ▲ where a passage went up.
moved_up = compare_orders(candidates, reranked)["move"].str.startswith("▲").sum()
# </solution>

# %% tags=["check"]
rose = sum(found.metadata["first_stage_rank"] > rank for rank, found in enumerate(reranked, 1))
check(moved_up, rose, right="their rank before was larger.", wrong="count the lines that rise.")

# %% [markdown]
# ## Exercise 2
#
# In a real pipeline only the best few passages go on to the language model. Make a reranker that keeps **two**, and
# rerank the candidates for the first question with it.
#
# <details><summary>Hint</summary>
#
# `top_n` says how many nodes come back. The call is the same as above.
#
# </details>

# %%
# <starter> best_two = ...
# <solution>
best_two = NVIDIARerank(top_n=2).postprocess_nodes(candidates, query_str=question)
# </solution>

# %% tags=["check"]
check(
    best_two,
    reranked[:2],
    right="the two best of the same order, and nothing else.",
    wrong="pass top_n=2 and rerank the candidates for the variable question.",
)

# %% [markdown]
# ## Key points
#
# - The first stage is cheap and looks at everything; the reranker is careful and looks at a few candidates.
# - `NVIDIARerank(top_n=4)` is the same line for the API catalog, your own NIM and the stand-in.
# - A logit orders passages for one question; it is not a probability.
# - Reranking does not repair everything: negation is an example.
#
# To run the cells yourself from a clean page, choose *Kernel → Restart Kernel and Clear Outputs of All Cells*.
#
# Which way from here? With a key, or to get one: `01` and `02`. With a NIM of your own: `03`. With neither: `04` to `06`
# need nothing more.
#
# ## Check yourself
#
# 1. Why not let the reranker look at every passage that you have?
#
# <details><summary>Answer</summary>
#
# It compares each passage closely with the question, so its cost grows with the number of passages. A model that reads
# the two together can compute nothing before the question is known; over thousands of passages that takes too long.
#
# </details>
#
# 2. A passage that the first stage did not find is the only right one. What can the reranker do?
#
# <details><summary>Answer</summary>
#
# Nothing: it only reorders what it is given. The first stage sets the ceiling.
#
# </details>
#
# 3. Passage A has logit −1.2 and passage B has logit −8.0. Is A relevant?
#
# <details><summary>Answer</summary>
#
# A is more relevant than B for this question. Whether it is relevant at all cannot be read from the number alone.
#
# </details>
