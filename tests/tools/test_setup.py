"""The set-up tools, and the files that name the dependencies: none may drift from pyproject.toml."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.sign import NotebookNotary
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import lab
from tools.environment import failures, install, pythons, setup_env
from tools.environment.lock import BEYOND
from tools.environment.wheels import list_pythons

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "locks/course.lock").read_text()
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())

# The extras that are not in locks/course.lock, and the lock that each is in.
EXTRA_LOCKS = {"cross-encoder": "cross-encoder", "site": "site", "dev-upstream": "upstream"}
EXTRA_LOCKS |= dict.fromkeys(BEYOND, "beyond")


def read_lock(extra):
    path = f"locks/{EXTRA_LOCKS[extra]}.lock" if extra in EXTRA_LOCKS else "locks/course.lock"
    return (ROOT / path).read_text()


def list_pins(lock):
    """Return name and version of every entry of a lock."""
    entries = [Requirement(line.rstrip(" \\")) for line in lock.splitlines() if re.match(r"\w", line)]
    return {(canonicalize_name(entry.name), str(entry.specifier).removeprefix("==")) for entry in entries}


def list_dependencies():
    extras = PROJECT["optional-dependencies"]
    return [(extra, line) for extra, lines in {"": PROJECT["dependencies"], **extras}.items() for line in lines]


# --- the locks and environment.yml


@pytest.mark.parametrize(("extra", "line"), list_dependencies())
def test_the_lock_satisfies_each_direct_dependency(extra, line):
    requirement = Requirement(line)
    versions = [version for name, version in list_pins(read_lock(extra)) if name == canonicalize_name(requirement.name)]
    assert versions
    assert all(version in requirement.specifier for version in versions)


@pytest.mark.parametrize("path", sorted((ROOT / "locks").glob("*.lock")), ids=lambda path: path.stem)
def test_every_entry_of_a_lock_has_a_hash_and_no_address_and_no_option(path):
    lock = path.read_text()
    stanzas = re.split(r"\n(?=\w)", lock)
    assert len(stanzas) > 50
    assert [stanza for stanza in stanzas if "--hash=sha256:" not in stanza] == []
    assert re.findall(r"^.*://.*$|^-.*$", lock, re.MULTILINE) == []


@pytest.mark.parametrize("extra", ["course", "images", "site"])
def test_the_locks_leave_torch_out(extra):
    unwanted = re.compile(r"torch|sentence-transformers|triton|^nvidia-|cuda")
    assert [name for name, _ in list_pins(read_lock(extra)) if unwanted.search(name)] == []


@pytest.mark.parametrize("extra", ["cross-encoder", "site", "ray"])
def test_an_environment_beside_has_the_versions_of_the_course(extra):
    course, beside = dict(list_pins(LOCK)), list_pins(read_lock(extra))
    twice = {name for name, _ in list_pins(LOCK)} & {name for name, _ in beside}
    assert len(twice) > 150
    assert {pin for pin in beside if pin[0] in course} <= list_pins(LOCK)


@pytest.mark.parametrize("name", ["connector", "upstream"])
def test_an_environment_with_the_connector_alone_has_the_versions_of_the_course(name):
    course, alone = list_pins(LOCK), list_pins((ROOT / f"locks/{name}.lock").read_text())
    assert {pin for pin in alone if pin[0] in dict(course)} <= course


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_the_lowest_versions_are_those_of_the_project(line):
    requirement = Requirement(line)
    lowest = [clause.version for clause in requirement.specifier if clause.operator == ">="]
    tested = [
        version for name, version in list_pins((ROOT / "locks/floors.lock").read_text()) if name == requirement.name
    ]
    assert [Version(version) for version in tested] == [Version(version) for version in lowest]


def is_supported(version):
    return version in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_conda_takes_the_pythons_of_the_set_up():
    taken = Requirement(CONDA["dependencies"][0]).specifier
    assert set(pythons.VERSIONS) == {f"3.{minor}" for minor in range(30) if f"3.{minor}" in taken}


def test_conda_takes_every_package_from_the_lock():
    assert CONDA["dependencies"][1:] == ["pip", {"pip": ["--require-hashes", "-r locks/course.lock"]}]


def test_the_set_up_takes_the_pythons_that_the_whole_course_runs_on():
    """The connector runs on later ones too; extras whose packages don't are marked."""
    marked = [Requirement(line).marker for extra, line in list_dependencies() if extra == "course"]
    runs = [f"3.{minor}" for minor in range(30) if is_supported(f"3.{minor}")]
    complete = {v for v in runs if all(marker.evaluate({"python_version": v}) for marker in marked if marker)}
    assert set(pythons.VERSIONS) == complete


