"""README.md of a published model, in Hugging Face's model card format: what it is, where it comes from, what it cannot do."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from trimtab_trainer.energy import PROFILE_WATTS
from trimtab_trainer.fetch.base_model import base_source
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.publishing.export import base_model_name, export_format, loading_code
from trimtab_trainer.publishing.facts import PublicationFacts
from trimtab_trainer.publishing.quantize import render_quantized

_BASELINE = "baseline_"
_PROVENANCE = (
    "## Provenance\n\n`provenance.json` beside this file is an in-toto statement: every file with its SHA-256, the run's whole "
    "configuration, the digests of base model and data sets, and the software that computed it."
)
_SPLIT_OF = {"eval_": "validation", "test_": "test", "general_": "general"}
_SHOWN_TRAINING = (
    "epochs", "maxSteps", "globalBatchSize", "microBatchSize", "learningRate", "schedule", "weightDecay", "maxGradientNorm",
    "precision", "seed",
)  # fmt: skip


def model_card(facts: PublicationFacts) -> str:
    """The whole file."""
    parts = [
        f"---\n{_front_matter(facts)}\n---",
        f"# {facts.config.output.model_name}",
        _origin(facts),
        f"## Use\n\n```python\n{loading_code(facts.config)}\n```",
        _results(facts),
        facts.groups,
        render_quantized(facts.quantized),
        _limits(facts),
        _data(facts),
        _training(facts),
        _energy(facts),
        _PROVENANCE,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_LIBRARIES = {"peftAdapter": "peft", "peftPrompt": "peft", "trimtabAdapter": "trimtab", "safetensors": "transformers"}


def _front_matter(facts: PublicationFacts) -> str:
    """YAML, one key a line; every value is JSON, which YAML reads."""
    config = facts.config
    is_adapter = export_format(config) != "safetensors"
    relation = "adapter" if is_adapter else "finetune"
    tags = ["trimtab", f"base_model:{relation}:{base_model_name(config)}", *method_of(config).tags]
    if config.output.quantization is not None:
        tags += ["bitsandbytes", "4-bit" if config.output.quantization.nf4 else "8-bit"]
    front: dict[str, Any] = {
        "base_model": base_model_name(config),
        "base_model_relation": relation,
        "library_name": _LIBRARIES[export_format(config)],
        "pipeline_tag": definition_of(config).pipeline_tag,
        "tags": tags,
    }
    if hub := sorted({_hub_name(dataset.uri) for dataset in facts.datasets if dataset.uri.startswith("hf://")}):
        front["datasets"] = hub
    if facts.usage.co2_grams is not None:
        front["co2_eq_emissions"] = {
            "emissions": round(facts.usage.co2_grams, 3),
            "source": "power and carbon intensity of the TrainingProfile",
            "training_type": "fine-tuning",
        }
    if results := list(_model_index(facts)):
        front["model-index"] = [{"name": config.output.model_name, "results": results}]
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items())


def _hub_name(uri: str) -> str:
    return "/".join(uri.removeprefix("hf://").split("/")[:2])


def _model_index(facts: PublicationFacts) -> Iterable[dict[str, Any]]:
    """One entry a split: the metrics of the tuned model, as the hub's leaderboards read them."""
    for prefix, split in _SPLIT_OF.items():
        metrics = [
            {"type": name.removeprefix(prefix), "name": name, "value": value}
            for name, value in facts.metrics.items()
            if name.startswith(prefix) and math.isfinite(value)
        ]
        if metrics:
            data = getattr(facts.config.data, split) or facts.config.data.train
            yield {
                "task": {"type": definition_of(facts.config).pipeline_tag},
                "dataset": {"name": data[0].uri, "type": data[0].uri, "split": split},
                "metrics": metrics,
            }


def _origin(facts: PublicationFacts) -> str:
    config = facts.config
    parent = f", going on from ModelVersion `{config.model_version.name}`" if config.model_version else ""
    share = f" {facts.trained_parameters:,} of {facts.parameters:,} weights moved." if facts.parameters else ""
    return (
        f"Fine-tuned from `{base_source(config).uri}` (`{facts.base_digest}`){parent} by FineTuneJob `{config.job.namespace}/{config.job.name}`: "
        f"task {config.task.kind}, objective {config.objective.kind}, method {config.method.kind}.{share}"
    )


def _results(facts: PublicationFacts) -> str:
    tuned = {name: value for name, value in facts.metrics.items() if not name.startswith(_BASELINE)}
    rows = [
        f"| {name} | {_number(facts.metrics.get(_BASELINE + name))} | {_number(value)} |"
        for name, value in tuned.items()
        if math.isfinite(value)
    ]
    return _table("## Results", ("metric", "before", "after"), rows)


def _limits(facts: PublicationFacts) -> str:
    """What a reader must not expect, as far as the run itself knows."""
    config, named = facts.config, facts.metrics
    measured = [split for prefix, split in _SPLIT_OF.items() if any(name.startswith(prefix) for name in named)]
    lines = [
        f"- Inputs were cut at {config.data.max_sequence_length} tokens; longer ones were not trained on.",
        f"- Measured on: {', '.join(measured)}." if measured else "- Not measured on any held-out data.",
    ]
    if "general" not in measured:
        lines.append("- Not measured on general data: what the base model could do besides may have been forgotten.")
    lines += [
        f"- {count:,} examples of the {split} split were truncated."
        for split, count in facts.truncated.items()
        if count
    ]
    lines.append("- Biases and the licence of the base model and of the data apply; neither was checked here.")
    return "## Limits\n\n" + "\n".join(lines)


def _data(facts: PublicationFacts) -> str:
    rows = [f"| {_cell(data.uri)} | {data.examples:,} | `{data.digest}` |" for data in facts.datasets]
    return _table("## Data", ("data set", "examples", "digest"), rows)


def _training(facts: PublicationFacts) -> str:
    config = facts.config
    method = getattr(config.method, _snake(config.method.kind)).to_json()
    training = config.training.to_json() | {"learningRate": facts.learning_rate}
    values = {
        "method": f"{config.method.kind} {json.dumps(method)}" if method else config.method.kind,
        "maxSequenceLength": config.data.max_sequence_length,
        "packing": config.data.packing,
        **{name: training[name] for name in _SHOWN_TRAINING if name in training},
        "published step": facts.step,
        "nodes": config.distribution.nodes,
        **facts.software,
    }
    rows = [f"| {name} | {_cell(_text(value))} |" for name, value in values.items()]
    return _table("## Hyper-parameters", ("parameter", "value"), rows)


def _energy(facts: PublicationFacts) -> str:
    usage = facts.usage
    if usage.energy_watt_hours is None:
        return (
            "## Energy\n\nNot known: the TrainingProfile states no `watts`. "
            f"The attempt that published this ran for {usage.active_seconds:.0f} s."
        )
    carbon = f", about {usage.co2_grams:.2f} g CO2" if usage.co2_grams is not None else ""
    return (
        f"## Energy\n\n{usage.energy_watt_hours:.2f} Wh{carbon} by {usage.energy_source or PROFILE_WATTS}, in the {usage.active_seconds:.0f} s "
        "of the attempt that published this (earlier attempts come on top; the job's status.usage has the sum)."
    )


def _table(title: str, head: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    return f"{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}\n" + "\n".join(rows)


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _snake(kind: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind)
