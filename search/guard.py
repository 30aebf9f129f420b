"""Refuses foreign packages under this project's names. Knows import paths and installed files; knows nothing else.

Other distributions may bring a package of one of these names; Hugging Face's ZeroGPU helper is called `spaces`. Found
first on the path, or installed over this project's files, it would fail somewhere far away, so it is named here.
"""

from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path

DISTRIBUTION = "paretoformer"
PACKAGES = ("spaces", "evaluators", "search")
ROOT = Path(__file__).resolve().parent.parent
REINSTALL = f"pip install --force-reinstall --no-deps . (in the checkout of {DISTRIBUTION})"


def check_folders() -> None:
    """Make sure that this project's packages are the ones beside this one, untouched. Takes about a millisecond.

    Raises:
        ImportError: a package comes from elsewhere, or the distribution of its name was installed over it.
    """
    for package in PACKAGES:
        found, own = _init_file(package), ROOT / package / "__init__.py"
        if found != own and not _sent_together(found, own):
            owner = _owner(found, metadata.packages_distributions().get(package, ()))
            cure = f"pip uninstall {owner}" if owner else "rename that folder or take it off the path"
            whose = f" (distribution '{owner}')" if owner else ""
            raise ImportError(
                f"Package '{package}' comes from {found.parent}{whose}, expected {own.parent}. Cure: {cure}"
            )
        _refuse_second_owner(own, [package])


def check_overwritten() -> None:
    """Make sure that no distribution of any name was installed over this project. Reads all metadata: call it once.

    Raises:
        ImportError: another distribution has put its files into a folder of this project.
    """
    claims = metadata.packages_distributions()
    for package in PACKAGES:
        _refuse_second_owner(ROOT / package / "__init__.py", claims.get(package, ()))


def _sent_together(found: Path, own: Path) -> bool:
    """Whether Ray unpacked both here for a driver: it gives each package a folder of its own."""
    return ROOT.name.startswith("_ray_pkg_") and found.parents[2] == own.parents[2]


def _init_file(package: str) -> Path:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"Package '{package}' of {DISTRIBUTION} has lost its __init__.py. Cure: {REINSTALL}")
    return Path(spec.origin).resolve()


def _refuse_second_owner(own: Path, distributions: Iterable[str]) -> None:
    owner = _owner(own, distributions)
    if owner is not None:
        raise ImportError(
            f"Distributions '{owner}' and '{DISTRIBUTION}' have both written {own}; they cannot share an environment. "
            f"Cure: pip uninstall {owner} && {REINSTALL}"
        )


def _owner(file: Path, distributions: Iterable[str]) -> str | None:
    others = sorted(set(distributions) - {DISTRIBUTION})
    return next((name for name in others if _has_installed(name, file)), None)


def _has_installed(distribution: str, file: Path) -> bool:
    try:
        files = metadata.distribution(distribution).files or ()
    except metadata.PackageNotFoundError:
        return False
    return any(entry.name == file.name and Path(str(entry.locate())).resolve() == file for entry in files)
