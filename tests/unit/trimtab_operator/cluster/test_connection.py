"""Where the API server is, and who we are."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trimtab_operator.cluster.connection import connect
from trimtab_operator.errors import OperatorError


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key."""
    directory = tmp_path_factory.mktemp("pair")
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=x",
    )
    subprocess.run(
        (*command, "-keyout", directory / "tls.key", "-out", directory / "tls.crt"),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return directory


def kubeconfig(path: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Path:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api.example:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file = path / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


async def test_certificates_in_the_file(tmp_path: Path, pair: Path) -> None:
    authority, key = encoded(pair / "tls.crt"), encoded(pair / "tls.key")
    user = {"client-certificate-data": authority, "client-key-data": key}
    file = kubeconfig(tmp_path, {"certificate-authority-data": authority}, user)

    connection = connect({"KUBECONFIG": str(file)})

    assert (connection.server, connection.namespace) == ("https://api.example:6443", "team")
    assert await connection.token.header() == ""


async def test_certificates_beside_the_file(tmp_path: Path, pair: Path) -> None:
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes((pair / name).read_bytes())
    user = {"client-certificate": "tls.crt", "client-key": "tls.key"}

    connect({"KUBECONFIG": str(kubeconfig(tmp_path, {"certificate-authority": "tls.crt"}, user))})


@pytest.mark.parametrize(
    ("user", "header"),
    [
        pytest.param({"token": "abc"}, "Bearer abc", id="a token"),
        pytest.param({"tokenFile": "token"}, "Bearer from-file", id="a file"),
        pytest.param(
            {"exec": {"command": sys.executable, "args": ["-c", "import os; print(os.environ['ANSWER'])"], "env": [
                {"name": "ANSWER", "value": '{"status": {"token": "from-command"}}'}]}},
            "Bearer from-command",
            id="a command",
        ),
        pytest.param({}, "", id="nobody"),
    ],
)  # fmt: skip
async def test_tokens(tmp_path: Path, user: dict[str, Any], header: str) -> None:
    (tmp_path / "token").write_text("from-file\n")

    connection = connect({"KUBECONFIG": str(kubeconfig(tmp_path, {}, user))})

    assert await connection.token.header() == header


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    connection = connect({"KUBECONFIG": str(kubeconfig(tmp_path, {}, {"tokenFile": "token"}))})
    assert await connection.token.header() == "Bearer old"
    (tmp_path / "token").write_text("new")

    connection.token._fresh_until = 0.0

    assert await connection.token.header() == "Bearer new"


async def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    user = {"exec": {"command": "false"}}
    connection = connect({"KUBECONFIG": str(kubeconfig(tmp_path, {}, user))})

    with pytest.raises(OperatorError, match="false of the kubeconfig failed"):
        await connection.token.header()


def test_no_cluster_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="set KUBECONFIG"):
        connect({"KUBECONFIG": str(tmp_path / "absent"), "HOME": os.fspath(tmp_path)})


def test_no_context_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")

    with pytest.raises(OperatorError, match="current-context"):
        connect({"KUBECONFIG": str(tmp_path / "config")})
