import pytest

from trimtab_trainer.checkpoint.chain import StoredCheckpoint, history, resume_order
from trimtab_trainer.contract.manifests import CheckpointManifest, sha256_hex
from trimtab_trainer.contract.run_config import JobIdentity


def chain(*names: str) -> dict[str, StoredCheckpoint]:
    """Manifests by name; `s100-a1 > s150-a2` makes the second a child of the first, whether or not the first is kept."""
    made: dict[str, StoredCheckpoint] = {}
    for line in names:
        parent: str | None = None
        for name in line.split(" > "):
            if name not in made:
                step, attempt = (int(part[1:]) for part in name.split("-"))
                manifest = CheckpointManifest(
                    job=JobIdentity(namespace="team", name="tone", uid="uid-1"),
                    attempt=attempt,
                    step=step,
                    world_size=1,
                    parent=made[parent].sha256 if parent else None,
                    files=[],
                    config_sha256="0" * 64,
                    metrics={},
                    created_at="2026-01-01T00:00:00Z",
                )
                made[name] = StoredCheckpoint(name, name, manifest, sha256_hex(manifest.to_bytes()))
            parent = name
    return made


@pytest.mark.parametrize(
    ("chains", "gone", "expected"),
    [
        pytest.param(["s50-a1 > s100-a1 > s150-a1"], "", "s150-a1 s100-a1 s50-a1", id="plain"),
        pytest.param(["s50-a1 > s100-a2"], "", "s100-a2 s50-a1", id="resumed"),
        pytest.param(
            ["s50-a1 > s100-a1 > s150-a1 > s200-a1", "s100-a1 > s120-a2"],
            "",
            "s120-a2 s100-a1 s50-a1 s200-a1 s150-a1",
            id="zombie commits after a newer attempt started",
        ),
        pytest.param(
            ["s50-a1 > s100-a1", "s50-a1 > s100-a2"], "", "s100-a2 s50-a1 s100-a1", id="two attempts, same step"
        ),
        pytest.param(
            ["s50-a1 > s100-a1 > s150-a1 > s200-a1"],
            "s100-a1",
            "s200-a1 s150-a1 s50-a1",
            id="a parent that retention deleted",
        ),
        pytest.param(
            ["s50-a1 > s100-a1 > s120-a1 > s160-a1", "s100-a1 > s150-a2 > s200-a2"],
            "s100-a1",
            "s200-a2 s150-a2 s120-a1 s50-a1 s160-a1",
            id="behind a gap a zombie's older commit counts, its later one does not",
        ),
        pytest.param(
            ["s50-a1 > s100-a1 > s200-a1", "s100-a1 > s150-a2"],
            "s150-a2",
            "s200-a1 s100-a1 s50-a1",
            id="a newer attempt without a commit leaves no trace",
        ),
        pytest.param(["s50-a1", "s10-a2 > s20-a2"], "", "s20-a2 s10-a2 s50-a1", id="an attempt that began anew"),
        pytest.param([], "", "", id="nothing"),
    ],
)
def test_resume_order(chains: list[str], gone: str, expected: str) -> None:
    stored = {name: checkpoint for name, checkpoint in chain(*chains).items() if name not in gone.split()}
    assert [checkpoint.key for checkpoint in resume_order(stored.values())] == expected.split()


def test_history_never_turns_to_later_steps() -> None:
    stored = chain("s50-a1 > s100-a1 > s150-a1 > s200-a1", "s100-a1 > s120-a2")
    assert [checkpoint.key for checkpoint in history(stored["s120-a2"], stored.values())] == [
        "s120-a2",
        "s100-a1",
        "s50-a1",
    ]
