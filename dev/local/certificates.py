"""The cluster's certificates and kubeconfigs, made with openssl. Real ones: logs, exec and tokens depend on them."""

import base64
import json
from pathlib import Path

from paths import STATE, write
from progress import run

DIRECTORY = STATE / "pki"
_DAYS = "365"


def _openssl(*arguments: str | Path) -> None:
    run(["openssl", *arguments], log="certificates")


def _key(name: str) -> Path:
    path = DIRECTORY / f"{name}.key"
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    path.chmod(0o600)
    return path


def _authority(name: str) -> None:
    _openssl(
        "req",
        "-x509",
        "-new",
        "-key",
        _key(name),
        "-subj",
        f"/CN={name}",
        "-days",
        _DAYS,
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
        "-out",
        DIRECTORY / f"{name}.crt",
    )


def _certificate(name: str, subject: str, *, authority: str = "ca", hosts: tuple[str, ...] = ()) -> None:
    request, extensions = DIRECTORY / f"{name}.csr", DIRECTORY / f"{name}.ext"
    lines = ["keyUsage=critical,digitalSignature", f"extendedKeyUsage={'serverAuth' if hosts else 'clientAuth'}"]
    if hosts:
        kinds = ("IP" if host.replace(".", "").isdigit() else "DNS" for host in hosts)
        lines.append("subjectAltName=" + ",".join(f"{kind}:{host}" for kind, host in zip(kinds, hosts, strict=True)))
    write(extensions, "\n".join(lines) + "\n")
    _openssl("req", "-new", "-key", _key(name), "-subj", subject, "-out", request)
    _openssl(
        "x509",
        "-req",
        "-in",
        request,
        "-CA",
        DIRECTORY / f"{authority}.crt",
        "-CAkey",
        DIRECTORY / f"{authority}.key",
        "-CAcreateserial",
        "-days",
        _DAYS,
        "-extfile",
        extensions,
        "-out",
        DIRECTORY / f"{name}.crt",
    )
    request.unlink()
    extensions.unlink()


def path(name: str) -> str:
    """Where a file of the key store lies, e.g. `ca.crt`."""
    return str(DIRECTORY / name)


def make(*, node: str, node_address: str, api_service_address: str) -> None:
    """Make everything, unless it was made for these addresses already."""
    stamp = DIRECTORY / "made-for"
    wanted = f"{node} {node_address} {api_service_address}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    DIRECTORY.chmod(0o700)
    _authority("ca")
    _authority("front-proxy-ca")
    _openssl("genrsa", "-out", DIRECTORY / "service-accounts.key", "2048")
    _openssl("rsa", "-in", DIRECTORY / "service-accounts.key", "-pubout", "-out", DIRECTORY / "service-accounts.pub")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    _certificate(
        "apiserver", "/CN=kube-apiserver", hosts=(*names, "localhost", "127.0.0.1", node_address, api_service_address)
    )
    _certificate("kubelet-server", f"/CN={node}", hosts=(node, node_address))
    _certificate("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    _certificate("front-proxy-client", "/CN=front-proxy-client", authority="front-proxy-ca")
    server = f"https://{node_address}:6443"
    for name, subject in {
        "admin": "/O=system:masters/CN=admin",
        "controller-manager": "/CN=system:kube-controller-manager",
        "scheduler": "/CN=system:kube-scheduler",
        "kube-proxy": "/CN=system:kube-proxy",
        "coredns": "/CN=trimtab:coredns",
        "kubelet": f"/O=system:nodes/CN=system:node:{node}",
    }.items():
        _certificate(name, subject)
        kubeconfig(name, server, to=STATE / f"{name}.kubeconfig")
    write(stamp, wanted)


def kubeconfig(name: str, server: str, *, to: Path) -> None:
    """A kubeconfig (JSON is YAML) that carries its certificates along."""

    def content(file: str) -> str:
        return base64.b64encode((DIRECTORY / file).read_bytes()).decode()

    user = {"client-certificate-data": content(f"{name}.crt"), "client-key-data": content(f"{name}.key")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "trimtab", "cluster": {"server": server, "certificate-authority-data": content("ca.crt")}}
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "trimtab", "context": {"cluster": "trimtab", "user": name}}],
        "current-context": "trimtab",
    }
    write(to, json.dumps(document, indent=1), mode=0o600)
