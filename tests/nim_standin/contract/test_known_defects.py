"""The table of known defects itself."""

import re
from pathlib import Path

import pytest

from contract.adapters import CLIENTS
from contract.known_defects import KNOWN, NOT_OFFERED

SOURCES = Path(__file__).parent.glob("test_*.py")
TESTS = {name for source in SOURCES for name in re.findall(r"^def (test_\w+)", source.read_text("utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("table", [KNOWN, NOT_OFFERED], ids=["known", "not-offered"])
def test_every_entry_names_a_client_and_a_test_that_exist(table):
    assert {client for client, _ in table} <= {client.name for client in CLIENTS}
    assert {test.partition("[")[0] for _, test in table} <= TESTS


def test_ours_have_no_entry():
    assert not [key for key in KNOWN | NOT_OFFERED if key[0].startswith("ours")]
