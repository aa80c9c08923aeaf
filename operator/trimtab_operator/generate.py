"""Everything that is generated from the models: `crds/`, the chart's CRDs and `docs/api-reference.md`."""

import argparse
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from trimtab_operator.api.crd import custom_resource_definition
from trimtab_operator.api.reference import api_reference
from trimtab_operator.api.v1alpha1 import KINDS

_HEADER = "# Generated from operator/trimtab_operator/api by `make generate`: change the models, not this file.\n"
_REPOSITORY = Path(__file__).resolve().parents[2]


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, lists indented under their key."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - same
        super().increase_indent(flow, indentless=False)


def to_yaml(document: Any) -> str:
    """Stable YAML: keys as they were made, long lines whole."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


@cache
def generated_files() -> dict[Path, str]:
    """Path inside the repository to content."""
    files = {}
    for kind in KINDS:
        crd = custom_resource_definition(kind)
        name = f"{crd['metadata']['name']}.yaml"
        files[Path("crds", name)] = _HEADER + to_yaml(crd)
        # Custom resources outlive the release: uninstalling the operator must not delete every job of the cluster.
        crd["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        files[Path("charts/trimtab/files/crds", name)] = _HEADER + to_yaml(crd)
    files[Path("docs/api-reference.md")] = api_reference(KINDS)
    return files


def stale_files(root: Path) -> list[Path]:
    """Generated files whose content is not what the models say."""
    return [
        path
        for path, content in generated_files().items()
        if not (root / path).is_file() or (root / path).read_text() != content
    ]


def write_files(root: Path) -> None:
    """Write every generated file."""
    for path, content in generated_files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)


def print_crds() -> None:
    """All CRDs as one YAML stream, ready for `kubectl apply -f -`."""
    crds = [content for path, content in generated_files().items() if path.parent == Path("crds")]
    sys.stdout.write("---\n".join(crds))


def main(arguments: list[str] | None = None) -> int:
    """`generate [--check] [--root DIRECTORY]`; the exit code is 1 when files differ from the models."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    parser.add_argument("--root", type=Path, default=_REPOSITORY, help="the checkout (default: the one of this module)")
    options = parser.parse_args(arguments)
    if not options.check:
        write_files(options.root)
        return 0
    stale = stale_files(options.root)
    for path in stale:
        sys.stderr.write(f"{path} is out of date: run `make generate` and commit the result\n")
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
