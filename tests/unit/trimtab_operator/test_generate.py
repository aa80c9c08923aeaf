from pathlib import Path

import pytest
import yaml

from trimtab_operator import generate

REPOSITORY = Path(__file__).parents[3]


def test_the_checkout_is_up_to_date() -> None:
    assert generate.stale_files(REPOSITORY) == [], "run `make generate` and commit the result"


def test_check_names_what_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / "docs/api-reference.md").write_text("edited by hand")
    assert generate.main(["--check", "--root", str(tmp_path)]) == 1
    assert "docs/api-reference.md is out of date: run `make generate`" in capsys.readouterr().err


def test_the_crds_are_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    generate.print_crds()
    kinds = [crd["spec"]["names"]["kind"] for crd in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["TrainingProfile", "StorageProfile", "FineTuneJob", "ModelVersion", "ModelRollout"]


def test_the_reference_names_every_kind_and_its_fields() -> None:
    page = (REPOSITORY / "docs/api-reference.md").read_text()
    assert "| [FineTuneJob](#finetunejob) | `ftj` | Namespaced |" in page
    assert "| `r` | integer | `16` | LoRA rank. (≥ 1, ≤ 1024) |" in page
