# %% [markdown]
# # Swap it into your project
#
# Your LlamaIndex project reranks with NVIDIA's models already. Here you replace the class behind that line by the one of
# this course, see what changes and what does not, and decide what your program does when the service fails.

# %% [markdown]
# ## Two lines
#
# Install the package into your project (`pip install /path/to/the/clone`), or copy its folder
# `nvrerank_helpers/connector` under a name of your choice. Then change the import. The rest stays the same, wherever
# LlamaIndex takes a node postprocessor.
#
# ```python
# # before
# from llama_index.postprocessor.nvidia_rerank import NVIDIARerank
# # after
# from nvrerank_helpers import NVIDIARerank
#
# reranker = NVIDIARerank(top_n=4)
# ```
#
# `model`, `base_url`, `api_key`, `nvidia_api_key`, `top_n`, `max_batch_size`, `truncate` and `http_client` are the same
# arguments. These differences are deliberate:
#
# | | release 0.7.0 of the class that you have | this course's class |
# | --- | --- | --- |
# | an unknown argument, such as a misspelled one | ignored | refused, by name |
# | `truncate`, unless you set it | not sent: one long passage may fail the call | `"END"`: long passages are cut |
# | default model of the API catalog | one that answers 404, as users report | a live one; a retired model is refused |
# | making the object | asks your own service for its models, and not through `http_client` | asks only if you name no model |
# | a model that your own service doesn't list | `ValueError` when you make the object; accepted if the class knows the name | `NotFound` at the first call |
# | "Default model is set as" | a warning if you name no model for your own service | a warning only if the service lists several |
# | requests | by httpx | by aiohttp, unless you pass `http_client` |
# | `timeout=` | accepted, no effect: always 5 s | seconds for each wait; `deadline=` for the whole call |
# | after 429, 503, a broken connection | no second try | tried again, and `Retry-After` is obeyed |
# | several batches | of 64 passages, sequentially | of 512, up to `max_concurrency` at once |
# | errors of the service | `HTTPStatusError`, without its words | a class for each cause, with its words and what to do |
# | an answer that is unsorted or incomplete | trusted | sorted, or refused |
# | `top_n=None` | allowed by its type, fails when called | returns all |
# | a key in the environment | goes to every host | goes to NVIDIA's API catalog only |
# | a key that contains blanks, or is a placeholder | sent | refused |
# | `NVIDIA_BASE_URL` | read at import | read when you make the object |
# | async methods | the sync method in a thread | async |
# | the nodes returned | your own | copies, with their old rank and score in the metadata |
# | a node without usable text | sent as an empty text | comes last, with score `None` and one warning |
#
# What the other class does in the face of a failure is tested in `tests/nim_standin/contract`, where `known_defects.py` lists it: a
# release that corrects one fails that test. All settings and errors are on
# [the connector's own page](../nvrerank_helpers/connector/README.md).

# %%
from importlib import import_module
from importlib.metadata import metadata, requires, version

import pandas as pd
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import attempt, draw_endings
from nvrerank_helpers.lessons import check
from nvrerank_helpers.nim_standin import StandIn, StandInControl
from nvrerank_helpers.pydocs import load_passages
from nvrerank_helpers.retrieval import build_hybrid

print(f"nvrerank-helpers {version('nvrerank-helpers')}, LlamaIndex {version('llama-index-core')}")

# %% [markdown]
# ## In an engine
#
# A project as it might be yours: a store, and a query engine with the reranker among its postprocessors. A mock takes
# the language model's place, since only the passages count here. Is there anything that names a service?

# %% tags=["timing"]
modules = {"os", "pathlib", "shutil"}
passages = [node for node in load_passages() if node.metadata["module"] in modules]
store = build_hybrid(passages).retrievers["bm25"]
question = "How do I join two paths?"
print(connect())
reranker = NVIDIARerank(top_n=3)
engine = RetrieverQueryEngine.from_args(store, MockLLM(), node_postprocessors=[reranker])
[hit.node_id for hit in engine.query(question).source_nodes]

# %% [markdown]
# Nothing: key and address come from the environment, as before. For what follows, the lesson has its own stand-in, which
# fails when we tell it to. Both classes ask it, the old one if it is installed beside the course. On a healthy service,
# which of the two ranks better?

