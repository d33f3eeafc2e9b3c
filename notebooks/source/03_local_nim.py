# %% [markdown]
# # Your own NIM
#
# A NIM is a container that serves one model on your own GPU: no key per request, no rate limit, and no passage leaves
# your machines. Here you start one, wait for it, read what it tells about itself, and measure how much it can take.

# %% [markdown]
# ## Start one with docker
#
# None of this section runs in the notebook: it belongs in a terminal of a machine with an NVIDIA GPU. All cells
# below run without one as well.
#
# ```console
# $ docker run -d --name reranker \
#     --gpus all --shm-size=16GB \
#     -e NGC_API_KEY \
#     -v "$HOME/nim-cache:/opt/nim/.cache" -u $(id -u) \
#     -p 1976:8000 \
#     nvcr.io/nim/nvidia/llama-nemotron-rerank-1b-v2:1.10.0
# ```
#
# | option | what it does |
# | --- | --- |
# | `-d --name reranker` | runs in the background; `docker logs -f reranker` shows what it is doing |
# | `--gpus all` | lets the container use the GPUs |
# | `--shm-size=16GB` | memory that the server's processes share; docker's default is far too small |
# | `-e NGC_API_KEY` | hands your variable on, for the download of the model; without `=…` no key is in the command |
# | `-v …:/opt/nim/.cache` | keeps the model on your disk; with a filled cache the next start needs no key |
# | `-u $(id -u)` | runs as you, so that the files in the cache are yours: make the folder first |
# | `-p 1976:8000` | the service listens on 8000 inside, and on 1976 outside |
#
# ## Or with compose
#
# The same as a file, `compose.yaml`, started by `docker compose up -d --wait`. Its health check asks every ten seconds,
# a hundred times: a NIM loads for minutes.
#
# ```yaml
# services:
#   reranker:
#     image: nvcr.io/nim/nvidia/llama-nemotron-rerank-1b-v2:1.10.0
#     ports: ["1976:8000"]
#     environment: [NGC_API_KEY]
#     volumes: ["./nim-cache:/opt/nim/.cache"]
#     user: "${USERID}"  # export USERID=$(id -u)
#     shm_size: 16gb
#     deploy:
#       resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}
#     healthcheck:
#       test: ["CMD", "curl", "-f", "http://localhost:8000/v1/health/ready"]
#       interval: 10s
#       retries: 100
# ```
#
# | what you may want to change | NIM 1.x | NIM 2.3 |
# | --- | --- | --- |
# | address inside the container | `NIM_HTTP_API_PORT` | `NIM_SERVER_BIND_ADDR` |
# | name of the model in requests | `NIM_SERVED_MODEL_NAME` | begins with `NIM_SERVER_SERVED_MODEL` |
# | passages scored together | `NIM_TRITON_MAX_BATCH_SIZE` | `NIM_PIPELINE_MAX_BATCH_SIZE` |
# | requests that may wait | – | `NIM_SERVER_MAX_QUEUE_SIZE`, 1024; more answer 503 |
# | key for the download | `NGC_API_KEY` | `NGC_API_KEY` or `HF_TOKEN` |
#
# The names changed between 2.0 and 2.3 as well: `SHOW_CONFIG=1` makes a 2.x container print those that it knows.

# %%
import os

import httpx
import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from nvrerank_helpers import NVIDIARerank, RerankError, connect
from nvrerank_helpers.connector import wait_until_ready
from nvrerank_helpers.evaluation import attempt, draw_loads, measure, measure_loads, run_search
from nvrerank_helpers.lessons import check
from nvrerank_helpers.nim_standin import StandIn, StandInControl
from nvrerank_helpers.pydocs import Question, load_passages
from nvrerank_helpers.retrieval import build_hybrid

os.environ["NVRERANK_KEPT_VECTORS"] = "0"  # no vectors of earlier runs, so times are comparable
print(f"httpx {httpx.__version__}, pandas {pd.__version__}")

# %% [markdown]
# ## Wait until it is ready
#
# A NIM that loads does not rank, even where it already answers. The lesson has its own stand-in, which takes a few
# seconds to load, as a NIM takes minutes. What will `check()` say at once, what does a ranking end in, and what will be
# different after waiting?

