# %% [markdown]
# # Pages as pictures
#
# Text taken out of a PDF lacks what is in its pictures: charts, scans, forms filled in by hand. The catalog's live
# reranker can look at the page itself. This notebook sends pages as text, as pictures and as both, and measures what each
# is worth.

# %% tags=["timing"]
import time
from dataclasses import replace
from importlib.metadata import version
from tempfile import mkdtemp

import pandas as pd
from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import compare, measure, run_search
from nvrerank_helpers.lessons import Gallery, build_page_search, check, draw_kinds, list_titles
from nvrerank_helpers.lessons import list_winners, load_page_questions, make_page_nodes
from nvrerank_helpers.lessons import measure_by_kind, read_pages, write_handbook
from nvrerank_helpers.retrieval import build_hybrid

print(f"reportlab {version('reportlab')}, pypdfium2 {version('pypdfium2')}")
connect()

# %% [markdown]
# ## A handbook with all its nuisances
#
# A heat pump that does not exist gets a handbook, written here. `read_pages` takes two things from each page: its text
# layer, and a picture of it, at 108 dots per inch. Look at the pages and guess: of which does the text layer tell nothing, of
# which only half?

# %%
handbook = write_handbook(f"{mkdtemp()}/handbook.pdf")
pages = read_pages(handbook)
labels = [f"{page.number} {title}" for page, title in zip(pages, list_titles(), strict=True)]
Gallery(pages, labels, 96)

