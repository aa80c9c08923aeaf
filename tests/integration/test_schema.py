"""What the API server lets in, and what it says when it does not."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.cluster import Api, RefusedError, kubeconfig
from tests.support.manifests import ABSENT, DIGEST, changed, smallest

from trimtab_trainer.contract.objectives import NOT_WITH_SAMPLES, SAMPLING, TASKS_OF_OBJECTIVE

pytestmark = pytest.mark.integration

NOT_YET = "is not available in this release"
TASKS = "exactly one of causalLanguageModeling, sequenceClassification, tokenClassification, questionAnswering"
METHODS = "exactly one of lora, full, headOnly, qlora, adapter, prefixTuning, reft, partial must be set"
SEVERAL = [
    {"name": "tone", "head": {"sequenceClassification": {}}},
    {"name": "people", "head": {"tokenClassification": {}}},
]
Changes = dict[str, Any]
LENGTH: Changes = {"length": {"maximumTokens": 9}}
MINIMAL_OBJECTIVES: dict[str, Changes] = {name: {"rewards": [LENGTH]} for name in SAMPLING}
"""Settings that an objective needs; {} for the others."""


JUDGE: Changes = {"rewardModel": {"uri": "modelversion://judge-v1"}}


def grpo(*rewards: Changes) -> Changes:
    """An objective with these rewards."""
    return {"spec.objective": {"grpo": {"rewards": list(rewards)}}}


GATE: Changes = {"metric": "eval_loss", "successCondition": "result <= baseline * 1.05"}
FEW_SHOT: Changes = {"spec.task": {"sequenceClassification": {}}, "spec.objective": {"fewShot": {}}}
GENERAL: Changes = {"spec.data.general": [{"uri": "s3://data/general.jsonl"}]}


def job(message: str, changes: Changes, name: str) -> Any:
    return pytest.param("FineTuneJob", changes, message, id=f"job: {name}")


METRIC = {
    "name": "errors",
    "provider": {"server": {"metric": "errorRate"}},
    "successCondition": "result <= champion * 1.2 && result < 0.5",
}


def steps(*chosen: Changes) -> Changes:
    return {"spec.strategy": {"canary": {"steps": list(chosen)}}}


def behind_gateway(gateway: Changes, **vllm: Any) -> Changes:
    return {"spec.serving": {"vllm": {"image": "vllm:1", "gateway": gateway, **vllm}}}


def metric(**changes: Any) -> Changes:
    """An analysis of one metric that is wrong in one place."""
    wrong = {key: value for key, value in (METRIC | changes).items() if value is not None}
    return steps({"analysis": {"metrics": [wrong]}})


def row(kind: str, message: str, changes: Changes, name: str) -> Any:
    return pytest.param(kind, changes, message, id=f"{kind}: {name}")


JOB = {"metric": "exact_match", "data": {"uri": "s3://data/held-out.jsonl"}}
ACCEPTED = [
    row("ModelRollout", "", metric(provider={"job": JOB}), "a Job measures"),
    *(
        row(kind, "", {}, "the smallest")
        for kind in ("FineTuneJob", "ModelVersion", "ModelRollout", "StorageProfile", "TrainingProfile")
    ),
    job("", {"spec.method": {"full": {}}}, "full"),
    job(
        "",
        {"spec.task": {"sequenceClassification": {}}, "spec.method": {"headOnly": {}}},
        "headOnly with a head of its own",
    ),
    job("", {**FEW_SHOT, "spec.method": {"full": {}}}, "few examples a class"),
    job("", {"spec.evaluation.gates": [GATE | {"source": "general"}], **GENERAL}, "a gate against forgetting"),
    job("", {"spec.task": {"sequenceClassification": {"multiLabel": True}}}, "several labels a text"),
    job("", {"spec.task": {"tokenClassification": {"labels": ["O", "B-PER", "I-PER"]}}}, "tags"),
    job("", {"spec.task": {"questionAnswering": {"stride": 64, "unanswerable": True}}}, "questions"),
    job("", {"spec.task": {"imageClassification": {"horizontalFlip": True, "cropPadding": 4}}}, "images"),
    job("", {"spec.task": {"objectDetection": {}}}, "boxes"),
    job("", {"spec.task": {"imageTextMatching": {"zeroShotPrompt": "a drawing of a {}"}}}, "images and texts"),
    job("", {"spec.task": {"speechRecognition": {}}}, "speech"),
    job("", {"spec.task": {"multiTask": {"tasks": SEVERAL, "temperature": 2}}}, "several tasks"),
    job(
        "",
        {"spec.method": {"lora": {"r": 6, "initialization": "orthogonal", "rankPattern": {"a": 2}}}},
        "LoRA's options",
    ),
    job("", {"spec.method": {"lora": {"targetPattern": ".*q_proj"}}}, "targets by pattern"),
    job("", {"spec.method": {"partial": {"embeddings": True}}}, "embeddings alone"),
    job("", {"spec.method": {"adapter": {"placement": "houlsby", "bottleneckSize": 8}}}, "bottlenecks"),
    job("", {"spec.method": {"prefixTuning": {"kind": "prompt"}}, "spec.data.packing": False}, "trained prompts"),
    job("", {"spec.method": {"reft": {"layers": [0, 5]}}}, "LoReFT"),
    job("", {"spec.method": {"qlora": {"r": 8, "doubleQuantization": False}}}, "LoRA on four bits"),
    job("", {"spec.data.general": [{"uri": "s3://data/a.jsonl", "name": "winter-2025"}]}, "a data set by name"),
    job("", {"spec.data.languages": {"expected": ["en", "de"], "others": "Drop"}}, "languages"),
    job("", {"spec.data.slices": {"columns": ["gender", "region"], "minimumExamples": 50}}, "groups"),
    job("", {"spec.output.merge": True}, "a merged adapter"),
    job("", {"spec.output.merge": True, "spec.output.quantization": {"nf4": {}}}, "a merged adapter in four bits"),
    job("", {"spec.method": {"full": {}}, "spec.output.quantization": {"int8": {}}}, "a whole model in eight bits"),
    job("", {"spec.training.layerwiseLearningRateDecay": 0.9}, "layer-wise rates"),
    job("", {"spec.training.gradualUnfreezing": {"everyEpochs": 0.5}}, "gradual unfreezing"),
    row(
        "ModelVersion",
        "",
        {"spec.artifact": ABSENT, "spec.importFrom": {"uri": "s3://lake/a", "format": "peftAdapter"}},
        "an import",
    ),
    job("", {"spec.training.epochs": 0.5}, "half an epoch"),
    job("", {"spec.training.maxSteps": 10}, "maxSteps"),
    job(
        "", {"spec.training.earlyStopping": {}, "spec.data.validationFraction": 0.1}, "early stopping on held-out data"
    ),
    job(
        "",
        {"spec.training.selectBestBy": {}, "spec.data.validation": [{"uri": "s3://data/val.jsonl"}]},
        "best by validation",
    ),
    job("", {"spec.training.dropout": None, "spec.budget.maxCost": None, "spec.data.packing": None}, "null is absent"),
    job("", {"spec.training.dropout": 0.1, "spec.training.labelSmoothing": 0.1}, "dropout and smoothing"),
    job("", {"spec.training.adversarial": {"freeLb": {"steps": 2}}}, "adversarial training"),
    job("", {"spec.training.schedule": {"cosineWithRestarts": {"cycles": 4}}}, "restarts"),
    job("", {"spec.training.continual": {"startingPoint": {}}}, "L2-SP"),
    job("", {"spec.data.mixFraction": 0.2, "spec.data.general": [{"uri": "s3://data/general.jsonl"}]}, "replay"),
    job("", {"spec.data.augmentation": {"copies": 2}, "spec.data.normalization": {}}, "changed texts"),
    job("", {"spec.training.classWeights": {"byLabel": {"yes": 2.5}}}, "class weights"),
    job("", {"spec.model.uri": "hf://org/name"}, "a model of a hub"),
    job("", {"spec.model.uri": "pvc://claim/models/a"}, "a model of a claim"),
    job("", {"spec.model.uri": "modelversion://support-tone-v1"}, "a model version as base"),
    job("", {"spec.data.train.0.uri": "hf://org/name/train.parquet"}, "data of a hub"),
    job("", {"spec.data.train.0.uri": "s3://data/folder/"}, "a folder of data"),
    job("", {"spec.data.train.0.uri": "s3://data/a..b/..c.jsonl"}, "dots that are no parent"),
    job("", {"spec.managedBy": "kueue.x-k8s.io/multikueue"}, "managed elsewhere"),
    job("", {"metadata.name": "a" * 52}, "a name of 52 characters"),
    job("", {"spec.objective": {"supervised": {"lossOnPrompt": True}}}, "an objective"),
    job("", grpo(LENGTH, JUDGE, {"exactMatch": {"extract": "[0-9]+"}}, {"jsonDocument": {}}), "several rewards"),
    *(
        job("", {"spec.objective": {name: MINIMAL_OBJECTIVES.get(name, {})}, "spec.task": {tasks[0]: {}}}, name)
        for name, tasks in TASKS_OF_OBJECTIVE.items()
    ),
    job("", {"spec.data.train": [{"uri": "s3://data/train.jsonl", "weight": 0.5}]}, "a weight"),
    job("", {"spec.checkpoints.everySteps": None}, "null where there is a default"),
    row("StorageProfile", "", {"spec.endpoint": ABSENT}, "AWS"),
    row("StorageProfile", "", {"spec.endpoint": "http://store:9000", "spec.insecure": True}, "plain http, on purpose"),
    row(
        "StorageProfile",
        "",
        {"spec.credentials": {"webIdentity": {"roleArn": "arn:aws:iam::1:role/a"}}},
        "web identity",
    ),
    row(
        "TrainingProfile",
        "",
        {"spec.resources.requests": {"cpu": 2, "memory": "1.5Gi", "nvidia.com/gpu": "1"}},
        "quantities",
    ),
    row("TrainingProfile", "", {"spec.allowed": {"tasks": ["causalLanguageModeling"], "methods": ["lora"]}}, "allowed"),
    row("TrainingProfile", "", {"spec.tolerations": [{"operator": "Exists"}]}, "tolerate everything"),
    row(
        "TrainingProfile",
        "",
        {
            "spec.signing": {
                "publicKeys": ["-----BEGIN PUBLIC KEY-----\nabc=\n-----END PUBLIC KEY-----\n"],
                "required": True,
            }
        },
        "signatures",
    ),
    job("", {"spec.output.sign": True, "spec.output.signingSecretName": "key"}, "a signed model"),
    row("ModelVersion", "", {"spec.reclaimPolicy": "Delete"}, "its bytes go with it"),
    row("ModelVersion", "", {"spec.version": 12, "metadata.name": "support-tone-v12"}, "two digits"),
    row("ModelRollout", "", {"spec.serving": {"builtin": {"profile": "cpu", "replicas": 3}}}, "replicas"),
    row(
        "ModelRollout",
        "",
        {"spec.serving": {"vllm": {"image": "vllm:1", "arguments": ["--max-model-len=8192", "--model-impl=auto"]}}},
        "vllm",
    ),
    row("ModelRollout", "", behind_gateway({"parentRefs": [{"name": "public"}]}), "a Gateway"),
    row(
        "ModelRollout",
        "",
        behind_gateway(
            {
                "parentRefs": [{"name": "public", "sectionName": "https"}, {"name": "inside"}],
                "hostnames": ["tone.example.com", "*.models.example.com"],
            }
        ),
        "Gateways of other namespaces",
    ),
    row("ModelRollout", "", {"spec.serving": {"kserve": {"inferenceService": "tone"}}}, "kserve"),
    row("ModelRollout", "", {"spec.strategy": {"canary": {"steps": []}}}, "no steps"),
    row("ModelRollout", "", steps({"setWeight": 0}, {"pause": {}}, {"pause": {"duration": "1h30m"}}), "steps"),
    row("ModelRollout", "", steps({"pause": {"duration": 30}}, {"analysis": {"metrics": [METRIC]}}), "analysis"),
    row("ModelRollout", "", {"spec.abort": True, "spec.paused": True}, "abort and pause"),
    row("ModelRollout", "", {"spec.rollbackWindow": {"revisions": 2}}, "rollback window"),
]

CLASSIFIER = {"spec.task": {"sequenceClassification": {}}}
METHODS_REFUSED = [
    job(
        "targetPattern takes the place of targetModules",
        {"spec.method": {"lora": {"targetPattern": ".*", "targetModules": ["a"]}}},
        "two kinds of targets",
    ),
    job("needs an even r", {"spec.method": {"lora": {"r": 3, "initialization": "orthogonal"}}}, "odd orthogonal rank"),
    job("spec.method.lora.rankPattern.a", {"spec.method": {"lora": {"rankPattern": {"a": 0}}}}, "rank 0 by pattern"),
    job(
        "bottleneckSize and reductionFactor are exclusive",
        {"spec.method": {"adapter": {"bottleneckSize": 8, "reductionFactor": 8}}},
        "two sizes of a bottleneck",
    ),
    job("set data.packing to false", {"spec.method": {"prefixTuning": {}}}, "prefixes in packed rows"),
    job(
        "method.prefixTuning stands before a text of one task",
        {"spec.task": {"speechRecognition": {}}, "spec.method": {"prefixTuning": {}}},
        "prefixes before sounds",
    ),
    job(
        "training.gradualUnfreezing needs",
        {
            "spec.method": {"prefixTuning": {}},
            "spec.data.packing": False,
            "spec.training.gradualUnfreezing": {"everySteps": 1},
        },
        "prefixes layer by layer",
    ),
    job("partial must name what moves", {"spec.method": {"partial": {}}}, "partial of nothing"),
    *(
        job(
            f"training.{practice} needs a method that trains layers one by one",
            {**CLASSIFIER, "spec.method": {"headOnly": {}}, f"spec.training.{practice}": value},
            f"headOnly with {practice}",
        )
        for practice, value in (("layerwiseLearningRateDecay", 0.9), ("gradualUnfreezing", {"everySteps": 1}))
    ),
    job("set one of everySteps and everyEpochs", {"spec.training.gradualUnfreezing": {}}, "unfreezing never"),
]

REFUSED = [
    # Unions
    job('unknown field "spec.method.loraa"', {"spec.method": {"loraa": {}}}, "unknown method"),
    job(METHODS, {"spec.method": {"lora": {}, "full": {}}}, "two methods"),
    job(METHODS, {"spec.method": {}}, "no method"),
    job("spec.method: Required value", {"spec.method": ABSENT}, "method missing"),
    job('unknown field "spec.task.translation"', {"spec.task": {"translation": {}}}, "unknown task"),
    job(TASKS, {"spec.task": {"causalLanguageModeling": {}, "sequenceClassification": {}}}, "two tasks"),
    job(TASKS, {"spec.task": {}}, "no task"),
    job(
        "names must differ", {"spec.task": {"multiTask": {"tasks": [SEVERAL[0], SEVERAL[0]]}}}, "two tasks of one name"
    ),
    job("should have at least 2 items", {"spec.task": {"multiTask": {"tasks": SEVERAL[:1]}}}, "one of several tasks"),
    job(
        "spec.task.imageTextMatching.zeroShotPrompt",
        {"spec.task": {"imageTextMatching": {"zeroShotPrompt": "a photo"}}},
        "a prompt without a place for the label",
    ),
    job(
        "exactly one of supervised, continuedPretraining, reward, dpo, orpo",
        {"spec.objective": {}},
        "no objective",
    ),
    *(
        job(f"{field} does not go with", {**grpo(LENGTH), f"spec.{field}": value}, f"{name} with answers of the model")
        for (name, (field, *_)), value in zip(NOT_WITH_SAMPLES.items(), ({"fgm": {}}, 5, {}, 3.5), strict=True)
    ),
    job("spec.objective.grpo.rewards", grpo(), "no rewards"),
    job(
        "keepBest must not be above samplesPerPrompt",
        {"spec.objective": {"tao": {"rewards": [LENGTH], "samplesPerPrompt": 4, "keepBest": 5}}},
        "more answers kept than drawn",
    ),
    job("must have at most one rewardModel", grpo(JUDGE, JUDGE), "two reward models"),
    job("exactly one of exactMatch, wordOverlap", grpo({**LENGTH, **JUDGE}), "two rewards in one"),
    job("length needs minimumTokens or maximumTokens", grpo({"length": {}}), "a length without a bound"),
    job(
        "minimumTokens must not be above maximumTokens",
        grpo({"length": {"minimumTokens": 9, "maximumTokens": 8}}),
        "an empty range of lengths",
    ),
    job(
        "a ModelVersion has its own",
        grpo({"rewardModel": {**JUDGE["rewardModel"], "digest": f"sha256:{64 * '0'}"}}),
        "a pin on a version",
    ),
    job(
        "exactly one of cosine, linear, constant",
        {"spec.training.schedule": {"cosine": {}, "linear": {}}},
        "two schedules",
    ),
    job("exactly one of cosine, linear, constant", {"spec.training.schedule": {}}, "no schedule"),
    job("exactly one of fgm, pgd, freeLb", {"spec.training.adversarial": {"fgm": {}, "pgd": {}}}, "two attacks"),
    job("exactly one of ewc, startingPoint", {"spec.training.continual": {}}, "no springs"),
    job("mixFraction needs general", {"spec.data.mixFraction": 0.2}, "replay of nothing"),
    job("exactly one of balanced, byLabel", {"spec.training.classWeights": {}}, "no class weights"),
    row("ModelRollout", "exactly one of builtin, vllm, kserve must be set", {"spec.serving": {}}, "no serving"),
    row(
        "StorageProfile",
        "exactly one of secretName, webIdentity must be set",
        {"spec.credentials": {}},
        "no credentials",
    ),
    row(
        "StorageProfile",
        "exactly one of secretName, webIdentity must be set",
        {"spec.credentials.webIdentity": {"roleArn": "a"}},
        "two kinds of credentials",
    ),
    # Not in this release
    *(
        job(
            f"objective.{name} needs the task {' or '.join(tasks)}",
            {
                "spec.objective": {name: MINIMAL_OBJECTIVES.get(name, {})},
                "spec.task": {
                    next(task for task in ("sequenceClassification", "causalLanguageModeling") if task not in tasks): {}
                },
            },
            f"{name} with another task",
        )
        for name, tasks in TASKS_OF_OBJECTIVE.items()
    ),
    row("ModelVersion", "exactly one of artifact and importFrom must be set", {"spec.artifact": ABSENT}, "no bytes"),
    job(
        "a gate on general data needs data.general",
        {"spec.evaluation.gates": [GATE | {"source": "general"}]},
        "a gate without its data",
    ),
    job("a gate on test data needs data.test", {"spec.evaluation.gates": [GATE]}, "a gate without test data"),
    job(
        "a gate needs successCondition or failureCondition",
        {"spec.evaluation.gates": [{"metric": "loss", "source": "general"}], **GENERAL},
        "a gate without a condition",
    ),
    job(
        "spec.evaluation.gates[0].successCondition",
        {"spec.evaluation.gates": [GATE | {"source": "general", "successCondition": "result; 1"}], **GENERAL},
        "a condition that is no arithmetic",
    ),
    job("output.merge folds a LoRA adapter", {"spec.output.merge": True, "spec.method": {"reft": {}}}, "merged LoReFT"),
    job(
        "output.quantization needs a whole model",
        {"spec.output.quantization": {"int8": {}}},
        "an adapter in eight bits",
    ),
    job(
        "output.quantization is for models that transformers loads",
        {
            "spec.task": {"multiTask": {"tasks": SEVERAL}},
            "spec.method": {"full": {}},
            "spec.output.quantization": {"int8": {}},
        },
        "several tasks in eight bits",
    ),
    *(
        row(
            "ModelRollout",
            "arguments must not have",
            {"spec.serving": {"vllm": {"image": "vllm:1", "arguments": ["--max-model-len=8192", argument]}}},
            f"vllm with {argument}",
        )
        for argument in ("--host=0.0.0.0", "--served_model_name", "--trust-remote-code", "--trust", "--model=/tmp")
    ),
    row("ModelRollout", "spec.serving.vllm.gateway.parentRefs", behind_gateway({}), "a route that nobody takes"),
    row(
        "ModelRollout",
        "spec.serving.vllm.gateway.hostnames",
        behind_gateway({"parentRefs": [{"name": "public"}], "hostnames": ["https://tone.example.com"]}),
        "an address as host name",
    ),
    row(
        "ModelRollout",
        "maxLoraRank is for adapters",
        behind_gateway({"parentRefs": [{"name": "public"}]}, maxLoraRank=16),
        "a LoRA rank of whole models",
    ),
    row("ModelRollout", "spec.serving.vllm.image", {"spec.serving": {"vllm": {}}}, "vllm without an image"),
    row(
        "ModelRollout",
        "spec.serving.vllm.maxLoraRank",
        {"spec.serving": {"vllm": {"image": "vllm:1", "maxLoraRank": 7}}},
        "a LoRA rank that vLLM does not have",
    ),
    row(
        "ModelRollout",
        "spec.serving.kserve.inferenceService",
        {"spec.serving": {"kserve": {}}},
        "kserve without a name",
    ),
    row("ModelVersion", "spec.signature", {"spec.signature": "abc"}, "signature"),
    row("TrainingProfile", "required needs publicKeys", {"spec.signing": {"required": True}}, "signatures by nobody"),
    row(
        "TrainingProfile",
        "publicKeys[0]",
        {"spec.signing.publicKeys": ["-----BEGIN EC PRIVATE KEY-----\nabc=\n-----END EC PRIVATE KEY-----\n"]},
        "a private key",
    ),
    # Fields that contradict each other
    job("epochs and maxSteps are exclusive", {"spec.training": {"epochs": 1, "maxSteps": 10}}, "epochs and maxSteps"),
    job(
        "globalBatchSize must be a multiple",
        {"spec.training": {"globalBatchSize": 16, "microBatchSize": 5}},
        "batch sizes",
    ),
    job(
        "validation and validationFraction are exclusive",
        {"spec.data.validation": [{"uri": "s3://data/val.jsonl"}], "spec.data.validationFraction": 0.1},
        "two kinds of validation data",
    ),
    job(
        "training.earlyStopping needs validation data", {"spec.training.earlyStopping": {}}, "early stopping on nothing"
    ),
    job("training.selectBestBy needs validation data", {"spec.training.selectBestBy": {}}, "best by nothing"),
    *METHODS_REFUSED,
    job("fewShot moves what the head reads", {**FEW_SHOT, "spec.method": {"headOnly": {}}}, "few-shot, headOnly"),
    job(
        "fewShot needs one class for each text",
        {**FEW_SHOT, "spec.task": {"sequenceClassification": {"multiLabel": True}}},
        "few-shot, several labels",
    ),
    job("fewShot needs the task", {"spec.objective": {"fewShot": {}}}, "few-shot language models"),
    job("method.headOnly needs a task with a head", {"spec.method": {"headOnly": {}}}, "headOnly of a language model"),
    row("StorageProfile", "endpoint is plain http", {"spec.endpoint": "http://store:9000"}, "plain http by accident"),
    row(
        "TrainingProfile",
        "runtimeClassName and resourceClaimTemplateName are exclusive",
        {"spec": {"runtimeClassName": "nvidia", "resourceClaimTemplateName": "gpu"}},
        "two ways to a device",
    ),
    # Addresses
    job("spec.model.uri", {"spec.model.uri": "https://example.org/model"}, "model by https"),
    job("spec.model.uri", {"spec.model.uri": "s3://bucket"}, "model without a path"),
    job("spec.model.uri", {"spec.model.uri": "hf://name"}, "hub model without an organisation"),
    job("spec.model.uri", {"spec.model.uri": "/etc/passwd"}, "model by path"),
    job(
        "revision belongs to hf:// models",
        {"spec.model": {"uri": "modelversion://tone-v1", "revision": "main"}},
        "revision of a model version",
    ),
    job(
        "uri must not contain '..'",
        {"spec.model.uri": "pvc://claim/../../var/run/trimtab"},
        "model outside of its claim",
    ),
    job("uri must not contain '..'", {"spec.data.train.0.uri": "pvc://claim/a/.."}, "data outside of its claim"),
    job("spec.data.train[0].uri", {"spec.data.train.0.uri": "file:///data.jsonl"}, "data by path"),
    job("spec.data.train[0].uri", {"spec.data.train.0.uri": "modelversion://a"}, "a model as data"),
    job("spec.model.digest", {"spec.model.digest": "sha256:abc"}, "short digest"),
    row("StorageProfile", "spec.endpoint", {"spec.endpoint": "https://store/path"}, "endpoint with a path"),
    row("StorageProfile", "spec.endpoint", {"spec.endpoint": "ftp://store"}, "endpoint by ftp"),
    row("StorageProfile", "spec.prefix", {"spec.prefix": "/a/"}, "prefix with slashes at its ends"),
    row("StorageProfile", "spec.bucket", {"spec.bucket": "Upper"}, "bucket name"),
    # Numbers and sizes
    job("spec.method.lora.r", {"spec.method": {"lora": {"r": 0}}}, "LoRA rank 0"),
    job("spec.method.lora.dropout", {"spec.method": {"lora": {"dropout": 1}}}, "dropout 1"),
    job("spec.method.lora.targetModules", {"spec.method": {"lora": {"targetModules": []}}}, "no target modules"),
    job("spec.training.learningRate", {"spec.training.learningRate": 0}, "learning rate 0"),
    job("spec.training.epochs", {"spec.training.epochs": -1}, "negative epochs"),
    job("spec.training.maxSteps", {"spec.training.maxSteps": 0}, "no steps"),
    job("spec.training.precision: Unsupported value", {"spec.training.precision": "float16"}, "precision"),
    job("spec.data.train: Invalid value", {"spec.data.train": []}, "no training data"),
    job("spec.data.validationFraction", {"spec.data.validationFraction": 1}, "everything held out"),
    job("spec.distribution.nodes", {"spec.distribution.nodes": 0}, "no nodes"),
    job("spec.checkpoints.keepLast", {"spec.checkpoints.keepLast": 0}, "no checkpoint kept"),
    job("spec.runPolicy.maxAttempts", {"spec.runPolicy.maxAttempts": 0}, "no attempts"),
    job("spec.budget.maxCost", {"spec.budget.maxCost": 0}, "no budget"),
    job("spec.suspend in body must be of type boolean", {"spec.suspend": "yes"}, "suspend as text"),
    row("TrainingProfile", "spec.resources.requests.cpu", {"spec.resources.requests": {"cpu": "two"}}, "no quantity"),
    row("TrainingProfile", "spec.allowed.methods", {"spec.allowed.methods": ["loar"]}, "unknown method allowed"),
    row("TrainingProfile", "spec.terminationGracePeriodSeconds", {"spec.terminationGracePeriodSeconds": 0}, "no grace"),
    row("ModelRollout", "spec.version", {"spec.version": 0}, "version 0"),
    row(
        "ModelRollout", "exactly one of setWeight, pause, analysis", steps({"setWeight": 1, "pause": {}}), "two in one"
    ),
    row("ModelRollout", "exactly one of setWeight, pause, analysis", steps({}), "empty step"),
    row("ModelRollout", "setWeight", steps({"setWeight": 101}), "more than all"),
    row("ModelRollout", "duration", steps({"pause": {"duration": "5 minutes"}}), "words for a duration"),
    row("ModelRollout", "metrics", steps({"analysis": {"metrics": []}}), "no metrics"),
    row("ModelRollout", "must be set", metric(successCondition=None), "no condition"),
    row("ModelRollout", "successCondition", metric(successCondition="open('x') > 1"), "condition with a string"),
    row("ModelRollout", "exactly one of server, prometheus, job must be set", metric(provider={}), "no provider"),
    row(
        "ModelRollout", "provider.job.metric", metric(provider={"job": JOB | {"metric": "loss"}}), "losses from outside"
    ),
    row("ModelRollout", "provider.job.data", metric(provider={"job": {"metric": "f1"}}), "a Job without data"),
    row("ModelRollout", "'..'", metric(provider={"job": JOB | {"data": {"uri": "pvc://a/../b"}}}), "climbing data"),
    row(
        "ModelRollout", "address", metric(provider={"prometheus": {"address": "file:///etc", "query": "up"}}), "address"
    ),
    row("ModelRollout", "spec.serving.builtin.replicas", {"spec.serving": {"builtin": {"replicas": 0}}}, "no replicas"),
    row("ModelVersion", "spec.artifact.manifestSha256", {"spec.artifact.manifestSha256": "abc"}, "no digest"),
    row("ModelVersion", "spec.artifact.format: Unsupported value", {"spec.artifact.format": "pickle"}, "pickle"),
    row("ModelVersion", "spec.artifact.uri", {"spec.artifact.uri": "hf://org/name"}, "artifact outside of a store"),
    # Names
    job("metadata.name must be at most 52 characters", {"metadata.name": "a" * 53}, "long name"),
    job("metadata.name must begin with a letter", {"metadata.name": "1a"}, "name begins with a digit"),
    job("metadata.name must begin with a letter", {"metadata.name": "a.b"}, "name with a dot"),
    job("spec.output.modelName", {"spec.output.modelName": "Support_Tone"}, "model name"),
    job("spec.output.modelName", {"spec.output.modelName": "a" * 51}, "long model name"),
    row("ModelRollout", "metadata.name must be at most 52 characters", {"metadata.name": "a" * 53}, "long name"),
    row("ModelRollout", "metadata.name must begin with a letter", {"metadata.name": "1a"}, "no Service name"),
    row(
        "ModelVersion",
        "metadata.name must be <spec.modelName>-v<spec.version>",
        {"metadata.name": "other-v1"},
        "other model",
    ),
    row(
        "ModelVersion",
        "metadata.name must be <spec.modelName>-v<spec.version>",
        {"metadata.name": "support-tone-v2"},
        "other version",
    ),
    row(
        "ModelVersion",
        "metadata.name must be <spec.modelName>-v<spec.version>",
        {"metadata.name": "support-tone-v01"},
        "leading 0",
    ),
    # References stay in their namespace
    job('unknown field "spec.model.namespace"', {"spec.model.namespace": "other"}, "model in another namespace"),
    job('unknown field "spec.namespace"', {"spec.namespace": "other"}, "namespace"),
    row("ModelRollout", 'unknown field "spec.namespace"', {"spec.namespace": "other"}, "namespace"),
]

# An operator that runs in the cluster leaves such a job alone.
UNMANAGED = {"spec.managedBy": "example.org/tests"}
JOB_IMMUTABLE: list[tuple[Changes, str]] = [
    ({"profile": "other"}, "profile is immutable"),
    ({"storage": "other"}, "storage is immutable"),
    ({"model": {"uri": "s3://models/other"}}, "model is immutable"),
    ({"task": {"causalLanguageModeling": None, "sequenceClassification": {}}}, "task is immutable"),
    ({"objective": {"supervised": {"lossOnPrompt": True}}}, "objective is immutable"),
    ({"method": {"lora": {"r": 8}}}, "method is immutable"),
    ({"data": {"train": [{"uri": "s3://data/other.jsonl"}]}}, "data is immutable"),
    ({"training": {"learningRate": 0.1}}, "training is immutable"),
    ({"distribution": {"nodes": 2}}, "distribution is immutable"),
    ({"output": {"modelName": "other"}}, "output is immutable"),
    ({"managedBy": "example.org/other"}, "managedBy is immutable"),
    ({"checkpoints": {"everySteps": 7}}, "spec.checkpoints is immutable but for keepLast and keepBest"),
    ({"checkpoints": {"everySeconds": 5}}, "spec.checkpoints is immutable but for keepLast and keepBest"),
    ({"checkpoints": {"resume": "Never"}}, "spec.checkpoints is immutable but for keepLast and keepBest"),
]

JOB_MUTABLE: list[Changes] = [
    {"suspend": True},
    {"runPolicy": {"maxAttempts": 9, "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 0}},
    {"budget": {"maxAcceleratorHours": 1.5}},
    {"checkpoints": {"keepLast": 5, "keepBest": 2}},
]


@pytest.mark.parametrize(("kind", "changes", "message"), ACCEPTED)
def test_accepted(api: Api, shared_namespace: str, kind: str, changes: Changes, message: str) -> None:
    assert message == ""
    api.create(changed(smallest(kind, namespace=shared_namespace), changes), dry_run=True)


@pytest.mark.parametrize(("kind", "changes", "message"), REFUSED)
def test_refused(api: Api, shared_namespace: str, kind: str, changes: Changes, message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        api.create(changed(smallest(kind, namespace=shared_namespace), changes), dry_run=True)
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("patch", "message"), JOB_IMMUTABLE, ids=lambda value: value if isinstance(value, str) else None
)
def test_job_field_is_immutable(api: Api, shared_namespace: str, patch: Changes, message: str) -> None:
    job = existing(api, changed(smallest("FineTuneJob", namespace=shared_namespace), UNMANAGED))
    with pytest.raises(RefusedError) as refused:
        api.merge(job, {"spec": patch}, dry_run=True)
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("before", "patch", "message"),
    [
        pytest.param({}, {"training": {"epochs": 1}}, "training is immutable", id="comes"),
        pytest.param({"training.epochs": 1}, {"training": {"epochs": None}}, "training is immutable", id="goes"),
        pytest.param(
            {"training.epochs": 1},
            {"training": {"epochs": None, "maxSteps": 5}},
            "training is immutable",
            id="another instead",
        ),
        pytest.param(
            {"training.epochs": 1, "training.dropout": 0.1},
            {"training": {"dropout": None, "evaluateEverySteps": 5}},
            "training is immutable",
            id="another instead of one of two",
        ),
        pytest.param({"profile": "a"}, {"profile": None}, "profile is immutable", id="the profile goes"),
        pytest.param(
            {"profile": "a"}, {"profile": None, "storage": "a"}, "storage is immutable", id="storage for profile"
        ),
        pytest.param({}, {"method": {"lora": None, "full": {}}}, "method is immutable", id="another method"),
        pytest.param({}, {"method": {"lora": {"targetPattern": "q"}}}, "method is immutable", id="an option of LoRA"),
        pytest.param({}, {"data": {"mixFraction": 0.5}}, "data is immutable", id="a field of data"),
    ],
)
def test_what_is_set_stays_set_and_nothing_is_added(
    api: Api, namespace: str, before: Changes, patch: Changes, message: str
) -> None:
    there = {f"spec.{path}": value for path, value in before.items()}
    job = api.create(changed(smallest("FineTuneJob", namespace=namespace), UNMANAGED | there))
    with pytest.raises(RefusedError) as refused:
        api.merge(job, {"spec": patch}, dry_run=True)
    assert message in refused.value.message


def test_of_several_messages_the_first_is_told(api: Api, shared_namespace: str) -> None:
    wrong: Changes = {"spec.training.earlyStopping": {}, "spec.objective": {"reward": {}}}
    with pytest.raises(RefusedError) as refused:
        api.create(changed(smallest("FineTuneJob", namespace=shared_namespace), wrong), dry_run=True)
    assert "training.earlyStopping needs validation data" in refused.value.message


@pytest.mark.parametrize("patch", JOB_MUTABLE, ids=lambda patch: next(iter(patch)))
def test_a_job_with_many_fields_may_change_likewise(api: Api, shared_namespace: str, patch: Changes) -> None:
    many = {
        "metadata.name": "many-fields",
        "spec.profile": "a",
        "spec.training.epochs": 1,
        "spec.training.dropout": 0.1,
        "spec.data.mixFraction": 0.5,
        **GENERAL,
        "spec.data.validationFraction": 0.1,
        "spec.method": {"full": {}},
    }
    job = existing(api, changed(smallest("FineTuneJob", namespace=shared_namespace), UNMANAGED | many))
    api.merge(job, {"spec": patch}, dry_run=True)


@pytest.mark.parametrize("patch", JOB_MUTABLE, ids=lambda patch: next(iter(patch)))
def test_job_field_may_change(api: Api, shared_namespace: str, patch: Changes) -> None:
    job = existing(api, changed(smallest("FineTuneJob", namespace=shared_namespace), UNMANAGED))
    api.merge(job, {"spec": patch}, dry_run=True)


@pytest.mark.parametrize(
    ("kind", "patch", "message"),
    [
        pytest.param(
            "ModelVersion", {"metrics": [{"name": "a", "value": "1"}]}, "spec is immutable", id="version: metrics"
        ),
        pytest.param(
            "ModelVersion", {"artifact": {"manifestSha256": "1" * 64}}, "spec is immutable", id="version: digest"
        ),
        pytest.param("ModelVersion", {"storage": "other"}, "spec is immutable", id="version: storage"),
        pytest.param("ModelRollout", {"modelName": "other"}, "modelName is immutable", id="rollout: model"),
    ],
)
def test_other_field_is_immutable(api: Api, shared_namespace: str, kind: str, patch: Changes, message: str) -> None:
    manifest = existing(api, smallest(kind, namespace=shared_namespace))
    with pytest.raises(RefusedError) as refused:
        api.merge(manifest, {"spec": patch}, dry_run=True)
    assert message in refused.value.message


def test_rollout_may_change_version_and_serving(api: Api, shared_namespace: str) -> None:
    rollout = existing(api, smallest("ModelRollout", namespace=shared_namespace))
    api.merge(rollout, {"spec": {"version": 2, "serving": {"builtin": {"replicas": 2}}}}, dry_run=True)


def test_defaults_are_the_models_defaults(api: Api, shared_namespace: str) -> None:
    spec = api.create(
        changed(smallest("FineTuneJob", namespace=shared_namespace), {"metadata.name": "defaults"}), dry_run=True
    )["spec"]
    assert spec["method"]["lora"] == {
        "r": 16,
        "alpha": 32,
        "dropout": 0,
        "targetModules": ["all-linear"],
        "useRslora": False,
        "useDora": False,
        "rankPattern": {},
        "alphaPattern": {},
        "initialization": "default",
    }
    assert spec["training"]["schedule"]["cosine"]["warmupRatio"] == 0.03
    assert spec["objective"] == {"supervised": {"lossOnPrompt": False}}
    assert spec["checkpoints"] == {
        "everySteps": 50,
        "everySeconds": 600,
        "keepLast": 2,
        "keepBest": 1,
        "resume": "Auto",
    }
    assert "epochs" not in spec["training"]


def test_status_is_not_the_users(api: Api, namespace: str) -> None:
    created = api.create(
        changed(smallest("FineTuneJob", namespace=namespace), UNMANAGED | {"status": {"state": "Complete"}})
    )
    assert created["status"] == {"observedGeneration": -1}


def test_a_whole_job_status_is_stored_as_written(api: Api, namespace: str) -> None:
    job = api.create(changed(smallest("FineTuneJob", namespace=namespace), UNMANAGED))
    status = {
        "observedGeneration": 1,
        "state": "Running",
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "Training",
                "message": "Step 1 of 2.",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": 1,
            }
        ],
        "resolved": {"profileName": "cpu", "profile": {"image": "a", "resources": {"requests": {"cpu": "1"}}}},
        "attempts": [{"number": 1, "jobName": "sample-a1"}],
        "progress": {"step": 1, "loss": 1.5, "etaSeconds": 3},
        "checkpoints": [
            {
                "step": 1,
                "attempt": 1,
                "uri": "s3://b/k",
                "manifestSha256": DIGEST,
                "bytes": 5_000_000_000,
                "time": "2026-01-01T00:00:00Z",
                "metrics": {"eval_loss": 1.25},
            }
        ],
    }
    stored = api.replace_status({**job, "status": status})["status"]
    assert stored == status


@pytest.mark.parametrize("short", ["ftj", "mdv", "mro", "sprof", "tprof"])
def test_short_names_and_the_category(api: Api, short: str) -> None:
    resources = api.get("/apis/trimtab.dev/v1alpha1")["resources"]
    named = [resource for resource in resources if short in resource.get("shortNames", [])]
    assert [resource["categories"] for resource in named] == [["trimtab"]]


def existing(api: Api, manifest: dict[str, Any]) -> dict[str, Any]:
    """The object as it lies in the API server; made by whichever test comes first."""
    return api.apply(manifest)


@pytest.mark.usefixtures("api")
def test_explain_reads_like_documentation() -> None:
    command = ["kubectl", f"--kubeconfig={kubeconfig()}", "explain", "finetunejobs.spec.method.lora"]
    # kubectl keeps what the API server offers for some minutes; a fresh CRD is not in it yet.
    with tempfile.TemporaryDirectory() as cache:
        page = subprocess.run([*command, f"--cache-dir={cache}"], capture_output=True, text=True, check=True).stdout
    for words in (
        "Low-rank adapters on frozen weights.",
        "LoRA rank. Default: 16.",
        "Scale: updates are multiplied by",
    ):
        assert words in page


OBJECTIVES = sorted((Path(__file__).parents[2] / "examples" / "objectives").glob("*.yaml"))


@pytest.mark.parametrize("example", OBJECTIVES, ids=lambda path: path.stem)
def test_the_examples_of_objectives_are_accepted(example: Path, api: Api, shared_namespace: str) -> None:
    """They name data of a user's own, so nothing runs them."""
    for manifest in yaml.safe_load_all(example.read_text()):
        manifest["metadata"]["namespace"] = shared_namespace
        api.create(manifest, dry_run=True)