# %% tags=["timing"]
modules = {"os", "pathlib", "shutil"}
passages = [node for node in load_passages() if node.metadata["module"] in modules]
store = build_hybrid(passages).retrievers["bm25"]
question = "How do I join two paths?"
nodes = store.retrieve(question)[:20]
lesson = StandIn("--load-seconds=4", wait=False)
early = NVIDIARerank(base_url=lesson.base_url, top_n=2, max_retries=0)
print(early.check())
print(attempt(lambda: early.postprocess_nodes(nodes, query_str=question)).error)

# %% tags=["timing"]
print(f"ready after {wait_until_ready(lesson.base_url, timeout=60, pause=0.5):.1f} s more")
print(early.check())

# %% [markdown]
# It lived, it was not ready, and a ranking was refused with 503. `wait_until_ready` also waits where nothing listens
# yet, as before docker has started anything.
#
# ## Port 1976, and the same code
#
# Your NIM listens at `http://localhost:1976/v1`. No GPU? In a second terminal,
# `python -m nvrerank_helpers.nim_standin --port 1976` puts a stand-in there. What does the cell say on your machine?

# %% tags=["timing"]
try:
    nim = connect("http://localhost:1976/v1")
except RerankError as error:
    print(error, end="\n\n")
    nim = connect(os.environ.get("NVIDIA_BASE_URL") or lesson.base_url)
print(nim)

# %% [markdown]
# An error is no harm: nothing listens there, and the lesson goes on with your NIM elsewhere, or with its own stand-in.
# Set `NVIDIA_BASE_URL` to the address before you start the lab, and every notebook uses it.
#
# ## Copy this
#
# For a program that prefers your own NIM. Raise the two seconds to minutes where both start together, and leave out
# the `except` if passages must not leave your machines: it takes the API catalog where there is a key.

# %% tags=["copy-this"]
import os
from llama_index.core.schema import NodeWithScore, TextNode
from nvrerank_helpers import NVIDIARerank, RerankError, connect
from nvrerank_helpers.connector import wait_until_ready

my_address = os.environ.get("NVIDIA_BASE_URL") or "http://localhost:1976/v1"
try:
    wait_until_ready(my_address, timeout=2)
    connect(my_address)
except (RerankError, ValueError):
    connect()
my_nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("Use os.path.join.", "Use os.remove.")]
print(NVIDIARerank(top_n=1).postprocess_nodes(my_nodes, query_str="How to join paths?")[0].text)

# %% [markdown]
# ## What it tells about itself
#
# Five routes need no body: which models are served, what runs, does it live, is it ready, what has it counted? Which
# of them belongs in the probe of a load balancer? The last is Prometheus text; a parser makes a table of it.

# %% tags=["timing"]
pd.set_option("display.max_colwidth", None)
routes = ["models", "metadata", "health/live", "health/ready", "metrics"]
told = [httpx.get(f"{nim.address}/{route}") for route in routes]
pd.DataFrame([{"status": a.status_code, "begins": a.text[:140]} for a in told], index=routes)

# %% tags=["timing"]
samples = [s for family in text_string_to_metric_families(told[-1].text) for s in family.samples]
shown = [s for s in samples if s.name.endswith(("_total", "_sum", "_count"))]
pd.DataFrame(shown)[["name", "labels", "value"]].head(15)

# %% [markdown]
# `ready` is for the balancer, `live` for restarts: a NIM that loads must not be killed for it. Counters only grow, so
# two readings tell a rate. The metric names are the stand-in's; NIM 1.x has Triton's on port 8002, such as
# `nv_inference_queue_duration_us`.
#
# ## NIM 1.x and NIM 2.x
#
# The newer line has another engine and stricter rules. Three careless requests go to three behaviours of the lesson's
# stand-in. In which cells do you expect a ranking?

# %%
body = {"model": early.model, "query": {"text": question}, "passages": [{"text": "short"}]}
pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
careless = {
    "unknown field": body | {"top_k": 1},
    "too long": body | {"passages": [{"text": "word " * 12_000}], "truncate": "NONE"},
    "empty text, image": body | {"passages": [{"text": "", "image": pixel}]},
}


# %%
def post(line, request):
    with StandInControl(lesson.base_url).behaviour(line):
        answer = httpx.post(f"{lesson.base_url}/ranking", json=request)
    return f"{answer.status_code} {answer.json().get('message', 'ranked')[:75]}"


lines = ("nim-1.9", "nim-1.10", "nim-2")
pd.DataFrame([[post(line, r) for line in lines] for r in careless.values()], careless, lines)

