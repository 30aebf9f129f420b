"""Foreign packages under this project's names are refused before anything of them runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.guard import PACKAGES, REINSTALL, ROOT


def _install(site: Path, name: str, files: list[str]) -> None:
    """What pip leaves behind of a distribution: its files are there already, this adds the metadata."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def _foreign(site: Path, package: str = "spaces") -> None:
    (site / package).mkdir(parents=True, exist_ok=True)
    (site / package / "__init__.py").write_text("raise RuntimeError('foreign code ran')\n")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A site folder that holds this project as a wheel would."""
    site = tmp_path / "site"
    for package in PACKAGES:
        (site / package).mkdir(parents=True)
        shutil.copy(ROOT / package / "__init__.py", site / package)
    shutil.copy(ROOT / "search" / "guard.py", site / "search")
    _install(site, "paretoformer", [f"{package}/__init__.py" for package in PACKAGES])
    return site


def _python(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter whose path starts with `path`; -S keeps this environment's packages out."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run([sys.executable, "-S", "-c", code], env=env, cwd=path[0], capture_output=True, text=True)


def test_a_clean_install_passes_both_checks(installed: Path) -> None:
    done = _python("import search.guard; search.guard.check_overwritten()", installed)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_foreign_package_earlier_on_the_path_is_named_with_its_distribution(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    _foreign(other)
    _install(other, "spaces", ["spaces/__init__.py"])
    message = _python("import search", other, installed).stderr
    assert f"Package 'spaces' comes from {other / 'spaces'} (distribution 'spaces')" in message
    assert f"expected {installed / 'spaces'}. Cure: pip uninstall spaces" in message
    assert "foreign code ran" not in message


def test_a_foreign_folder_without_a_distribution_is_named_by_its_path(installed: Path, tmp_path: Path) -> None:
    _foreign(tmp_path / "work", "evaluators")
    message = _python("import search", tmp_path / "work", installed).stderr
    assert f"comes from {tmp_path / 'work' / 'evaluators'}, expected" in message
    assert "Cure: rename that folder or take it off the path" in message


def test_a_foreign_package_later_on_the_path_does_no_harm(installed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    _foreign(other)
    _install(other, "spaces", ["spaces/__init__.py"])
    done = _python("import search.guard; search.guard.check_overwritten()", installed, other)
    assert (done.returncode, done.stderr) == (0, "")


def test_packages_that_ray_unpacked_for_a_driver_belong_together(installed: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "py_modules_files" / f"_ray_pkg_{number}" for number in range(len(PACKAGES))]
    for package, folder in zip(PACKAGES, folders, strict=True):
        folder.mkdir(parents=True)
        shutil.move(installed / package, folder / package)
    done = _python("import search", *folders)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("last", ["spaces", "paretoformer"])
def test_two_wheels_in_one_folder_are_refused_in_both_orders(installed: Path, last: str) -> None:
    if last == "spaces":
        _foreign(installed)
    _install(installed, "spaces", ["spaces/__init__.py", "spaces/zero.py"])
    message = _python("import search", installed).stderr
    assert f"'spaces' and 'paretoformer' have both written {installed / 'spaces' / '__init__.py'}" in message
    assert f"Cure: pip uninstall spaces && {REINSTALL}" in message
    assert "foreign code ran" not in message


def test_a_distribution_of_another_name_is_found_by_the_full_check(installed: Path) -> None:
    _install(installed, "zerohelper", ["spaces/__init__.py"])
    done = _python("import search.guard; print('imported'); search.guard.check_overwritten()", installed)
    assert done.stdout == "imported\n"
    assert "Cure: pip uninstall zerohelper" in done.stderr


def test_after_the_foreign_wheel_was_uninstalled_the_cure_is_to_reinstall(installed: Path) -> None:
    (installed / "spaces" / "__init__.py").unlink()
    message = _python("import search", installed).stderr
    assert f"Package 'spaces' of paretoformer has lost its __init__.py. Cure: {REINSTALL}" in message
