# %% [markdown]
# # Measure it: is the gain real?
#
# A mean over some questions went up: chance, or a better system? This notebook builds the measures from judgments that
# one can check by hand, tests the difference, and looks at the questions that got worse.

# %% [markdown]
# ## By hand first
#
# One question, four passages. Somebody read them: `a` answers it (grade 3), `b` helps (grade 1). A system returns
# `c, a, d, b`. Which values do nDCG@3, MRR and recall@3 get? Compute them on paper before you run the second cell.

# %% tags=["timing"]
from importlib.metadata import version
from math import log2

import pandas as pd
from ir_measures import RR, R, calc_aggregate, nDCG
from scipy import stats

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.evaluation import compare, compute_power, draw_curves, draw_intervals
from nvrerank_helpers.evaluation import find_worst, fit_judgments, measure, measure_each
from nvrerank_helpers.evaluation import measure_unread, pool_passages, restrict_to_pool, run_search
from nvrerank_helpers.evaluation import show_grades
from nvrerank_helpers.lessons import check
from nvrerank_helpers.pydocs import load_passages, load_questions
from nvrerank_helpers.retrieval import build_hybrid, make_search

print(f"ir-measures {version('ir-measures')}, scipy {version('scipy')}")
connect()

# %%
grades = {"question": {"a": 3, "b": 1}}
found = {"question": {"c": 4, "a": 3, "d": 2, "b": 1}}  # scores: the higher, the earlier
by_tool = calc_aggregate([nDCG @ 3, RR, R @ 3], grades, found)
by_hand = {
    nDCG @ 3: (3 / log2(3)) / (3 / log2(2) + 1 / log2(3)),  # a is second; best order: a, b
    RR: 1 / 2,  # the first relevant passage is second
    R @ 3: 1 / 2,  # one of the two is among the first three
}
pd.DataFrame({"by hand": by_hand, "by ir_measures": by_tool}).rename(str).round(3)

# %% [markdown]
# nDCG divides each grade by log2(rank + 1), adds up, and divides by the same sum for the best possible order. MRR is
# the mean of these reciprocal ranks. `c` and `d` have no grade: they count as 0, whether somebody read them or not.
#
# ## Where judgments come from
#
# Nobody reads 8,000 passages for each question. Ours come from a pool: the first 20 of BM25, of the vectors and of the
# reranked list, read in alphabetical order without rank or score. 3 answers the question, 2 an important part, 1 helps.

# %%
nodes = load_passages()
questions, _ = fit_judgments(load_questions("test"), nodes)
hybrid = build_hybrid(nodes, similarity_top_k=50)
reranker = NVIDIARerank(top_n=None)
searches = {name: store.retrieve for name, store in hybrid.retrievers.items()}
searches |= {"fused": hybrid.retrieve, "reranked": make_search(hybrid, reranker)}
runs = {name: run_search(name, search, questions) for name, search in searches.items()}
measure(runs.values(), questions)[["nDCG@10", "MRR@10", "hit@1", "recall@50"]].round(3)

# %% [markdown]
# That is the table to trust or to doubt. Suppose that only the two stores had been pooled, and all other judgments were
# missing. Will the values rise or fall? And of the first ten passages of each system, how many would nobody have read?

# %%
small = pool_passages([runs["bm25"], runs["vector"]], depth=20)
values = measure(runs.values(), questions)[["nDCG@10"]]
values["small pool"] = measure(runs.values(), restrict_to_pool(questions, small))["nDCG@10"]
values["unread"] = [measure_unread(one, small) for one in runs.values()]
values.round(3)

# %% [markdown]
# All values rise: relevant passages that neither store found are not missed any more. And what only the reranker
# brings up counts as wrong unread. So compare systems over the same judgments only, and pool a new system before you
# judge it.
#
# ## Is the difference real?
#
# Each question is asked of both systems, so the differences are tested question by question. The interval says which
# mean differences are plausible; where it holds zero, chance may explain all. Which of three steps will pass?

# %%
steps = [("bm25", "fused"), ("vector", "fused"), ("fused", "reranked")]
tests = pd.DataFrame([compare(runs[old], runs[new], questions) for old, new in steps])
tests.index = [f"{old} → {new}" for old, new in steps]
tests.drop(columns=["measure", "left_out"]).round(4)

# %%
draw_intervals(tests, "difference in nDCG@10")

# %% [markdown]
# An interval that lies above zero (blue) is a gain that chance hardly explains; a grey one may be a gain, a loss or
# nothing. `p` says how often swapping before and after at random gives a mean difference as large. With twenty
# comparisons one of them is expected below 0.05 by chance alone: decide in advance which one counts.
#
# ## Who got worse, and why?

# %%
losers = find_worst(runs["fused"], runs["reranked"], questions)
losers.drop(columns="best passage").round(2)

# %%
case = next(q for q in questions if q.id == losers.index[0])
print(case.text)
show_grades(make_search(hybrid, reranker)(case.text), case, top=3).round(2)

# %% [markdown]
# `before` and `after` are the ranks of the best judged passage, `grade` is that of the passage which is first now. Grade 0
# there: a look-alike that shares the question's words, or a gap in the judgments? Only reading tells. Where the best
# passage kept its rank, others sank; `<NA>` means that it was never among the candidates.
#
# Do all kinds of questions gain alike? Guess for those that name what they look for.

