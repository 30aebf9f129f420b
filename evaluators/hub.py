"""Exported folders and the Hugging Face Hub: what heads a model card, what is known of a base model, and pushing.

Knows the Hub's client; knows nothing of runs, and loads no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    get_token,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported lazily

from evaluators.packaged import MODELS
from spaces.errors import ConfigError, ModelError, ParetoformerError

_SECONDS = 5
_REFUSED = range(400, 500)


@dataclass(frozen=True)
class Base:
    """What a compressed model was made of.

    Args:
        id: in the Hub; None: it is not known to be there.
        license: as its card says; None: it says none.
    """

    id: str | None = None
    license: str | None = None


def base(model: str) -> Base:
    """What is known of a model's origin: of a name, a folder, or an id of the Hub."""
    packaged = MODELS.get(model)
    try:
        folder = Path(model if packaged is None else packaged.locate()).expanduser()
    except ModelError:  # a run may be read where its model is not installed
        return Base(None if packaged is None else packaged.origin)
    if folder.is_dir():
        return Base(None if packaged is None else packaged.origin, _license(folder / "README.md"))
    return Base(model, _license(_fetched(model))) if _is_cached(model) else Base()


def front_matter(data: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> str:
    """What heads a model card, between its two lines of `---`.

    Args:
        data: fields of `huggingface_hub.ModelCardData`; None: unknown.
        results: fields of `huggingface_hub.EvalResult` each; they make the card's model-index.
    """
    known = {name: value for name, value in data.items() if value is not None}
    content = ModelCardData(**known, eval_results=[EvalResult(**result) for result in results] or None)
    return f"---\n{content.to_yaml()}\n---\n"


def check_push(repo: str) -> None:
    """Find out what would hinder a push before anything is built.

    Raises:
        ConfigError: no token, or not the name of a repository.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--push-to {repo!r}: {str(error).rstrip('.')}. Give ORGANISATION/NAME.") from None
    if get_token() is None:
        raise ConfigError("--push-to needs a token of the Hugging Face Hub. Set HF_TOKEN, or run: hf auth login")


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Upload an exported folder; the repository is made if it is not there.

    Args:
        folder: all of it is uploaded.
        repo: ORGANISATION/NAME.
        private: whether a new repository is; otherwise it is as its organisation's are by default.

    Returns:
        The commit's address.

    Raises:
        ConfigError: the Hub refuses: a token without the right to write, somebody else's organisation.
        ParetoformerError: the Hub cannot be reached.
    """
    later = f"The folder is whole; push it later with: hf upload {repo} {folder}"
    try:
        api = HfApi()
        api.create_repo(repo, private=private or None, exist_ok=True)
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="A model compressed by paretoformer")
    except HfHubHTTPError as error:
        kind = ConfigError if error.response.status_code in _REFUSED else ParetoformerError
        said = error.server_message or f"status {error.response.status_code}"
        raise kind(f"{repo} could not be pushed, the Hub says: {said}. {later}") from None
    except Exception as error:  # of httpx or httpx2, by the version of huggingface_hub
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ParetoformerError(f"{repo} could not be pushed: {why.rstrip('.')}. {later}") from None
    return str(done.commit_url)


def _is_cached(model: str) -> bool:
    """Whether it was loaded from the Hub on this machine: a path that is gone looks like an id."""
    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:
        return False


def _fetched(model: str) -> Path | None:
    """A Hub model's card, from the cache where it cannot be asked for."""
    try:
        return Path(hf_hub_download(model, "README.md", etag_timeout=_SECONDS))
    except Exception:  # no network, no such model, no card: then nothing is known
        return None


def _license(card: Path | None) -> str | None:
    if card is None or not card.is_file():
        return None
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except Exception:  # whatever is wrong with somebody else's card
        return None
    return None if found is None else str(found)
