"""The folder of a bulk job: its manifest, the input blocks, the results, and a lock."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nvrerank_helpers.bulk.blocks import get_block_name
from nvrerank_helpers.bulk.parquet import read_rows
from nvrerank_helpers.bulk.rows import JobMismatch
from nvrerank_helpers.bulk.trec import TAG, RunLine
from nvrerank_helpers.connector import Truncate
from nvrerank_helpers.extras import extra

RANKED = {"qid": "string", "docno": "string", "rank": "int32", "logit": "float64"}
FAILED = {"qid": "string", "docno": "string", "error": "string", "reason": "string"}
USE_ANOTHER = "Use another folder for this job, or remove that folder if you don't need its results."


@dataclass(frozen=True)
class JobSettings:
    """What the result of a job depends on besides its input; services and workers don't change it."""

    model: str
    truncate: Truncate | None
    top_n: int | None
    block_pairs: int


@dataclass(frozen=True)
class Manifest:
    """What a job is about, as its file `job.json` records it.

    Attributes:
        input: Name and SHA-256 of each input file.
        settings: The settings that the job was started with.
        blocks: Number of pairs of each block.
    """

    input: dict[str, str]
    settings: JobSettings
    blocks: list[int]

    def check_same(self, files: dict[str, str], settings: JobSettings) -> None:
        """Raise `JobMismatch` if input files or settings differ from those that the job was started with."""
        changed = [name for name in {**self.input, **files} if self.input.get(name) != files.get(name)]
        if changed:
            raise JobMismatch(f"The folder's job has other input: {', '.join(sorted(changed))}. {USE_ANOTHER}")
        for name, value in asdict(settings).items():
            started_with = getattr(self.settings, name)
            if started_with != value:
                raise JobMismatch(
                    f"The folder's job was started with {name} {started_with!r}, and this one has "
                    f"{value!r}. {USE_ANOTHER}"
                )


@dataclass(frozen=True)
class JobFolder:
    """The files in the folder of a job."""

    path: Path

    @property
    def ranked(self) -> Path:
        """The folder of results, with one file per finished block."""
        return self.path / "ranked"

    @property
    def failed(self) -> Path:
        """The folder of passages without a logit, with one file per block that has any."""
        return self.path / "failed"

    @property
    def todo(self) -> Path:
        """The folder of input blocks, which is removed when the job has ended."""
        return self.path / ".todo"

    @property
    def manifest_file(self) -> Path:
        """The manifest, which is written when all input blocks are."""
        return self.path / "job.json"

    def list_pending(self, blocks: int) -> list[int]:
        """Return the numbers of the blocks that are not done."""
        done = {file.name for file in self.ranked.glob("block-*.parquet")}
        return [number for number in range(blocks) if get_block_name(number) not in done]

    def prepare(self) -> None:
        """Make the folders, and remove what an interrupted start left behind."""
        shutil.rmtree(self.todo, ignore_errors=True)
        for folder in (self.todo, self.ranked, self.failed):
            folder.mkdir(parents=True, exist_ok=True)

    def clean_up(self) -> None:
        """Remove the input blocks, and incomplete files that killed workers left behind."""
        shutil.rmtree(self.todo, ignore_errors=True)
        for folder in (self.ranked, self.failed):
            for partial in folder.glob(".block-*"):
                partial.unlink()

    def read_manifest(self) -> Manifest | None:
        """Return the manifest, or None if no job was started here."""
        if not self.manifest_file.exists():
            return None
        try:
            found = json.loads(self.manifest_file.read_text(encoding="utf-8"))
            return Manifest(found["input"], JobSettings(**found["settings"]), found["blocks"])
        except (ValueError, TypeError, LookupError):
            raise JobMismatch(f"{self.manifest_file} is not that of a bulk job. {USE_ANOTHER}") from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest completely or not at all."""
        partial = self.manifest_file.with_suffix(".half")
        partial.write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
        partial.replace(self.manifest_file)


def hash_files(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name."""
    found = {}
    for file in files:
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


@contextmanager
def lock_folder(path: Path) -> Iterator[JobFolder]:
    """Make a folder and lock it for this process; the lock ends with the process, even if it is killed."""
    with extra("ray"):
        import filelock
    path.mkdir(parents=True, exist_ok=True)
    folder = JobFolder(path)
    ours = {folder.ranked, folder.failed, folder.todo, folder.manifest_file, path / ".lock"}
    if not folder.manifest_file.exists() and (others := set(path.iterdir()) - ours):
        names = ", ".join(sorted(other.name for other in others)[:3])
        raise JobMismatch(
            f"{path} contains no bulk job but other things ({names}): give an empty folder or a new name."
        )
    try:
        with filelock.FileLock(path / ".lock", timeout=0):
            yield folder
    except filelock.Timeout:
        raise JobMismatch(f"Another process is at work in {path}: wait until it has ended.") from None


def write_trec(out: str | Path, file: str | Path, tag: str = TAG) -> None:
    """Write the results of a job as a TREC run file, for trec_eval and similar tools.

    trec_eval sorts by score, and by passage id where scores are equal, so ties may come in another order there.

    Args:
        out: The job's folder.
        file: The run file to write.
        tag: Name of the system.

    Raises:
        BadRun: An id contains blanks.
    """
    with Path(file).open("w", encoding="utf-8") as stream:
        for block in sorted(JobFolder(Path(out)).ranked.glob("block-*.parquet")):
            rows = read_rows(block, tuple(RANKED))
            stream.writelines(f"{RunLine(qid, docno, rank, logit, tag)}\n" for qid, docno, rank, logit in rows)