# %%
change = measure_each(runs["reranked"], questions) - measure_each(runs["fused"], questions)
kinds = pd.Series({q.id: q.kind or "general" for q in load_questions("test")})
by_kind = {"asked": kinds.value_counts(), "gain": change.groupby(kinds).mean()}
pd.DataFrame(by_kind).round(3)

# %% [markdown]
# Questions that nothing in the corpus answers have no gain: every ranking is as good as another for them, so they are
# counted and left out. A kind with few questions is an anecdote.
#
# ## How many questions?
#
# The smaller the gain and the more it varies, the more questions are needed. How many for a gain of 0.02?

# %%
spread = change.std()
effects = [change.mean(), change.mean() / 2, 0.02]
sizes = [10, 20, 40, 80, 160, 320]
chance = {f"gain {gain:.2f}": [compute_power(gain, spread, n) for n in sizes] for gain in effects}
powers = pd.DataFrame(chance, index=pd.Index(sizes, name="questions"))
display(powers.round(2))
draw_curves({"chance to find it": powers}, len(questions), f"these {len(questions)} questions")

# %% [markdown]
# A curve reads: were the true gain this large, how often would a test with so many questions find it? Usual is to ask
# for 0.8. Below that, "no significant difference" mostly means "too few questions".
#
# ## Copy this
#
# The test for your own runs; it needs `ir_measures` and `scipy`, nothing else. Put in your judgments and scores.

# %% tags=["copy-this"]
import ir_measures
import numpy as np
from ir_measures import nDCG
from scipy import stats

my_grades = {"q1": {"a": 3, "b": 1}, "q2": {"c": 2}, "q3": {"a": 1, "d": 3}}
my_before = {"q1": {"b": 2.0, "x": 1.0}, "q2": {"y": 2.0, "c": 1.0}, "q3": {"d": 2.0, "a": 1.0}}
my_after = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"c": 2.0, "y": 1.0}, "q3": {"a": 2.0, "d": 1.0}}
my_runs = (ir_measures.iter_calc([nDCG @ 10], my_grades, one) for one in (my_before, my_after))
my_old, my_new = ({one.query_id: one.value for one in my_run} for my_run in my_runs)
my_gains = [my_new[q] - my_old[q] for q in my_grades]
my_interval = stats.bootstrap((my_gains,), np.mean, rng=0).confidence_interval
print(f"{np.mean(my_gains):+.3f}, 95 % from {my_interval.low:+.3f} to {my_interval.high:+.3f}")

# %% [markdown]
# ## Exercise 1
#
# What does pairing buy? Compute p for `fused` against `reranked` as if two different sets of questions had been asked,
# with `stats.ttest_ind`. Larger or smaller than the paired p in the table above?
#
# <details><summary>Hint</summary>
#
# `measure_each(runs["fused"], questions)` gives the values of one system; the test's result has a `pvalue`.
#
# </details>

# %%
# <starter> p_unpaired = ...
# <solution>
one_by_one = [measure_each(runs[name], questions) for name in ("fused", "reranked")]
p_unpaired = stats.ttest_ind(*one_by_one).pvalue
# </solution>

# %% tags=["check"]
apart = stats.ttest_ind(*(measure_each(runs[name], questions) for name in ("reranked", "fused")))
expected = float(apart.pvalue)
why = "easy and hard questions differ more than the systems do; pairing takes that out."
check(p_unpaired, expected, right=why, wrong="pass the values of both to stats.ttest_ind.")

# %% [markdown]
# ## Exercise 2
#
# How many questions find a gain **half** as large as the measured one in 80 % of the cases? Find the smallest number.
#
# <details><summary>Hint 1</summary>
#
# `compute_power(change.mean() / 2, spread, 50)` is the chance with 50 questions.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `next(n for n in range(2, 5000) if …)` gives the first number for which a condition holds.
#
# </details>

# %%
# <starter> needed = ...
# <solution>
needed = next(n for n in range(2, 5000) if compute_power(change.mean() / 2, spread, n) >= 0.8)
# </solution>

# %% tags=["check"]
expected_n = next(n for n in range(2, 5000) if compute_power(effects[1], spread, n) >= 0.8)
right = "half the gain needs about four times as many questions as the whole gain."
wrong = "it is the first number for which compute_power(...) with half the gain is at least 0.8."
check(needed, expected_n, right=right, wrong=wrong)

# %% [markdown]
# ## Key points
#
# - A measure is only as good as its pool: what nobody read counts as 0, and values over different judgments cannot be
#   compared.
# - Test differences question by question and report the interval; a p alone says nothing of size.
# - Look at those that got worse before you trust a mean, and ask how small a gain your questions could show at all.
#
# ## Check yourself
#
# 1. System A has nDCG@10 0.61 in one paper, system B 0.47 in another. Which is better?
#
# <details><summary>Answer</summary>
#
# Nobody can tell: other questions, other passages, other pools. Run both over the same judgments.
#
# </details>
#
# 2. The interval of a difference is −0.01 to +0.09. May you say that the systems are equally good?
#
# <details><summary>Answer</summary>
#
# No. A gain of 0.09 is as plausible as none at all. You may say that these questions do not settle it.
#
# </details>
#
# 3. Why are questions without any relevant passage left out of nDCG, and what would you measure for them instead?
#
# <details><summary>Answer</summary>
#
# The best possible sum is 0, so the ratio has no value. Measure how often the system stays silent, for example because
# no logit reaches a threshold.
#
# </details>
