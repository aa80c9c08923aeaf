"""Files that router and vLLM share: the router writes and verifies them, vLLM mounts them read-only."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.server.sources import BaseFiles, StoreSource

_RECORD = "base.json"


class SharedSource(StoreSource):
    """As the built-in server's source; the base model appears under a fixed name once every byte of it is verified."""

    def __init__(self, directory: Path, *, credentials: Path = Path(mounts.CREDENTIALS_DIRECTORY)) -> None:
        super().__init__(directory, credentials=credentials)
        self._record, self._link = directory / _RECORD, directory / mounts.VLLM_BASE_MODEL.name

    def base(self, config: ServerConfig) -> BaseFiles:
        """Download the base model, unless an earlier router of this pod did: vLLM may be reading those files."""
        return self._shown(config.base_model.to_json(), lambda: StoreSource.base(self, config))

    def whole(self, config: ServerConfig, served: ServedVersion) -> None:
        """Download a whole model in the base model's place, likewise."""
        source = {"uri": served.artifact_uri, "manifest": served.manifest_sha256}
        self._shown(source, lambda: BaseFiles(self.version(config, served, ""), ""))

    def _shown(self, source: dict[str, Any], fetch: Callable[[], BaseFiles]) -> BaseFiles:
        """Where vLLM waits for the files: there once every byte is verified."""
        known = self._known()
        if known.get("source") == source:
            return BaseFiles(Path(known["path"]), known["digest"])
        files = fetch()
        record = {"source": source, "path": str(files.path), "digest": files.digest}
        self._record.write_text(json.dumps(record), encoding="utf-8")
        new = self._link.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(files.path)
        new.replace(self._link)
        return files

    def _known(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if self._link.exists() else {}
