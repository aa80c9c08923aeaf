"""The demo: a real small model is fine-tuned on real data in real pods, published, rolled out and asked.

Usage: python dev/demo/run.py      needs a cluster, images and the environment of `make env`; `make demo` does all of it

Every run makes a new version of the model: the job is deleted and made again, earlier versions stay, the rollout moves on.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import assets
import triage
from common import REPOSITORY, StepFailedError, say, step
from following import follow
from install import credentials, install_operator, install_profiles, namespace
from kube import Manifest, apply, condition, get, is_true, kubectl, load, wait_for
from serving import ask, model_names, port_forward
from upload import bucket, store, upload

NAMESPACE = "demo"
OUTPUT = REPOSITORY / "demo-output"
_EXAMPLE = REPOSITORY / "examples" / "01-lora-quickstart.yaml"
_REPORTS = ("loss.png", "drift.png", "report.md", "report.json", "metrics.jsonl")
_MINUTES = 60
_QUESTIONS = 6


@dataclass(frozen=True)
class Answer:
    """A held-out question, what is right, and what two models say."""

    question: str
    desk: str
    base: str
    tuned: str


def main() -> None:
    """From nothing to a model that answers."""
    started = time.monotonic()
    made = assets.ensure(["smollm2-135m-instruct", "triage", "general"])
    upload(made)
    install_operator()
    install_profiles()
    with step(f"Preparing namespace {NAMESPACE}: Pod Security restricted, the store's Secret", "1 s"):
        apply(namespace(NAMESPACE), credentials(NAMESPACE))
    example = load(_EXAMPLE, {"s3://trimtab/": f"s3://{bucket()}/"})
    job = train(example["FineTuneJob"])
    version = published(job)
    rollout = roll_out(example["ModelRollout"], version)
    answers = compare(rollout, version, made[1].link)
    report = fetch_reports(job)
    summarize(job, version, report=report, answers=answers, seconds=time.monotonic() - started)


def train(manifest: Manifest) -> Manifest:
    """Make the job anew and follow it to its end."""
    name = manifest["metadata"]["name"]
    with step(f"kubectl -n {NAMESPACE} apply -f {_EXAMPLE.relative_to(REPOSITORY)}   # FineTuneJob {name}", "2 s"):
        kubectl("delete", "finetunejob", name, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        apply({**manifest, "metadata": {**manifest["metadata"], "namespace": NAMESPACE}})
    say("-> Fine-tuning (usually 2-3 min on two cores)")
    return follow(name, NAMESPACE, seconds=30 * _MINUTES)


def published(job: Manifest) -> Manifest:
    """The ModelVersion that the job made."""
    name = job["status"]["modelVersion"]

    def ready() -> Manifest | None:
        found = get("ModelVersion", name, NAMESPACE)
        return found if is_true(found, "Ready") else None

    with step(f"Waiting for ModelVersion {name}", "1-5 s"):
        return wait_for(ready, what=f"ModelVersion {name} is Ready", seconds=2 * _MINUTES)


def roll_out(manifest: Manifest, version: Manifest) -> Manifest:
    """Serve this version; the earlier one answers until the new one is ready."""
    name, number = manifest["metadata"]["name"], version["spec"]["version"]

    def ready() -> Manifest | None:
        found = get("ModelRollout", name, NAMESPACE)
        if condition(found, "Stalled").get("status") == "True":
            raise StepFailedError(f"ModelRollout {name} is stalled: {condition(found, 'Stalled').get('message')}")
        is_serving = found is not None and found.get("status", {}).get("stableVersion") == number
        return found if is_serving and is_true(found, "Ready") else None

    with step(f"Rolling out {version['metadata']['name']} with ModelRollout {name}", "20-40 s"):
        apply(
            {
                **manifest,
                "metadata": {**manifest["metadata"], "namespace": NAMESPACE},
                "spec": {**manifest["spec"], "version": number},
            }
        )
        return wait_for(ready, what=f"ModelRollout {name} serves version {number}", seconds=10 * _MINUTES)


def compare(rollout: Manifest, version: Manifest, data: Path) -> list[Answer]:
    """Ask base and tuned model held-out questions through the rollout's Service: one of each desk, and one more."""
    rows = [json.loads(line)["messages"] for line in (data / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    held_out = [(messages[1]["content"], json.loads(messages[2]["content"])["desk"]) for messages in rows]
    chosen = [next(row for row in held_out if row[1] == desk) for desk in triage.DESKS]
    chosen += [row for row in held_out if row not in chosen][: _QUESTIONS - len(chosen)]
    service, tuned = rollout["metadata"]["name"], version["metadata"]["name"]
    with (
        step(f"Asking the served models {len(chosen)} held-out questions", "10-20 s"),
        port_forward(service, NAMESPACE) as server,
    ):
        say(f"   GET /v1/models: {', '.join(model_names(server))}")
        requests = [(model, triage.chat(question)) for question, _ in chosen for model in ("base", tuned)]
        # All at once: the server answers them in one batch.
        with ThreadPoolExecutor(max_workers=len(requests)) as pool:
            given = list(pool.map(lambda request: ask(server, *request), requests))
    return [
        Answer(*row, base=base, tuned=said) for row, base, said in zip(chosen, given[::2], given[1::2], strict=True)
    ]


def fetch_reports(job: Manifest) -> Manifest:
    """Loss curve, report and metrics from the store into `demo-output/`; the report as a value."""
    prefix = job["status"]["reportURI"].removeprefix(f"s3://{bucket()}/").rpartition("/")[0]
    OUTPUT.mkdir(exist_ok=True)
    with step(f"Fetching {', '.join(_REPORTS)}", "1 s"):
        for name in _REPORTS:
            store().download_file(bucket(), f"{prefix}/{name}", str(OUTPUT / name))
    found: Manifest = json.loads((OUTPUT / "report.json").read_text(encoding="utf-8"))
    return found


def summarize(job: Manifest, version: Manifest, *, report: Manifest, answers: list[Answer], seconds: float) -> None:
    """Say what was made and where it is."""
    base, tuned = report["base"], report["tuned"]
    print(f"\n{'Held-out question':<58} {'desk':<11} {'base model':<44} tuned model")
    for row in answers:
        mark = "ok" if row.tuned.strip() == triage.answer(row.desk) else "--"
        print(f"{_cut(row.question, 58):<58} {row.desk:<11} {_cut(row.base, 44):<44} {_cut(row.tuned, 26):<26} {mark}")
    examples = next((split["examples"] for split in report["data"] if split["split"] == "test"), "all")
    print(
        f"\nOf {examples} held-out questions, exactly the right JSON: "
        f"base {base['test_exact_match']:.0%}, tuned {tuned['test_exact_match']:.0%}. "
        f"Perplexity of the right answers: base {base['test_perplexity']:.1f}, tuned {tuned['test_perplexity']:.2f}."
    )
    for gate in version["spec"].get("gates", []):
        print(f"Gate {gate['phase'].lower()}: {gate['message']}")
    print(f"\nMade in {seconds:.0f} s:")
    print(kubectl("get", "ftj,mdv,mro", "--namespace", NAMESPACE).rstrip())
    name = job["metadata"]["name"]
    for what, where in {
        "loss curve": OUTPUT / "loss.png",
        "report": OUTPUT / "report.md",
        "adapter in the store": version["spec"]["artifact"]["uri"],
        "checkpoints": job["status"]["lastCheckpoint"]["uri"],
        "what happened": f"kubectl -n {NAMESPACE} describe ftj {name}",
        "lineage and digests": f"kubectl -n {NAMESPACE} get mdv {version['metadata']['name']} -o yaml",
        "ask it yourself": f"kubectl -n {NAMESPACE} port-forward service/{name} 8000:http",
        "all of it as web pages": "kubectl -n trimtab-system port-forward deploy/trimtab 9090, then http://127.0.0.1:9090/console",
        "environment": 'eval "$(make -s env)"',
    }.items():
        print(f"  {what:<22} {where}")


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


if __name__ == "__main__":
    try:
        main()
    except StepFailedError as error:
        sys.exit(f"\n{error}")
