"""Another kind of processor gives other logits, by no more than `check --rerun` allows."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from tools.notebook_tool.compare import ABSOLUTE, RELATIVE

IS_X86 = platform.machine() in ("x86_64", "AMD64")
pytestmark = [pytest.mark.long, pytest.mark.skipif(not IS_X86, reason="the settings are those of x86 processors")]
OLDER_PROCESSOR = {"CT2_FORCE_CPU_ISA": "GENERIC", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # as in the Makefile
SCORE = """
import json
from nvrerank_helpers.nim_standin import Job, RelevanceModel
from nvrerank_helpers.pydocs import load_passages, load_questions
model, passages = RelevanceModel.load(), [node.get_content() for node in load_passages()[:1500:10]]
print(json.dumps([model.score(Job(q.text, passages)).logits.tolist() for q in load_questions("test")[:8]]))
"""


def score(settings):
    env = os.environ | settings | {"NVRERANK_KEPT_VECTORS": "0"}
    run = subprocess.run([sys.executable, "-c", SCORE], env=env, capture_output=True, text=True, check=True)
    return np.array(json.loads(run.stdout))


def test_most_logits_change_within_the_tolerance():
    here, there = score({}), score(OLDER_PROCESSOR)
    assert (here != there).mean() > 0.3
    assert (abs(here - there) <= ABSOLUTE + RELATIVE * abs(here)).all()
