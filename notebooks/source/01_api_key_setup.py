# %% [markdown]
# # A key: get it, keep it, check it
#
# The course runs without a key. With one, the same cells ask NVIDIA's own models. This notebook shows how a key gets
# to your program and to nobody else, what the catalog says when it refuses one, and what to do when a key has leaked.

# %%
import re
from importlib.metadata import version
from tempfile import TemporaryDirectory

import dotenv
import httpx
import keyring
import pandas as pd

from nvrerank_helpers import connect
from nvrerank_helpers.connector import StatusError, make_status_error
from nvrerank_helpers.evaluation import draw_bars
from nvrerank_helpers.lessons import MockCatalog, check, check_key, make_leaky_project
from nvrerank_helpers.lessons import make_two_nodes, run_git, use_key

print(f"keyring {version('keyring')}, python-dotenv {version('python-dotenv')}")
pd.set_option("display.max_colwidth", None)

# %% [markdown]
# ## Where the program looks
#
# A key is free: sign in at [build.nvidia.com](https://build.nvidia.com), open a model, choose *Get API Key*. `use_key`
# looks into the environment, a file `.env` and the system keyring, and asks only if all fail and somebody can answer.
# Enter goes on without. What will it say here?

# %% tags=["timing"]
print(use_key())
connect()

# %% [markdown]
# What you type goes to `getpass`, so it is neither in the cell nor in its output, and lasts as long as this kernel.
# Never write a key into a cell: notebooks are saved, shared and committed.
#
# ## Keep it in the system keyring
#
# Your system has a safe for passwords: Keychain on macOS, the Credential Manager on Windows, the Secret Service on Linux.
# The package `keyring` puts a made-up key in here and takes it out again. Servers and containers mostly have no such safe,
# and the error says so.

# %% tags=["timing"]
try:
    keyring.set_password("nvrerank-lesson", "NVIDIA_API_KEY", "nvapi-lesson")
    print("Kept:", keyring.get_password("nvrerank-lesson", "NVIDIA_API_KEY") == "nvapi-lesson")
    keyring.delete_password("nvrerank-lesson", "NVIDIA_API_KEY")
except keyring.errors.KeyringError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# For your own key, run `keyring.set_password("nvrerank", "NVIDIA_API_KEY", getpass.getpass())`. From then on `use_key()`
# finds it under that name. If you got an error, use a file, as below.
#
# ## Or in a file that git ignores
#
# One careless commit publishes a file `.env`. Here is a small project under git. Does git ignore the file? `git check-ignore`
# prints the name if it does; only then is it safe to write the key. Mode 600 comes first: no other user can read it.

# %%
folder = TemporaryDirectory(ignore_cleanup_errors=True)
project = make_leaky_project(folder.name)
print("ignored at first:", bool(run_git(project, "check-ignore", ".env")))
(project / ".gitignore").write_text(".env\n", encoding="utf-8")
print("ignored now:", bool(run_git(project, "check-ignore", ".env")))
env_file = project / ".env"
env_file.touch(mode=0o600)
dotenv.set_key(env_file, "NVIDIA_API_KEY", "nvapi-lesson")
mode = env_file.stat().st_mode & 0o777
print(f"mode {mode:o}, names in it: {[*dotenv.dotenv_values(env_file)]}")

# %% [markdown]
# ## Check it without printing it
#
# The catalog has no free question for this. The honest check is one tiny ranking: one request of the minute's 40, and
# the tokens in the last line. Your own key comes first, then a good one and a revoked one of the mock catalog.

# %% tags=["timing"]
lesson = MockCatalog(per_minute=1)
display(check_key())
display(check_key("nvapi-busy", lesson.url()))
display(check_key("nvapi-revoked", lesson.url()))

# %% [markdown]
# ## Five ways to be refused
#
# The lesson's catalog knows keys that fail, each in its own way, and allows one request a minute: the good key has had
# its own. Which of the five answers will tell you enough to act?