# %%
lesson, nodes = StandIn(), store.retrieve(question)[:20]
at = {"model": "nvidia/llama-nemotron-rerank-vl-1b-v2", "base_url": lesson.base_url, "top_n": 20}
clients = {"this class": NVIDIARerank(**at, timeout=2, max_retries=2, deadline=8)}
old = attempt(import_module, "llama_index.postprocessor.nvidia_rerank").result
clients |= {"the old one": old.NVIDIARerank(**at, api_key="none-of-yours")} if old else {}


# %%
def ranking(client):
    return [(h.node_id, h.score) for h in client.postprocess_nodes(nodes, query_str=question)]


healthy = ranking(NVIDIARerank(**at))
{name: attempt(ranking, client).describe(healthy) for name, client in clients.items()}

# %% [markdown]
# Neither: the same passages, in the same order, with the same scores. Where everything works you gain nothing, and that
# is the first reason not to hurry.
#
# ## Every failure
#
# Now the service fails in ten ways. For each: will a caller get the right ranking, an error, or a wrong ranking without
# any sign? Note your guess for the last four.

# %%
faults = {
    "busy, once": "status=503 times=1",
    "come back in 1 s, once": "status=429 retry-after=1 times=1",
    "come back in 60 s": "status=429 retry-after=60",
    "connection breaks, once": "reset=middle times=1",
    "down": "status=503",
    "answers after 8 s": "delay=fixed seconds=8",
    "answer not sorted": "answer=unsorted",
    "a passage is missing": "answer=missing",
    "a score is NaN": "answer=nan",
    "a web page instead": "answer=html",
}

# %%
control, rows = StandInControl(lesson.base_url), {}
for fault, text in faults.items():
    for name, client in clients.items():
        control.clear()
        with control.faults(text):
            tried = attempt(ranking, client)
        met = {"caller sees": tried.describe(healthy), "requests": len(control.requests())}
        rows[fault, name] = met | {"seconds": tried.seconds}
outcomes = pd.DataFrame.from_dict(rows, orient="index")
outcomes[["caller sees", "requests"]].unstack(sort=False)

# %% [markdown]
# Faults that pass are gone before the caller knows; those that stay end in an error that says what it is. A service
# that sorts badly does no harm, and what is no ranking is refused. In the column of the old class, if you have it,
# look for *wrong and silent*: no log shows these.

# %% tags=["timing"]
ours = outcomes.xs("this class", level=1)
ours = ours.assign(ended=ours["caller sees"], answered=ours["caller sees"] == "right")
display(draw_endings(ours, "seconds until the caller knows"))
ours[["ended", "seconds"]].round(2)

# %% [markdown]
# ## Timeout and deadline
#
# `timeout` bounds each wait for data and `max_retries` the tries: look at the longest bar, three tries of two seconds and
# the pauses between them. `deadline` bounds the whole call: set it to what your user will bear.
#
# ## Exercise 1
#
# Make `hasty`, a reranker for `lesson.base_url` whose calls end within **one second**, come what may. The check lets
# the service take three.
#
# <details><summary>Hint</summary>
#
# `**at` gives it address and model; one argument more is enough.
#
# </details>

# %%
# <starter> hasty = ...
# <solution>
# Three tries of at most 60 s would fit into `timeout` and `max_retries`; the deadline ends the first one.
hasty = NVIDIARerank(**at, deadline=1)
# </solution>

# %% tags=["check"]
with control.faults("delay=fixed seconds=3"):
    late = attempt(ranking, hasty)
in_time = late.describe(None) == "RerankTimeout" and late.seconds < 1.5
check(hasty, lambda _: in_time, right="it ended in time.", wrong="give it a deadline of 1.")

# %% [markdown]
# ## Keys
#
# A key in `NVIDIA_API_KEY` goes to the API catalog, or to what plays it on this machine, and nowhere else. A gateway
# before your own NIM wants one? Pass it: a key that is given goes to the address it is given with. What will the
# service see?

# %%
for given in (None, "the-key-of-my-gateway"):
    control.clear()
    ranking(NVIDIARerank(**at, api_key=given))
    print(dict(control.requests()[-1].headers).get("authorization", "no key was sent"))

