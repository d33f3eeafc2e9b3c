"""Write the documentation that ships inside this Python as JSON lines.

Runs as a separate script (`python -I -S collect.py`), so that importing the whole standard library changes nothing in
the reader's process. It uses only the standard library.
"""

import importlib
import inspect
import json
import os.path
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

# Importing these has side effects (a browser, a poem, a changed prompt), needs a display, shows internals under
# a name that nobody types, or is removed from the next Python.
LEFT_OUT = {
    "antigravity", "distutils", "ensurepip", "idlelib", "lib2to3", "msilib", "nt", "ntpath", "posix", "posixpath",
    "pydoc_data", "rlcompleter", "this", "tkinter", "turtle", "turtledemo", "xxlimited", "xxlimited_35", "xxsubtype",
}  # fmt: skip
SHORTEST_DOC = 20  # characters; a shorter docstring adds nothing to the name

Entry = dict[str, str]


def collect_entries() -> Iterator[Entry]:
    """Yield an entry for each documented module, class, function, method and property, each object once."""
    seen: set[int] = set()
    for module in find_modules():
        name = "os.path" if module is os.path else module.__name__
        prefix = "" if name == "builtins" else f"{name}."
        yield from describe(name, "module", name, module)
        for member, value in find_exports(module, name):
            if not callable(value) or id(value) in seen:
                continue
            seen.add(id(value))
            kind = "class" if inspect.isclass(value) else "function"
            yield from describe(prefix + member, kind, name, value)
            if inspect.isclass(value):
                for attribute, inner in sorted(vars(value).items()):
                    if not attribute.startswith("_"):
                        kind = "property" if isinstance(inner, property) else "method"
                        yield from describe(f"{prefix}{member}.{attribute}", kind, name, inner)


def find_modules() -> Iterator[ModuleType]:
    """Yield every public module of the standard library, packages before what they contain."""
    for top in sorted(sys.stdlib_module_names - LEFT_OUT):
        module = None if top.startswith("_") else try_import(top)
        if module is None:
            continue
        yield module
        if top == "os":
            yield os.path
        for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{top}.", onerror=lambda _: None):
            private = any(part.startswith("_") or part in {"test", "tests"} for part in found.name.split("."))
            inner = None if private else try_import(found.name)
            if inner is not None:
                yield inner


def try_import(name: str) -> ModuleType | None:
    """Import a module, or return None if this platform or this build has no such module."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError):
        return None


def find_exports(module: ModuleType, name: str) -> Iterator[tuple[str, object]]:
    """Yield what a module offers: its `__all__` if it has one, else the public names that it defines itself."""
    listed = getattr(module, "__all__", None)
    for member in sorted(set(listed) if listed is not None else vars(module)):
        value = getattr(module, member, None)
        own = listed is not None or getattr(value, "__module__", None) in {name, None}
        if own and not member.startswith("_") and not isinstance(value, ModuleType):
            yield member, value


def describe(name: str, kind: str, module: str, value: object) -> Iterator[Entry]:
    """Yield the entry of one object, or nothing if it only inherits documentation."""
    doc = inspect.getdoc(value)
    borrowed = kind not in {"module", "class"} and doc == inspect.getdoc(type(value))
    if doc and len(doc) >= SHORTEST_DOC and not borrowed:
        title = name + ("" if kind in {"module", "property"} else format_parameters(value))
        yield {"name": name, "kind": kind, "module": module, "source": "library", "title": title, "text": doc}


def format_parameters(value: object) -> str:
    """Return the parameter names in parentheses. Defaults would show this machine's paths and environment."""
    try:
        signature = inspect.signature(getattr(value, "__func__", value))  # type: ignore[arg-type]
    except (TypeError, ValueError, AttributeError):  # written in C, without a signature
        return ""
    plain = [p.replace(default=p.empty, annotation=p.empty) for p in signature.parameters.values()]
    shown = [str(p) for p in plain if p.name not in {"self", "cls"}]
    return f"({', '.join(shown)})"


def collect_topics() -> Iterator[Entry]:
    """Yield the chapters of the language reference that `help("with")` shows."""
    from pydoc_data.topics import topics as chapters

    for topic, text in sorted(chapters.items()):
        name = f"reference.{topic}"
        same = {"kind": "topic", "module": "reference", "source": "reference"}
        yield {"name": name, **same, "title": name, "text": text}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # deprecated modules warn when imported
    with open(1, "w", encoding="utf-8", closefd=False) as out:
        out.writelines(json.dumps(row) + "\n" for row in [*collect_entries(), *collect_topics()])