# %%
rows = []
for key in [*lesson.failing_keys, "nvapi-busy"]:
    answer = httpx.post(
        lesson.url(), json={}, headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    error = make_status_error(answer.status_code, answer.content)
    rows.append((error.status, answer.text or "(empty)", type(error).__name__, error.hint))
columns = ["status", "body as sent", "our error", "what to do"]
pd.DataFrame(rows, columns=columns).set_index("status").sort_index()

# %% [markdown]
# The bodies differ in shape, and that of 401 is empty, so the connector turns the status into an error with a name and
# a hint. The shape of 402 is our guess: it comes from the time of credits and was not seen for rerankers.
#
# ## Asking again
#
# Some refusals pass on their own. After which of the five will the connector try again?

# %%
lesson.control.clear()
for failing in [*lesson.failing_keys, "nvapi-busy"]:
    try:
        lesson.reranker(failing).postprocess_nodes(make_two_nodes(), query_str="Who says meow?")
    except StatusError as error:
        print(f"{type(error).__name__}: {error.detail or 'no words'}")
statuses = pd.Series([str(request.status) for request in lesson.control.requests()])
sent = statuses.value_counts().sort_index().to_frame("requests sent")
display(draw_bars(sent, "requests sent"), sent)

# %% [markdown]
# A wrong key stays wrong, so it is sent once. Only 429 is tried again, without success here: the catalog's minute outlasts it.
#
# ## Where a status does not help
#
# A status is not a diagnosis. Two addresses answer 404: one model is not enabled for the account, the other does not
# exist. Can the body tell you which is which?

# %%
others = {"nvapi-first": "nvidia/llama-nemotron-rerank-500m-v2", "nvapi-second": "nvidia/typo-v2"}
for key, model in others.items():
    bad = httpx.post(lesson.url(model), headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    print(f"{model}: {bad.status_code} {bad.text}")

# %% [markdown]
# The first speaks of an account, the second of a page: only the words tell a missing right from a typing error. The
# connector keeps them in `error.detail`.
#
# ## When a key has leaked
#
# Deleting the line is not enough: somebody may have read it. Rotate the key:
#
# 1. Make a new key at build.nvidia.com, and put it where `use_key` looks.
# 2. Delete the old key there, which ends it everywhere.
# 3. Find where it was, and how it got there.
#
# Our project's last commit reads the key from the environment. In how many places is it still? `git grep` searches the
# files, also new ones that git does not ignore; `git log -G` lists the commits that added or removed a matching line.

# %%
KEY = "nvapi-[A-Za-z0-9_-]{20,}"
print(re.sub(KEY, "nvapi-…", run_git(project, "grep", "--untracked", "--line-number", "-E", KEY)))
print(run_git(project, "log", "--all", f"-G{KEY}", "--format=commit %h: %s", "--name-only"))

# %% [markdown]
# The notebook's *output* has it, since a cell printed it, and so has the history, for everybody with a clone. The file
# `.env` is not listed: git ignores it. The first line replaces the key, because this output is saved, too.
#
# ## Copy this
#
# The start of a program that finds its key, checks it and ranks.

# %% tags=["copy-this", "timing"]
from llama_index.core.schema import NodeWithScore, TextNode
from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.lessons import check_key, use_key

print(use_key())  # the environment, .env, the system keyring; asks only where somebody can answer
print(check_key())  # one request, and never the key
my_texts = ["A list keeps its order.", "A set drops duplicates."]
my_nodes = [NodeWithScore(node=TextNode(text=text)) for text in my_texts]
for my_hit in NVIDIARerank(top_n=1).postprocess_nodes(my_nodes, query_str="Which drops doubles?"):
    print(f"{my_hit.score:6.2f}  {my_hit.node.get_content()}")

# %% [markdown]
# ## Exercise 1
#
# Which remedy fits which status? Write one letter for each, such as `"a"`.
#
# - **a** wait, and send fewer requests
# - **b** make a new key
# - **c** make the key at build.nvidia.com, or give it the permission
# - **d** choose another model, or correct its name
# - **e** look at the account's page
#
# <details><summary>Hint</summary>
#
# The last column of the table above has it in other words.
#
# </details>

# %%
# <starter> remedy = {401: ..., 402: ..., 403: ..., 404: ..., 429: ...}
# <solution>
remedy = {401: "b", 402: "e", 403: "c", 404: "d", 429: "a"}
# </solution>

# %% tags=["check"]
fits = dict(zip((401, 402, 403, 404, 429), "becda", strict=True))
odd = [status for status, letter in fits.items() if remedy[status] != letter]
check(remedy, fits, right="five refusals, five remedies.", wrong=f"look again at {odd}.")

# %% [markdown]
# ## Exercise 2
#
# Somebody clears the notebook's output: write `{}` into `analysis.ipynb` of the project. How many files, and how many
# commits, still have the key? Predict first.
#
# <details><summary>Hint</summary>
#
# `(project / "analysis.ipynb").write_text("{}")` writes. Count the lines of `run_git(project, "grep", "--untracked", "-lE", KEY)` and of
# `run_git(project, "log", "--all", f"-G{KEY}", "--format=%h")`.
#
# </details>

# %%
# <starter> in_files, in_commits = ..., ...
# <solution>
(project / "analysis.ipynb").write_text("{}", encoding="utf-8")
in_files = len(run_git(project, "grep", "--untracked", "-lE", KEY).splitlines())
in_commits = len(run_git(project, "log", "--all", f"-G{KEY}", "--format=%h").splitlines())
# </solution>

# %% tags=["check"]
kept = "the commits keep it: so rotate."
check((in_files, in_commits), (0, 2), right=kept, wrong="clear, then count again.")

# %% [markdown]
# ## Key points
#
# - A key comes from the environment, an ignored `.env` or the keyring, never from a cell.
# - One tiny ranking checks a key; the report never shows it.
# - 401, 402, 403 and 404 need you; 429 needs time. The service's words tell more than the status.
# - A key that was published is burnt: make a new one and delete the old one, then clean up.
#
# ## Check yourself
#
# 1. Your notebook runs at night without anybody. What happens if no key is found?
#
# <details><summary>Answer</summary>
#
# Nobody is asked: `use_key` says that it found none, and `connect` starts the local stand-in.
#
# </details>
#
# 2. You added `.env` to `.gitignore`, and git still shows its changes. Why?
#
# <details><summary>Answer</summary>
#
# It was committed before, and rules for ignoring do not touch what git has. `git rm --cached .env` takes it out; the
# key in it is burnt.
#
# </details>
#
# 3. Does rewriting the history of a repository replace rotating the key?
#
# <details><summary>Answer</summary>
#
# No. Clones, forks and caches keep the old commits, and whoever has read the key has it. Only deleting the key at the
# catalog ends it.
#
# </details>