# %%
facts = {page.number: (len(page.text), page.pictures, len(page.png) // 1000) for page in pages}
rows = ["characters of text", "pictures on the page", "kB as PNG"]
display(pd.DataFrame(facts, index=rows).rename_axis("page", axis="columns"))
print(pages[5].text)

# %% [markdown]
# Two pages are scans: no text at all. Below the table is all that the text layer has of page 6: no month of its chart,
# but the fine print, which is hard to read in the picture.
#
# ## Three ways to show a page
#
# A node with text is read, an `ImageNode` is seen, and one that has both is both. Which ways will find the page with the serial
# numbers? (The stand-in looks at each page once and remembers it: ten seconds, or much more on a busy machine, hence `deadline`.)

# %%
questions, ways = load_page_questions(), ("text", "image", "both")
nodes = {way: make_page_nodes(pages, way) for way in ways}
reranker = NVIDIARerank(top_n=None, max_retries=9, deadline=600)
question = next(q for q in questions if q.text.startswith("Which serial numbers"))
found = {way: reranker.postprocess_nodes(nodes[way], query_str=question.text) for way in ways}
firsts = {way: [f"{hit.node_id} ({hit.score:.1f})" for hit in found[way][:3]] for way in ways}
print(question.text)
display(pd.DataFrame(firsts, index=["first", "second", "third"]))
list_winners(found["both"][:3], pages, question)

# %% [markdown]
# Who looked? NVIDIA's model gets the pixels, and its model card names tables, charts and infographics. **The stand-in does not
# see.** It reads the words on the picture by OCR and scores them as text: labels of a chart count, the length of its bars and
# what is drawn without words do not.
#
# A model that only reads text cannot rank a picture. The call does not fail: such a page comes last, without a score.

# %%
blind = NVIDIARerank(model="nvidia/llama-nemotron-rerank-500m-v2", top_n=2)
for hit in blind.postprocess_nodes(nodes["image"], query_str=question.text):
    print(hit.node_id, hit.score, hit.node.metadata["rerank_skipped"], sep=", ")

# %% [markdown]
# If your own NIM serves such a model, the ranking above failed: start the NIM of `llama-nemotron-rerank-vl-1b-v2`, or
# unset `NVIDIA_BASE_URL`, and run the notebook again.
#
# ## All questions
#
# Each question is marked by where its answer is: in the `text` layer, in a `picture` only, or in `both`, such as a chart
# and its fine print. Which bar will be the shortest? (With a key these are some 70 requests: minutes on the free tier.)

# %%
runs = {way: run_search(way, build_page_search(nodes[way], reranker), questions) for way in ways}
table = measure_by_kind(runs.values(), questions)
display(table.round(2))
draw_kinds(table)

# %%
for before, after in (("text", "image"), ("image", "both"), ("text", "both")):
    print(f"{before:5} → {after:5}  {compare(runs[before], runs[after], questions)}")

# %% [markdown]
# - `text` fails where the answer is in a picture.
# - `image`, read by OCR, loses fine print and the table that is printed sideways.
# - `both` is best or near it everywhere. With so few questions, trust a difference only if its interval is above zero
#   *and* its p is small.
# - For questions of kind `both`, every way finds the page. Whether an LLM could answer from what it was sent is another
#   matter.
#
# ## What no word says
#
# One page has drawings and no words. Where will it land, here and with NVIDIA's model?

# %%
washing = next(q for q in questions if "washing" in q.text)
places = {way: runs[way].ranked[washing.id].index("page 15") + 1 for way in ways}
print(f"{washing.text} Place of page 15: {places}")
Gallery([pages[14]], ["page 15, which says no"], 300)

# %% [markdown]
# For OCR this page is empty but for its title. If a key or your own NIM answered, its place shows what seeing adds to reading.
#
# ## What the first stage loses
#
# So far all pages were reranked. In a large collection a first stage chooses: here the hybrid one, over the text layer, five
# pages. Each that it finds is then shown as both. Which kind of question suffers?

# %%
first = build_hybrid([page.node for page in nodes["text"]], similarity_top_k=5)
runs["first 5"] = run_search("first 5", first.retrieve, questions)
of_five = build_page_search(nodes["both"], reranker, first)
runs["both, of 5"] = run_search("both, of 5", of_five, questions)
measure_by_kind([runs[name] for name in ("first 5", "both, of 5", "both")], questions).round(2)

# %% [markdown]
# A reranker that sees gains little behind a first stage that reads: what is not among the five cannot move up, and a scan
# is in no text index at all. The first stage must see too, with a vision embedding, or with words made once for each picture.
#
# ## A thousand times as many pages
#
# Which number becomes impossible first?

# %% tags=["timing"]
started = time.perf_counter()
read_pages(handbook)
seconds = (time.perf_counter() - started) / len(pages)
reranker.postprocess_nodes(nodes["both"], query_str=question.text)
tokens = reranker.last_call.tokens / len(pages)
size = sum(len(page.png) for page in pages) / len(pages) / 1e6
n = pd.Series([len(pages), 1000 * len(pages)], name="pages")
costs = {"minutes to render": n * seconds / 60, "MB to keep": n * size}
for which, sent in (("all", n), ("50 at most", n.clip(upper=50))):
    costs[f"MB a query, {which}"] = sent * size * 4 / 3
    costs[f"tokens a query, {which}"] = sent * tokens
pd.DataFrame(costs).set_index(n.map("{:,} pages".format)).T.map("{:,.1f}".format)

# %% [markdown]
# The tokens are those that the service counts. The stand-in counts words; for a picture, ask NVIDIA's model itself: `last_call`
# says it.
#
# - Rendering is done once a page, on as many cores as you have. Keep the pictures as files: an `ImageNode` with `image_path` reads
#   its file when it is sent.
# - All pages for every query is what no budget allows: send 20 to 50 candidates, from a first stage that sees.
#
# ## Copy this
#
# The pages of your own PDF for one query; beyond a hundred pages, put a first stage before it.

# %% tags=["copy-this"]
from tempfile import gettempdir

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.lessons import make_page_nodes, read_pages, write_handbook

connect()
my_pdf = write_handbook(f"{gettempdir()}/handbook.pdf")  # instead: the path of your PDF
my_pages = make_page_nodes(read_pages(my_pdf), "both")
my_query = "How much is a new fan with its motor?"
my_reranker = NVIDIARerank(top_n=3, deadline=600)  # seconds: pictures take their time
for my_hit in my_reranker.postprocess_nodes(my_pages, query_str=my_query):
    print(f"{my_hit.score:6.2f}  {my_hit.node_id}")

# %% [markdown]
# ## Exercise 1
#
# Half of the pages hold no picture; for them the text layer should do, and it is cheap. Make `mixed`: nodes of `both` for the
# pages with `page.pictures`, of `text` for the others. Predict: is the quality of sending everything kept?
#
# <details><summary>Hint 1</summary>
#
# Two lists of pages: `[page for page in pages if page.pictures]` and those `if not page.pictures`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `make_page_nodes(some_pages, "both")` makes the nodes; lists are joined with `+`.
#
# </details>

# %%
# <starter> mixed = ...
# <solution>
mixed = make_page_nodes([page for page in pages if page.pictures], "both")
mixed += make_page_nodes([page for page in pages if not page.pictures], "text")
# A scan is one large picture, so it is among the first.
# </solution>

# %% tags=["check"]
given = build_page_search(mixed if isinstance(mixed, list) else [], reranker)
quality = measure([run_search("mixed", given, questions), runs["both"]], questions)["nDCG@10"]
goal = {page.id: "ImageNode" if page.pictures else "TextNode" for page in pages}
yes = f"nDCG@10 {quality['mixed']:.2f} with half of the pictures, {quality['both']:.2f} with all of them."
no = "every page once, as both where it has pictures and as text where it has none."
check(mixed, lambda m: {h.node_id: h.node.class_name() for h in m} == goal, right=yes, wrong=no)

# %% [markdown]
# ## Exercise 2
#
# Give the two scans, pages 12 and 17, words for the first stage: a line each, as a person or a vision model would write it once,
# when a page comes in. All questions that they answer must then find them among five. (Show a scan large:
# `Gallery([pages[11]], width=500)`.)
#
# <details><summary>Hint</summary>
#
# Name what the page is about in the words of someone who asks: the symptom, the parts, what is to be done or paid.
#
# </details>

# %%
# <starter> captions = {"page 12": ..., "page 17": ...}
# <solution>
captions = {
    "page 12": "Service bulletin: crackling expansion valve in the morning, soft spring, serial numbers",
    "page 17": "Spare parts, how much they cost: strainer, fan with motor, spring of the valve, sensor",
}
# </solution>

# %% tags=["check"]
told = [replace(page, text=str(captions.get(page.id, page.text))) for page in pages]
index = build_hybrid([page.node for page in make_page_nodes(told, "text")], similarity_top_k=5)
asked = [q for q in questions if 3 in (q.relevant.get("page 12"), q.relevant.get("page 17"))]
captioned = run_search("with captions", index.retrieve, asked)
missed = [q.text for q in asked if not {"page 12", "page 17"} & set(captioned.ranked[q.id])]
check(captions, lambda _: not missed, right="each finds its scan.", wrong=f"not yet: {missed}")

# %% [markdown]
# ## Key points
#
# - Look at your PDFs first: which pages have a text layer, and what do their pictures say that it does not?
# - Sending text and picture together is the safe choice; the picture alone can lose small print and what is printed sideways.
# - A reranker that sees cannot bring back what a first stage that reads has lost.
# - The stand-in reads pictures by OCR. Figures about *seeing* need NVIDIA's model, and your own pages.
#
# ## Check yourself
#
# 1. A colleague measures that sending pictures gains nothing. What would you look at first?
#
# <details><summary>Answer</summary>
#
# At recall of the first stage, for questions whose answer is in pictures. If their pages are not among the
# candidates, no reranker can gain anything.
#
# </details>
#
# 2. Why not leave the text out, when the picture shows the same words?
#
# <details><summary>Answer</summary>
#
# At the size that is sent, it does not show all of them: fine print blurs and sideways tables are hard to read. The text
# layer costs little beside the picture.
#
# </details>
#
# 3. Pages of your collection change every day. What is made anew, and what is not?
#
# <details><summary>Answer</summary>
#
# For a changed page its picture, its text, its caption and its place in the first stage, once. Nothing is made for the others,
# and nothing for each query but the ranking itself.
#
# </details>