def test_the_project_names_each_python_that_it_is_checked_on():
    assert set(pythons.VERSIONS) < set(list_pythons(PROJECT["classifiers"]))
    assert all(is_supported(version) for version in list_pythons(PROJECT["classifiers"]))


# --- the steps of the set-up


def python(version, venv=True):
    return {"version": version, "path": f"/bin/python{version}", "venv": venv}


@pytest.mark.parametrize(
    "found",
    [
        [python("3.12"), python("3.13")],
        [python("3.8"), {}, python("3.12")],
        [python("3.14"), python("3.12")],
        [python("3.11", venv=False), python("3.12")],
        [python("pypy3.11"), python("3.12")],
    ],
)
def test_the_first_python_that_fits_is_chosen(found):
    assert pythons.choose(found)["version"] == "3.12"


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        ([python("3.8")], r"found: 3\.8\.[^~]*python3\.12-venv[^~]*make setup PYTHON="),
        ([{}], "found: none"),
        ([python("3.11", venv=False)], r"sudo apt install python3\.11-venv"),
    ],
)
def test_a_missing_python_is_named_with_what_to_install(found, advice):
    with pytest.raises(failures.SetupError, match=advice):
        pythons.choose(found)


def test_a_command_that_does_not_run_gives_no_answer():
    assert pythons.probe("/nowhere/python3") == {}


def test_a_python_reports_its_version():
    assert pythons.probe(sys.executable)["version"] == "{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "differs from the one"),
        ("error: Failed to download `tqdm`\n  Caused by: Hash mismatch for `tqdm==4.70.1`", "differs from the one"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", "SSL_CERT_FILE"),
        ("Caused by: invalid peer certificate: UnknownIssuer", "SSL_CERT_FILE"),
        ("[Errno 111] Connection refused\nERROR: No matching distribution found for uv", "HTTPS_PROXY"),
        ("error: Failed to fetch: x\n  Caused by: dns error: failed to lookup address information", "PIP_INDEX_URL"),
        ("ProxyError('Cannot connect to proxy.', NewConnectionError(...))", "HTTPS_PROXY"),
        ("ERROR: No matching distribution found for faiss-cpu==1.15.1", "does not have a package"),
        ("something new\nat the end", "does not know:\nsomething new\nat the end"),
    ],
)
def test_a_failure_says_how_to_mend_it(output, advice):
    assert advice in str(failures.explain(output))


@pytest.mark.parametrize(
    "output", ["could not fetch http://user:secret@host/simple: timed out", "http://user:secret@h"]
)
def test_a_failure_shows_no_password(output):
    assert "secret" not in str(failures.explain(output))


def test_another_tool_is_tried_only_where_that_can_help():
    assert failures.explain("No space left on device").final
    assert not failures.explain("Connection refused").final


def test_one_package_is_cut_out_of_the_lock_with_its_hashes():
    lock = "uv==2 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n    # via x\nuvicorn==4 \\\n    --hash=sha256:4\n"
    assert setup_env.cut_entry(lock, "uv") == "uv==2 \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\n"


def test_the_lock_holds_the_installer_itself():
    assert setup_env.cut_entry(LOCK, "uv").count("--hash=") > 10


def test_a_lock_without_the_package_is_refused():
    with pytest.raises(failures.SetupError, match="make lock"):
        setup_env.cut_entry("uvicorn==4 \\\n    --hash=sha256:1\n", "uv")


DONE = {"root": str(ROOT), "python": "3.12", "lock": "1", "project": "2"}


@pytest.mark.parametrize("running", ["3.12", "3.8"])
def test_a_complete_environment_stays_also_for_an_old_python(running):
    assert setup_env.is_usable(DONE, running, inside="3.12")


@pytest.mark.parametrize(
    ("done", "running", "inside"),
    [
        ({}, "3.12", None),
        (DONE | {"root": "/elsewhere"}, "3.12", "3.12"),
        (DONE, "3.13", "3.12"),
        (DONE, "3.12", None),
        (DONE, "3.13", "3.13"),
    ],
    ids=["no stamp", "moved folder", "other Python asked for", "does not run", "Python changed below it"],
)
def test_an_environment_that_does_not_fit_is_made_anew(done, running, inside):
    assert not setup_env.is_usable(done, running, inside)


