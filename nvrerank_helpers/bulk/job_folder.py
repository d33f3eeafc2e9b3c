"""The folder of a bulk job: what it is about, what is to do, what is done, and who is at work in it."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.blocks import block_name
from nvrerank_helpers.bulk.errors import OtherJob
from nvrerank_helpers.connector import Truncate
from nvrerank_helpers.extras import extra

ELSEWHERE = "Take another folder for this job, or remove that one if its results are not needed."


@dataclass(frozen=True)
class Settings:
    """What a job's result depends on, apart from its input; services and workers are not among it.

    Attributes:
        model: Id of the model.
        truncate: What happens to passages that are too long.
        top_n: Passages kept for each query; None keeps all.
        block_pairs: Pairs of a block.
    """

    model: str
    truncate: Truncate | None
    top_n: int | None
    block_pairs: int


@dataclass(frozen=True)
class Folder:
    """The places in a job's folder.

    Attributes:
        path: The folder.

    Example:
        >>> Folder(Path("out")).ranked.as_posix()
        'out/ranked'
    """

    path: Path

    @property
    def ranked(self) -> Path:
        """The results: qid, docno, rank, logit; a file a block."""
        return self.path / "ranked"

    @property
    def failed(self) -> Path:
        """Rows without a logit: qid, docno, error, reason; a file for each block that has such rows."""
        return self.path / "failed"

    @property
    def todo(self) -> Path:
        """The input, cut into blocks; removed when the job has ended."""
        return self.path / ".todo"

    @property
    def manifest(self) -> Path:
        """What the job is about; written when the input is cut."""
        return self.path / "job.json"

    def pending(self, blocks: int) -> list[int]:
        """Return the numbers of the blocks that are not done."""
        done = {file.name for file in self.ranked.glob("block-*.parquet")}
        return [number for number in range(blocks) if block_name(number) not in done]

    def begin(self) -> None:
        """Make the folders, and remove what an interrupted start left."""
        shutil.rmtree(self.todo, ignore_errors=True)
        for folder in (self.todo, self.ranked, self.failed):
            folder.mkdir(parents=True, exist_ok=True)

    def end(self) -> None:
        """Remove what only the work needed: the input in blocks, and files that a killed worker left half written."""
        shutil.rmtree(self.todo, ignore_errors=True)
        for folder in (self.ranked, self.failed):
            for half in folder.glob(".block-*"):
                half.unlink()


def fingerprint(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name, to know an input again."""
    found = {}
    for file in files:
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def manifest(files: Mapping[str, str], settings: Settings, blocks: Sequence[int]) -> dict[str, Any]:
    """Describe a job.

    Args:
        files: Name and SHA-256 of each file of its input.
        settings: What its result depends on.
        blocks: Pairs of each block.
    """
    return {"input": dict(files), "settings": asdict(settings), "blocks": list(blocks)}


def check_same(begun: Mapping[str, Any], files: Mapping[str, str], settings: Settings) -> None:
    """Check that a job goes on as it began.

    Args:
        begun: The manifest that is there.
        files: Name and SHA-256 of each file of the input now.
        settings: The settings now.

    Raises:
        OtherJob: Something differs.

    Example:
        >>> now = Settings("m", "END", None, 2000)
        >>> check_same(manifest({"a": "1"}, now, [7]), {"a": "1"}, now)
    """
    changed = [name for name in {**begun["input"], **files} if begun["input"].get(name) != files.get(name)]
    if changed:
        raise OtherJob(f"The folder holds a job over other input: {', '.join(sorted(changed))}. {ELSEWHERE}")
    for name, value in asdict(settings).items():
        if begun["settings"].get(name) != value:
            raise OtherJob(
                f"The folder holds a job that was begun with {name} {begun['settings'].get(name)!r}, and this is "
                f"{value!r}. {ELSEWHERE}"
            )


def read_manifest(folder: Folder) -> dict[str, Any] | None:
    """Return what the folder's job is about; None where none was begun.

    Raises:
        OtherJob: The folder holds something else.
    """
    if not folder.manifest.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(folder.manifest.read_text(encoding="utf-8"))
        if found.keys() >= {"input", "settings", "blocks"}:
            return found
    except (ValueError, AttributeError):
        pass
    raise OtherJob(f"{folder.manifest} is not that of a bulk job. {ELSEWHERE}")


def write_manifest(folder: Folder, content: Mapping[str, Any]) -> None:
    """Write what the job is about, whole or not at all."""
    half = folder.manifest.with_suffix(".half")
    half.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    half.replace(folder.manifest)


@contextmanager
def locked(path: Path) -> Iterator[Folder]:
    """Make a folder and be the only process that works in it; the lock ends with the process, however it ends.

    Raises:
        OtherJob: Another process is at work in it, or it holds something that no job put there.
    """
    with extra("ray"):
        import filelock
    path.mkdir(parents=True, exist_ok=True)
    folder = Folder(path)
    ours = {folder.ranked, folder.failed, folder.todo, folder.manifest, path / ".lock"}
    if not folder.manifest.exists() and (others := set(path.iterdir()) - ours):
        names = ", ".join(sorted(other.name for other in others)[:3])
        raise OtherJob(f"{path} holds no bulk job but other things ({names}): give an empty folder or a new name.")
    try:
        with filelock.FileLock(path / ".lock", timeout=0):
            yield folder
    except filelock.Timeout:
        raise OtherJob(f"Another process is at work in {path}: wait until it has ended.") from None
