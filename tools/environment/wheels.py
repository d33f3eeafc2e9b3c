"""Check that the connector's dependencies can be installed without a compiler on each Python that pyproject.toml names.

Nothing is installed: uv looks up in the package index which versions it would take, and whether they have wheels.
"""

import re
import subprocess
import sys
import tomllib

from tools.environment.setup_env import PROJECT, ROOT, UV, uv_environment

NAMED = re.compile(r"Programming Language :: Python :: (3\.\d+)")
OPTIONS = ["--quiet", "--only-binary", ":all:", "--system-certs", "--no-emit-index-url", "--no-annotate", "--no-header"]


def named_pythons(classifiers: list[str]) -> list[str]:
    """Return the Python versions among the classifiers of a project.

    Example:
        >>> named_pythons(["Typing :: Typed", "Programming Language :: Python :: 3.14"])
        ['3.14']
    """
    return [match[1] for match in map(NAMED.fullmatch, classifiers) if match]


def main() -> int:
    """Resolve the dependencies once for each Python; return 1 if one fails."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    failed = False
    for version in named_pythons(project["classifiers"]):
        command = [str(UV), "pip", "compile", *OPTIONS, "--python-version", version, str(PROJECT)]
        tried = subprocess.run(
            command, cwd=ROOT, env=uv_environment(), capture_output=True, encoding="utf-8", check=False
        )
        if tried.returncode:
            failed = True
            print(f"Python {version}: the connector's dependencies cannot be installed from wheels.\n{tried.stderr}")
        else:
            print(f"Python {version}: {len(tried.stdout.splitlines())} packages, all with wheels")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
