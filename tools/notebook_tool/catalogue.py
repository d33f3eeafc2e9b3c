"""The catalogue of the course: order and facts of the notebooks, and the texts made from them."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

LEVELS = ("beginner", "intermediate", "advanced")


class CourseError(Exception):
    """Something is wrong in the course's files; the message says what to change."""


@dataclass(frozen=True)
class Entry:
    """One notebook of the course, as `catalogue.toml` describes it."""

    file: str
    title: str
    level: str
    minutes: int
    needs: tuple[str, ...]
    key: str
    verbs: tuple[str, ...]
    data: str
    license: str
    extras: tuple[str, ...] = ()

    @property
    def link(self) -> str:
        """A Markdown link to the notebook from the folder it is in."""
        return f"[{self.title}]({self.file}.ipynb)"

    @property
    def number(self) -> str:
        """The number in the reading order, such as `04`."""
        return self.file.partition("_")[0]


@dataclass(frozen=True)
class Catalogue:
    """The notebooks in reading order, and what the header says about the API key."""

    entries: tuple[Entry, ...]
    keys: dict[str, str]

    def __getitem__(self, file: str) -> Entry:
        """Return the entry of a notebook, by its file name without ending."""
        for entry in self.entries:
            if entry.file == file:
                return entry
        known = ", ".join(entry.file for entry in self.entries)
        raise CourseError(f"{file} is not in catalogue.toml, which lists: {known}")

    def make_header(self, file: str) -> str:
        """Return the block under a notebook's title, as Markdown."""
        entry = self[file]
        needs = ", ".join(self[name].link for name in entry.needs) or "nothing before this notebook"
        if entry.extras:
            needs += f"; what `make extras` installs ({', '.join(f'`{name}`' for name in entry.extras)})"
        rows = {
            "Level and time": f"{entry.level}, {entry.minutes} minutes",
            "You will be able to": "; ".join(entry.verbs),
            "You need": needs,
            "API key": self.keys[entry.key],
            "Data and license": f"{entry.data}; {entry.license}",
        }
        return "\n".join(f"- **{label}:** {text}" for label, text in rows.items())

    def link_neighbors(self, file: str) -> str:
        """Return the last cell of a notebook: links to its neighbors and to the overview."""
        place = self.entries.index(self[file])
        links = ["[All notebooks](README.md)"]
        if place > 0:
            links.insert(0, f"Previous: {self.entries[place - 1].link}")
        if place + 1 < len(self.entries):
            links.append(f"Next: {self.entries[place + 1].link}")
        return "---\n\n" + " · ".join(links)

    def make_table(self) -> str:
        """Return the course table of the project's README, as Markdown."""
        rows = ["| no. | notebook | level | minutes | afterwards you can |", "| --- | --- | --- | --- | --- |"]
        for entry in self.entries:
            link = f"[{entry.title}](notebooks/{entry.file}.ipynb)"
            rows.append(f"| {entry.number} | {link} | {entry.level} | {entry.minutes} | {'; '.join(entry.verbs)} |")
        return "\n".join(rows)

    def make_map(self) -> str:
        """Return the table in the notebooks' README, as Markdown: what leads to what, and how long it takes."""
        rows = ["| no. | notebook | level | minutes | read before | data |", "| --- | --- | --- | --- | --- | --- |"]
        for entry in self.entries:
            needs = ", ".join(f"[{self[name].number}]({name}.ipynb)" for name in entry.needs) or "none"
            facts = (entry.number, entry.link, entry.level, str(entry.minutes), needs, entry.data)
            rows.append(f"| {' | '.join(facts)} |")
        rows.append(f"| | *all of them* | | *{sum(entry.minutes for entry in self.entries)}* | | |")
        return "\n".join(rows)


def load_catalogue(path: Path) -> Catalogue:
    """Read and check `catalogue.toml`.

    Raises:
        CourseError: A field is missing, unknown, or has a value that makes no sense.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    entries: list[Entry] = []
    for fields in content["notebook"]:
        name = fields.get("file", "an entry without file")
        lists = {field: tuple(fields.get(field, ())) for field in ("needs", "verbs", "extras")}
        try:
            entry = Entry(**(fields | lists))
        except TypeError as error:
            raise CourseError(f"catalogue.toml, {name}: {error}") from error
        if problem := _problem(entry, [earlier.file for earlier in entries], content["keys"]):
            raise CourseError(f"catalogue.toml, {name}: {problem}")
        entries.append(entry)
    return Catalogue(tuple(entries), content["keys"])


def _problem(entry: Entry, earlier: list[str], keys: dict[str, str]) -> str | None:
    """Return what is wrong with an entry, or None."""
    if not re.fullmatch(r"\d\d_[a-z0-9_]+", entry.file) or entry.file in earlier:
        return "file must be a unique name of the form NN_name"
    if entry.level not in LEVELS:
        return f"level must be one of {', '.join(LEVELS)}"
    if not 2 <= len(entry.verbs) <= 4:
        return "verbs must name 2 to 4 things the reader can do afterwards"
    if not set(entry.needs) <= set(earlier):
        return "needs may only name notebooks that come before it"
    if entry.key not in keys:
        return f"key must be one of {', '.join(keys)}, explained under [keys]"
    return None


def fill_readme(readme: str, place: str, text: str) -> str:
    """Return a README's text with `text` between the two markers of a place, such as `course`.

    Raises:
        CourseError: The markers are not there, once each and in order.
    """
    first, last = f"<!-- {place}:begin -->", f"<!-- {place}:end -->"
    before, begin, rest = readme.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise CourseError(f"there is no place for this: add the two lines {first} and {last}")
    return f"{before}{begin}\n{text}\n{end}{after}"