class FakeSteps:
    """Notes the steps of a set-up in place of taking them."""

    def __init__(self, folder, monkeypatch):
        self.taken, self.fails = [], None
        stamp = folder / "stamp.json"
        monkeypatch.setattr(setup_env, "STAMP", stamp)
        monkeypatch.setattr(setup_env, "probe", lambda _: {"version": "{}.{}".format(*sys.version_info)})
        monkeypatch.setattr(setup_env, "make_venv", lambda: self.take("venv") or "{}.{}".format(*sys.version_info))
        monkeypatch.setattr(setup_env, "uv_packages", lambda *_: self.take("uv"))
        monkeypatch.setattr(setup_env, "pip_install", lambda *words: self.take("pip" if LOCKED in words else words[-1]))

    def take(self, step):
        self.taken.append(step)
        if step == self.fails:
            raise failures.SetupError("no connection", final=False)

    def set_up(self):
        self.taken.clear()
        setup_env.set_up()
        return self.taken


LOCKED = ROOT / "locks" / "course.lock"


@pytest.fixture
def steps(tmp_path, monkeypatch):
    return FakeSteps(tmp_path, monkeypatch)


def test_a_step_that_is_done_is_not_done_again(steps):
    assert steps.set_up()[0] == "venv"
    assert steps.set_up() == []


def test_another_lock_is_installed_into_the_same_environment_and_the_project_again(steps):
    steps.set_up()
    setup_env.STAMP.write_text(json.dumps(setup_env.read_stamp() | {"lock": "older"}))
    assert steps.set_up()[1:] == ["uv", ROOT]


def test_another_pyproject_toml_installs_the_project_alone(steps):
    steps.set_up()
    setup_env.STAMP.write_text(json.dumps(setup_env.read_stamp() | {"project": "older"}))
    assert steps.set_up() == [ROOT]


def test_where_uv_fails_pip_installs_the_lock_into_a_new_environment(steps, capsys):
    steps.fails = "uv"
    assert steps.set_up()[-4:] == ["uv", "venv", "pip", ROOT]
    assert "no connection" in capsys.readouterr().out


def test_a_set_up_that_fails_begins_anew(steps):
    steps.fails = ROOT
    with pytest.raises(failures.SetupError):
        steps.set_up()
    steps.fails = None
    assert steps.set_up()[0] == "venv"


def test_a_stamp_cut_short_counts_as_none(steps):
    setup_env.STAMP.write_text('{"root": ')
    assert setup_env.read_stamp() == {}


def test_a_failed_program_is_explained():
    with pytest.raises(failures.SetupError, match="disk is full"):
        install.run([sys.executable, "-c", "raise SystemExit('No space left on device')"])


PIP_CONFIG = "global.cert='/ca.pem'\nglobal.index-url='https://a/simple'\ninstall.index-url='https://b/simple'\n"


def test_the_index_of_pip_is_handed_to_uv():
    settings = install.uv_settings({"HOME": "/h"}, PIP_CONFIG)
    assert settings == {"HOME": "/h", "UV_DEFAULT_INDEX": "https://b/simple", "SSL_CERT_FILE": "/ca.pem"}


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_an_index_meant_for_uv_wins(variable):
    settings = install.uv_settings({variable: "https://c/simple", "SSL_CERT_FILE": "/own.pem"}, PIP_CONFIG)
    assert settings == {variable: "https://c/simple", "SSL_CERT_FILE": "/own.pem"}


@pytest.mark.parametrize("name", ["setup_env", "install", "failures", "pythons"])
def test_the_set_up_keeps_to_the_syntax_of_old_pythons(name):
    ast.parse((ROOT / "tools" / "environment" / f"{name}.py").read_text(), feature_version=(3, 8))


# --- make and JupyterLab


def test_make_alone_prints_what_it_can_do():
    help_text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(\w+ the \w+)|make (\w+)", help_text, re.MULTILINE)[:4] == [
        *[("", "help"), ("Use the course", ""), ("", "demo"), ("", "lab")]
    ]


def test_lab_opens_no_browser_without_a_display():
    assert not lab.has_browser("linux", {})


@pytest.mark.parametrize(
    ("browser", "root", "expected"),
    [(True, False, []), (False, False, ["--no-browser"]), (False, True, ["--no-browser", "--allow-root"])],
)
def test_lab_asks_for_what_the_machine_can_do(browser, root, expected):
    assert lab.list_options(browser=browser, root=root)[1:] == expected


def test_lab_asks_nobody_about_news(tmp_path):
    lab.write_defaults(tmp_path)
    written = json.loads((tmp_path / "share/jupyter/lab/settings/overrides.json").read_text(encoding="utf-8"))
    assert written["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_lab_signs_the_notebooks_so_that_their_figures_are_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(notebook, tmp_path / "00.ipynb")
    lab.sign(tmp_path)
    notary = NotebookNotary()
    assert notary.check_signature(nbformat.read(tmp_path / "00.ipynb", as_version=4))
    notary.store.close()
