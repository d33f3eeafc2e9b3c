import pytest

from nvrerank_helpers.__main__ import main
from nvrerank_helpers.nim_standin import StandIn


@pytest.fixture(scope="module")
def standin():
    with StandIn() as running:
        yield running.base_url


@pytest.mark.parametrize(("model", "status"), [([], 0), (["--model", "other"], 1)])
def test_the_command_line_tells_by_its_status(standin, capsys, model, status):
    assert main(["check", "--base-url", standin, *model]) == status
    assert capsys.readouterr().out.startswith("ok    address")