# %% [markdown]
# The recorder hides the key itself. If your project relied on the key in the environment going to its own address, you
# notice this change at once: your gateway answers 401, and the error says to pass `api_key`.
#
# ## Copy this
#
# A reranker sharpens an answer; it need not prevent one. Where it fails, this goes on with the order of the first stage
# and says so. Wrong settings are a `ValueError` and still stop the program.

# %% tags=["copy-this"]
from llama_index.core.schema import NodeWithScore, TextNode
from nvrerank_helpers import NVIDIARerank, RerankError

my_texts = ["os.remove deletes one file.", "os.path.join joins two paths."]
my_found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in my_texts]
my_reranker = NVIDIARerank(top_n=1, timeout=10, deadline=15)
try:
    my_best = my_reranker.postprocess_nodes(my_found, query_str="How do I join two paths?")
except RerankError as error:
    print("Not reranked:", error)
    my_best = my_found[: my_reranker.top_n]
print(my_best[0].text)

# %% [markdown]
# ## When not to swap
#
# Around the old class you may have built retries of your own. Around this one they multiply, and hit a service that is
# down hardest: leave them out, or set `max_retries=0`.
#
# ## Exercise 2
#
# A loop around the call tries **four** times. The reranker inside has `max_retries=2`, and the service is down. How many
# requests reach it?
#
# <details><summary>Hint</summary>
#
# Two retries mean three tries in each round.
#
# </details>

# %%
# <starter> how_many = ...
# <solution>
how_many = 4 * (1 + 2)
# </solution>

# %% tags=["check"]
control.clear()
with control.faults("status=503"):
    loop = [attempt(ranking, clients["this class"]) for _ in range(4)]
check(how_many, len(control.requests()), right="as counted.", wrong="multiply rounds and tries.")

# %% [markdown]
# The second reason not to swap is your ground: this package asks for a Python and a LlamaIndex, and a project that is
# held to older ones must move first, or stay. What does it ask for?

# %%
needed = [need for need in requires("nvrerank-helpers") if "extra" not in need]
print("Python", metadata("nvrerank-helpers")["Requires-Python"], *needed, sep="\n")

# %% [markdown]
# If all calls go to one healthy service, in single batches, with a wrapper that you trust, swapping can wait. Otherwise
# work through this list.
#
# ## Checklist
#
# 1. Change the import, and leave `model` out unless you need that one: a retired model is refused at once, and one that
#    your own service doesn't list is refused by the first call.
# 2. Start the program once: arguments that were ignored are named.
# 3. Where you caught `httpx.HTTPStatusError`, catch `RerankError`, or one of its kinds.
# 4. Remove your own retries, and set `deadline` to what your user will bear.
# 5. If your own service wants a key, pass it as `api_key`.
# 6. Where your tests mock httpx, with respx or `httpx.MockTransport`, pass `http_client=httpx.Client(...)`: without it
#    the requests go through aiohttp, and the mock never sees them.
# 7. Set `truncate="NONE"` if a passage that is cut must not go unnoticed.
# 8. Decide what happens without a ranking: the order of the first stage, or an error.
# 9. `python -m nvrerank_helpers check` before you deploy, and `reranker.last_call` in your log.
#
# ## Key points
#
# - On a healthy service nothing changes: the same passages, order and scores.
# - Passing faults are tried again within one deadline; lasting ones end in an error that says what to do.
# - An answer that is no ranking of what was sent is refused, never returned.
#
# ## Check yourself
#
# 1. The service answers 429 with `Retry-After: 60`. Why is the error there at once?
#
# <details><summary>Answer</summary>
#
# A longer wait than 30 s, or than the deadline has left, is not waited for: the caller learns the number and decides.
#
# </details>
#
# 2. `timeout=10` and `max_retries=3`, and you set no deadline: how long can a call take that nobody answers?
#
# <details><summary>Answer</summary>
#
# Four tries of ten seconds and the short waits between them, a little over 40 s. The first call to your own service
# spends up to five seconds more on its list of models. The default deadline is 120 s.
#
# </details>
#
# 3. Why is a wrong ranking without an error worse than an error?
#
# <details><summary>Answer</summary>
#
# An error is seen, counted and mended. A wrong ranking looks like an answer: only someone who measures quality notices.
#
# </details>
