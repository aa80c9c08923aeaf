"""Models and data at `hf://`: the Hugging Face hub, or the mirror that HF_ENDPOINT names. Only the files that are asked for travel."""

import hashlib
import os
import tempfile
from collections.abc import Callable
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
from trimtab_trainer.fetch_source import DATA_SUFFIXES, SourceFile, Wanted, near_names
from trimtab_trainer.store_transfer import MIB

_DEFAULT_ENDPOINT = "https://huggingface.co"
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_DENIED_STATUS = frozenset({401, 403})

RepoType = Literal["model", "dataset"]


def model_files(wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    """Every file of a model repository at a revision, and the commit that the revision stands for."""
    return _repository("/".join(wanted.uri.removeprefix("hf://").split("/")[:2]), "model", wanted, revision)


def data_files(wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    """The data files of `hf://org/name`, or the file or folder behind it, and the commit that the revision stands for."""
    organisation, name, *path = wanted.uri.removeprefix("hf://").rstrip("/").split("/")
    files, commit = _repository(f"{organisation}/{name}", "dataset", wanted, revision)
    inside = "/".join(path)
    exact = [file for file in files if file.path == inside]
    prefix = f"{inside}/" if inside else ""
    found = exact or [file for file in files if file.path.startswith(prefix) and file.path.endswith(DATA_SUFFIXES)]
    if not found:
        near = near_names(inside, (file.path for file in files))
        raise wanted.missing(f"{wanted.uri} has no such file, or none that ends in {', '.join(DATA_SUFFIXES)}", near)
    return found, commit


def _repository(repository: str, kind: RepoType, wanted: Wanted, revision: str) -> tuple[list[SourceFile], str]:
    api = HfApi(endpoint=_endpoint(), token=_token())
    info = _asked(
        partial(api.repo_info, repository, repo_type=kind, revision=revision or None, files_metadata=True),
        wanted,
        revision,
    )
    files = [
        SourceFile(
            sibling.rfilename,
            sibling.size or 0,
            partial(
                _download,
                repository,
                kind,
                wanted,
                info.sha,
                sibling.rfilename,
                sibling.lfs.sha256 if sibling.lfs else "",
            ),
        )
        for sibling in sorted(info.siblings or (), key=lambda sibling: sibling.rfilename)
    ]
    return files, str(info.sha)


def _download(
    repository: str, kind: RepoType, wanted: Wanted, commit: str, name: str, expected: str, target: Path
) -> str:
    disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix=".hub-", dir=target.parent) as directory:
        request = partial(
            hf_hub_download,
            repository,
            name,
            repo_type=kind,
            revision=commit,
            local_dir=directory,
            endpoint=_endpoint(),
            token=_token(),
        )
        Path(_asked(request, wanted, commit)).replace(target)
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    if expected and digest.hexdigest() != expected:
        raise TrainerError(
            TrainerReason.STORAGE_UNAVAILABLE,
            f"{wanted.uri}: {name} arrived with other bytes than the hub lists (sha256 {expected[:12]}).",
        )
    return digest.hexdigest()


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
        f"`{wanted.field}` '{wanted.uri}': {why}. `model.secretName` must name a Secret whose key HF_TOKEN may read it.",
    )


def _unavailable(wanted: Wanted, error: Exception) -> TrainerError:
    return TrainerError(
        TrainerReason.STORAGE_UNAVAILABLE,
        f"`{wanted.field}` '{wanted.uri}': the hub at {_endpoint()} cannot be read: {error}. It must be reachable from this pod.",
    )
