"""Submit a FineTuneJob from Python and follow it to its end.

    pip install kubernetes pyyaml
    python examples/python/submit.py examples/01-lora-quickstart.yaml --namespace demo

It asks as kubectl does: with KUBECONFIG or ~/.kube/config. The exit code is 0 when the job is Complete.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config, watch

FINE_TUNE_JOBS = {"group": "trimtab.dev", "version": "v1alpha1", "plural": "finetunejobs"}


def submit(api: client.CustomObjectsApi, file: Path, namespace: str) -> str:
    """Create the file's FineTuneJob; its name. A field that does not exist is an error, not ignored."""
    job = next(document for document in yaml.safe_load_all(file.read_text()) if document["kind"] == "FineTuneJob")
    api.create_namespaced_custom_object(**FINE_TUNE_JOBS, namespace=namespace, body=job, field_validation="Strict")
    return str(job["metadata"]["name"])


def follow(api: client.CustomObjectsApi, name: str, namespace: str) -> bool:
    """Print what changes, until the job rests; whether it is Complete."""
    changes = watch.Watch().stream(
        api.list_namespaced_custom_object, **FINE_TUNE_JOBS, namespace=namespace, field_selector=f"metadata.name={name}"
    )
    for change in changes:
        job = change["object"]
        if change["type"] == "DELETED":
            print(f"{name} was deleted")
            break
        print(describe(job), flush=True)
        for condition in job.get("status", {}).get("conditions", []):
            if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
                print(f"{condition['reason']}: {condition['message']}")
                return condition["type"] == "Complete"
    return False


def describe(job: dict[str, Any]) -> str:
    """For example `triage Running: step 12 of 50, loss 0.291`."""
    status = job.get("status", {})
    progress = status.get("progress", {})
    text = f"{job['metadata']['name']} {status.get('state', 'Pending')}"
    if "totalSteps" in progress:
        text += f": step {progress.get('step', 0)} of {progress['totalSteps']}"
    if "loss" in progress:
        text += f", loss {progress['loss']:.3f}"
    return text


def main() -> int:
    """Read the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--namespace", default="default")
    options = parser.parse_args()
    config.load_kube_config()
    api = client.CustomObjectsApi()
    name = submit(api, options.file, options.namespace)
    return 0 if follow(api, name, options.namespace) else 1


if __name__ == "__main__":
    raise SystemExit(main())
