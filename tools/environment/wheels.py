"""Check that the connector's dependencies install without a compiler on each Python that pyproject.toml names.

Nothing is installed: uv asks the package index which versions it would take, and whether they have wheels.
"""

import re
import subprocess
import sys
import tomllib

from tools.environment.install import PROJECT, ROOT, UV, uv_environment

CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")
OPTIONS = ["--quiet", "--only-binary", ":all:", "--system-certs", "--no-emit-index-url", "--no-annotate", "--no-header"]


def list_pythons(classifiers: list[str]) -> list[str]:
    """Return the Python versions among the classifiers of a project."""
    return [match[1] for match in map(CLASSIFIER.fullmatch, classifiers) if match]


def main() -> int:
    """Resolve the dependencies once for each Python; return 1 if one fails."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    failed = False
    for version in list_pythons(project["classifiers"]):
        command = [str(UV), "pip", "compile", *OPTIONS, "--python-version", version, str(PROJECT)]
        env = uv_environment()
        resolved = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, encoding="utf-8", check=False)
        if resolved.returncode:
            failed = True
            print(f"Python {version}: the connector's dependencies cannot be installed from wheels.\n{resolved.stderr}")
        else:
            print(f"Python {version}: {len(resolved.stdout.splitlines())} packages, all with wheels")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
