"""The endpoint's certificate: from files, read again when they change; self-made where there are none."""

import asyncio
import logging
import shutil
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from trimtab_operator.errors import OperatorError

_LOG = logging.getLogger(__name__)


class Certificate:
    """`tls.crt` and `tls.key` of a directory, in one TLS context that lives as long as the server."""

    def __init__(self, directory: Path) -> None:
        self._certificate = directory / "tls.crt"
        self._key = directory / "tls.key"
        self._authority = directory / "ca.crt"
        self._loaded: tuple[float, float] = (0.0, 0.0)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.reload()

    @property
    def authority(self) -> str:
        """PEM of who signed it; a self-made one signed itself."""
        return (self._authority if self._authority.is_file() else self._certificate).read_text()

    def reload(self) -> bool:
        """Load the files if they changed: connections made from now on use them. True: they did."""
        times = (self._certificate.stat().st_mtime, self._key.stat().st_mtime)
        if times == self._loaded:
            return False
        self.context.load_cert_chain(self._certificate, self._key)
        self._loaded = times
        return True

    async def watch(self, seconds: float = 30.0) -> None:
        """Reload now and then. Half a rotation (a new certificate with the old key) is tried again."""
        while True:
            await asyncio.sleep(seconds)
            try:
                if self.reload():
                    _LOG.info("certificate_reloaded file=%s", self._certificate)
            except (OSError, ssl.SSLError) as error:
                _LOG.warning("certificate_not_reloaded file=%s error=%r", self._certificate, str(error))


async def make_self_signed(directory: Path, url: str) -> None:
    """Make a certificate for the host of `url`, for an operator that runs as a local process."""
    host = urlsplit(url).hostname or "localhost"
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    command = (
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
        "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host},DNS:localhost,IP:127.0.0.1",
        "-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE",
        "-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt"),
    )  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        code = await process.wait()
    except FileNotFoundError as error:
        raise OperatorError(
            "no certificate and no openssl to make one: set TRIMTAB_TLS_DIRECTORY to tls.crt and tls.key"
        ) from error
    if code:
        raise OperatorError(f"openssl could not make a certificate in {directory} (exit code {code})")
    await asyncio.to_thread(shutil.copyfile, directory / "tls.crt", directory / "ca.crt")
    _LOG.info("certificate_made directory=%s host=%s", directory, host)
