"""Archives from PyPI and npm: fetched, checked by sum, kept. Knows packages; knows nothing of what they hold."""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluators.cache import VARIABLE, cache_folder
from spaces.errors import DataError

_SECONDS = 300


@dataclass(frozen=True)
class Archive:
    """What a registry has of a package, a source distribution where that is PyPI; pinned to one content."""

    registry: Literal["PyPI", "npm"]
    package: str
    version: str
    filename: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.package}{'==' if self.registry == 'PyPI' else '@'}{self.version}"

    def download_to(self, folder: str) -> list[str]:
        """The command that does so."""
        if self.registry == "npm":
            return ["npm", "pack", str(self), "--pack-destination", folder, "--silent"]
        command = [sys.executable, "-m", "pip", "download", str(self), "--no-deps", "--no-binary", ":all:"]
        return [*command, "--dest", folder, "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1"]


def fetch(archive: Archive, folder: Path | None = None) -> Path:
    """The archive's path; downloaded unless `folder` (by default the cache) has it already.

    Raises:
        DataError: it cannot be downloaded, or has another sum than expected; then the file is removed.
    """
    path = (folder or cache_folder()) / archive.filename
    if not path.exists():
        _download(archive, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        path.unlink()
        raise DataError(
            f"{path} (of {archive}) has sha256 {found}, expected {archive.sha256}. It was removed; try again, "
            "and if that repeats, the package index serves something else."
        )
    return path


def kept() -> list[Path]:
    """Archives that lie in the cache, under the names that the registries give them."""
    return sorted(path for ending in ("*.tar.gz", "*.tgz") for path in cache_folder().glob(ending))


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar file into `folder`; nothing lands outside it (the standard library's `data` filter).

    Raises:
        DataError: no tar file, or one that reaches outside.
    """
    try:
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise DataError(f"Cannot unpack {archive}: {error}. Delete it and try again.") from None


def _download(archive: Archive, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = archive.download_to(folder)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except FileNotFoundError:
            raise _unreachable(archive, path, f"{command[0]} is not installed") from None
        except subprocess.TimeoutExpired:
            raise _unreachable(archive, path, f"no answer in {_SECONDS} s") from None
        downloaded = Path(folder) / archive.filename
        if done.returncode or not downloaded.exists():
            raise _unreachable(archive, path, (done.stderr.strip().splitlines() or ["no such file"])[-1])
        downloaded.replace(path)


def _unreachable(archive: Archive, path: Path, why: str) -> DataError:
    return DataError(
        f"Cannot download {archive} from {archive.registry} ({why}). Go online once, or place {archive.filename} "
        f"in {path.parent} (the folder that {VARIABLE} names), or give your own CSV, JSONL or Parquet file as task."
    )
