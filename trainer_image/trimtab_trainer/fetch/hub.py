"""Models and data at `hf://`: the Hugging Face hub, or the mirror that HF_ENDPOINT names. Only the files that are asked for travel."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.source import DATA_SUFFIXES, SourceFile, Wanted, belongs_to_data, near_names

_DEFAULT_ENDPOINT = "https://huggingface.co"
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_DENIED_STATUS = frozenset({401, 403})

RepoType = Literal["model", "dataset"]


def model_files(wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    """Every file of a model repository at a revision, and the commit that the revision stands for."""
    name = "/".join(wanted.uri.removeprefix("hf://").split("/")[:2])
    return _list(name, "model", wanted, revision)


def data_files(wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    """The data files of `hf://org/name`, or the file or folder behind it, and the commit that the revision stands for."""
    organisation, name, *path = wanted.uri.removeprefix("hf://").rstrip("/").split("/")
    files, commit = _list(f"{organisation}/{name}", "dataset", wanted, revision)
    inside = "/".join(path)
    exact = [file for file in files if file.path == inside]
    prefix = f"{inside}/" if inside else ""
    found = exact or [file for file in files if file.path.startswith(prefix) and belongs_to_data(file.path)]
    if not found:
        near = near_names(inside, (file.path for file in files))
        raise wanted.missing(f"{wanted.uri} has no such file, or none that ends in {', '.join(DATA_SUFFIXES)}", near)
    return found, commit


def _list(name: str, kind: RepoType, wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    api = HfApi(endpoint=_endpoint(), token=_token())
    request = partial(api.repo_info, name, repo_type=kind, revision=revision or None, files_metadata=True)
    info = _asked(request, wanted, revision)
    commit = _Commit(name, kind, str(info.sha), wanted)
    siblings = sorted(info.siblings or (), key=lambda sibling: sibling.rfilename)
    return [commit.file(sibling) for sibling in siblings], commit.sha


@dataclass(frozen=True)
class _Commit:
    """One state of a repository."""

    name: str
    kind: RepoType
    sha: str
    wanted: Wanted

    def file(self, sibling: Any) -> SourceFile:
        """A file of the hub's listing. Large ones are listed with their SHA-256."""
        expected = sibling.lfs.sha256 if sibling.lfs else ""
        return SourceFile(sibling.rfilename, sibling.size or 0, partial(self._download, sibling.rfilename, expected))

    def _download(self, path: str, expected: str, target: Path) -> str:
        disable_progress_bars()
        request = partial(hf_hub_download, self.name, path, repo_type=self.kind, revision=self.sha)
        with tempfile.TemporaryDirectory(prefix=".hub-", dir=target.parent) as directory:
            request = partial(request, local_dir=directory, endpoint=_endpoint(), token=_token())
            Path(_asked(request, self.wanted, self.sha)).replace(target)
        with target.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if expected and sha256 != expected:
            raise TrainerError(
                TrainerReason.STORAGE_UNAVAILABLE,
                f"{self.wanted.uri}: {path} arrived with other bytes than the hub lists (sha256 {expected[:12]}).",
            )
        return sha256


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or _DEFAULT_ENDPOINT


def _token() -> str | bool:
    """The Secret's token; False keeps the library from looking for somebody else's login."""
    path = Path(mounts.HUB_DIRECTORY) / "HF_TOKEN"
    return (path.read_text(encoding="utf-8").strip() if path.exists() else "") or False


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR
    return isinstance(error, HTTPError | LocalEntryNotFoundError | OSError) and not isinstance(
        error, EntryNotFoundError
    )


@retry(
    retry=retry_if_exception(_may_pass), stop=stop_after_attempt(4), wait=wait_random_exponential(max=10), reraise=True
)
def _patiently(request: Callable[[], Any]) -> Any:
    return request()


def _asked(request: Callable[[], Any], wanted: Wanted, revision: str) -> Any:
    try:
        return _patiently(request)
    except GatedRepoError as error:
        raise _denied(wanted, "it is gated") from error
    except RevisionNotFoundError as error:
        raise wanted.missing(f"{wanted.uri} has no revision '{revision}' at {_endpoint()}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        remedy = (
            "" if _token() else " If it is private, set `model.secretName` to a Secret whose key HF_TOKEN may read it."
        )
        raise wanted.missing(f"{wanted.uri} does not exist at {_endpoint()}{remedy}") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in _DENIED_STATUS:
            raise _denied(wanted, "access was denied") from error
        raise _unavailable(wanted, error) from error
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _unavailable(wanted, error) from error


def _denied(wanted: Wanted, why: str) -> TrainerError:
    return TrainerError(
        TrainerReason.MODEL_ACCESS_DENIED,
        f"`{wanted.field}` '{wanted.uri}': {why}. `model.secretName` (of a ModelVersion, `baseModel.secretName`) must name a Secret "
        "whose key HF_TOKEN may read it.",
    )


def _unavailable(wanted: Wanted, error: Exception) -> TrainerError:
    return TrainerError(
        TrainerReason.STORAGE_UNAVAILABLE,
        f"`{wanted.field}` '{wanted.uri}': the hub at {_endpoint()} cannot be read: {error}. It must be reachable from this pod.",
    )