# %% [markdown]
# Known from NVIDIA's documentation and from users are 400 with a padded length up to 1.9.0, 422 since, and both refusals
# of 2.x; its status for a long text is the stand-in's guess. A 501 only means that reading pictures needs the stand-in's extra `images`.
#
# ## Exercise 1
#
# Repair the body called `too long`, so that all three rank it. Which field decides?
#
# <details><summary>Hint</summary>
#
# `careless["too long"] | {…}` is a copy with a field changed. The two values of the field are `NONE` and `END`.
#
# </details>

# %%
# <starter> repaired = ...
# <solution>
# Our client sends this by default; `truncate="NONE"` makes the refusal a PassageTooLong, whatever the status.
repaired = careless["too long"] | {"truncate": "END"}
# </solution>

# %% tags=["check"]
cut = careless["too long"] | {"truncate": "END"}
check(repaired, cut, right="the tail is cut off.", wrong="NONE refuses: which is the other one?")

# %% [markdown]
# ## How much can it take?
#
# `measure_loads` keeps so many callers busy, each asking again as soon as it is served. Every call ranks twenty passages.
# Do twice as many callers get twice as many answers?

# %% tags=["timing"]
reranker = NVIDIARerank(base_url=nim.address, top_n=3)
table = await measure_loads(lambda: reranker.apostprocess_nodes(nodes, query_str=question))
display(draw_loads(table))
table.round(1)

# %% [markdown]
# The lower curve rises while the service has room, then stays flat; from there on callers only wait longer, and p95
# shows it first. The stand-in remembers passages and shares your processor; a NIM reads every pair anew: measure yours.
#
# ## Exercise 2
#
# Users accept a p95 of **three times** that of a single caller. Set `most_callers` to the largest concurrency in
# `table` that keeps this.
#
# <details><summary>Hint</summary>
#
# `table["p95"]` is indexed by the number of callers; `table["p95"][1]` belongs to the single one.
#
# </details>

# %%
# <starter> most_callers = ...
# <solution>
within = table["p95"] <= 3 * table["p95"][1]
most_callers = within[within].index.max()
# </solution>

# %% tags=["check"]
kept = [callers for callers, p95 in table["p95"].items() if p95 <= 3 * table["p95"][1]]
check(most_callers, max(kept), right="a good max_concurrency.", wrong="compare each p95.")

# %% [markdown]
# ## Where it is not worth its time
#
# Somebody types the exact name of a method of `pathlib.Path`. BM25 is made for that. How often will the right passage
# come first (`hit@1`) before and after reranking, and what does each cost?

# %% tags=["timing"]
names = [n.node_id for n in passages if n.node_id.startswith("pathlib.Path.")]
typed = [Question(name, name, "test", {name: 3}) for name in names if "#" not in name]
stages = {"BM25": store.retrieve}
stages["reranked"] = lambda name: reranker.postprocess_nodes(store.retrieve(name), query_str=name)
runs = [run_search(stage, search, typed) for stage, search in stages.items()]
measure(runs, typed)[["hit@1", "milliseconds per question"]].round(3)

# %% [markdown]
# Where the first stage is nearly always right there is next to nothing to gain, and something to lose, on any hardware;
# the time is gone in any case. Let exact names pass the reranker by.
#
# ## Key points
#
# - Wait for `/v1/health/ready`, not for the port; keep the container's cache.
# - `http://localhost:1976/v1` in `NVIDIA_BASE_URL` is all that changes in your code.
# - NIM 1.x and 2.x refuse with other statuses; the words stay, and a client should go by them.
# - Throughput ends at the knee; beyond it, concurrency buys waiting.
#
# ## Check yourself
#
# 1. Why is an open port not enough to send traffic?
#
# <details><summary>Answer</summary>
#
# The server listens before its model is loaded and refuses rankings until then. Only `ready` tells.
#
# </details>
#
# 2. A colleague sends `top_n` in the body to a NIM 2.x. What happens, and where does it belong?
#
# <details><summary>Answer</summary>
#
# 400, because the field is unknown there. A NIM returns every passage: cut the list in the client.
#
# </details>
#
# 3. Sixteen callers see a mean latency of 200 ms. How many calls per second does the service answer?
#
# <details><summary>Answer</summary>
#
# 16 / 0.2 s = 80 (Little's law: calls under way are the rate times the mean latency). The table obeys it as well.
#
# </details>
