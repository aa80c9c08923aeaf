"""What is refused before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_models import write_tiny_llama
from tests.support.training import make_job

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.spec import Distribution
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.hardware import choose_device
from trimtab_trainer.memory import GIB, choose_micro_batch_size, estimate_memory
from trimtab_trainer.methods.lora import LowRankAdapters
from trimtab_trainer.model_facts import ModelFacts, read_model_facts
from trimtab_trainer.preflight import check_config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"training": {"epochs": 1}}, "`training.epochs` and `training.maxSteps` exclude", id="epochs and steps"
        ),
        pytest.param(
            {"data": {"validationFraction": 0.1}},
            "`data.validation` and `data.validationFraction` exclude",
            id="two validation splits",
        ),
        pytest.param(
            {"data": {"test": [{"uri": "s3://data/test.jsonl", "weight": 2}]}},
            r"`data.test\[0\].weight` has no meaning",
            id="a weight on what is not mixed",
        ),
        pytest.param(
            {
                "task": {"sequenceClassification": {}},
                "data": {"train": [{"uri": "s3://data/train.jsonl", "weight": 2}]},
                "training": {"balancedSampling": True},
            },
            "cannot be combined with `training.balancedSampling`",
            id="two rules of drawing",
        ),
        pytest.param(
            {"training": {"microBatchSize": 3}},
            r"`training.globalBatchSize: 4` must be microBatchSize \(3\)",
            id="micro batches that do not divide",
        ),
        pytest.param(
            {"training": {"microBatchSize": 2, "gradientAccumulationSteps": 4}},
            "must be microBatchSize",
            id="a product that is too large",
        ),
        pytest.param(
            {"training": {"gradientAccumulationSteps": 3}}, "must be microBatchSize", id="steps that do not divide"
        ),
        pytest.param(
            {"data": {"validation": []}, "training": {"earlyStopping": {}}},
            "`training.earlyStopping` needs `data.validation`",
            id="early stopping blind",
        ),
        pytest.param(
            {"data": {"validation": []}, "training": {"selectBestBy": {}}},
            "`training.selectBestBy` needs",
            id="selection blind",
        ),
        pytest.param(
            {"training": {"earlyStopping": {"metric": "eval_accuracy"}}},
            "must be one of: eval_loss, eval_perplexity",
            id="a metric of another task",
        ),
        pytest.param(
            {"training": {"selectBestBy": {"metric": "eval_adversarial_loss"}}},
            "is not measured",
            id="a metric of an attack that there is not",
        ),
        pytest.param(
            {"training": {"classWeights": {"balanced": {}}}},
            "`training.classWeights` needs a task with one class for each example; got causalLanguageModeling",
            id="class weights of a language model",
        ),
        pytest.param(
            {"training": {"balancedSampling": True}}, "`training.balancedSampling` needs", id="classes to balance"
        ),
        pytest.param({"training": {"curriculum": {}}}, "Set `data.packing: false`", id="a curriculum of packed rows"),
        pytest.param(
            {"training": {"continual": {"ewc": {}}}},
            "`training.continual.ewc` needs `data.general`",
            id="EWC of nothing",
        ),
        pytest.param(
            {"data": {"augmentation": {}}}, "`data.augmentation` changes words of labelled texts", id="other words"
        ),
        pytest.param(
            {"data": {"normalization": {}}, "task": {"questionAnswering": {}}},
            "`data.normalization` would move the answers",
            id="moved answers",
        ),
        pytest.param({"data": {"mixFraction": 0.1}}, "`data.mixFraction` needs `data.general`", id="replay of nothing"),
        pytest.param(
            {"method": {"headOnly": {}}, "training": {"adversarial": {"fgm": {}}}},
            "`training.adversarial` changes what the trunk computes",
            id="an attack on a trunk that does not learn",
        ),
        pytest.param(
            {"training": {"extraArguments": {"adam": 1}}}, "Known arguments: adamBeta1", id="an unknown argument"
        ),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        check_config(make_job(**changes), world_size=1)
    assert caught.value.reason is TrainerReason.CONFIG_INVALID


def test_a_batch_smaller_than_the_world_is_refused() -> None:
    with pytest.raises(TrainerError, match="at least the number of processes, 5"):
        check_config(make_job(), world_size=5)


@pytest.mark.parametrize(
    "targets", [["all-linear"], ["q_proj"], ["self_attn.q_proj", "down_proj"], ["model.layers.0.mlp.up_proj"]]
)
def test_target_modules_of_the_model_are_accepted(targets: list[str], tmp_path: Path) -> None:
    LowRankAdapters().check(
        make_job(method={"lora": {"targetModules": targets}}), read_model_facts(write_tiny_llama(tmp_path))
    )


@pytest.mark.parametrize("targets", [["query"], ["q_proj", "proj"], ["all-linear", "q_proj"]])
def test_target_modules_that_match_nothing_are_refused_with_the_names_there_are(
    targets: list[str], tmp_path: Path
) -> None:
    with pytest.raises(TrainerError) as caught:
        LowRankAdapters().check(
            make_job(method={"lora": {"targetModules": targets}}), read_model_facts(write_tiny_llama(tmp_path))
        )
    assert caught.value.reason is TrainerReason.CONFIG_INVALID
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(caught.value) or "all-linear" in str(
        caught.value
    )


def test_the_trained_weights_are_counted_as_peft_counts_them(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - the reference
    from transformers import AutoModelForCausalLM  # noqa: PLC0415

    facts = read_model_facts(write_tiny_llama(tmp_path))
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tmp_path),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    assert LowRankAdapters().trained_parameters(make_job(), facts) == model.get_nb_trainable_parameters()[0]
    assert facts.parameters == sum(
        value.numel() for value in AutoModelForCausalLM.from_pretrained(tmp_path).parameters()
    )


SMOLLM2 = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "vocab_size": 49152}


def smollm2() -> ModelFacts:
    layer = {
        "q": (576, 576),
        "k": (192, 576),
        "v": (192, 576),
        "o": (576, 576),
        "gate": (1536, 576),
        "up": (1536, 576),
        "down": (576, 1536),
    }
    shapes = {f"model.layers.{number}.{name}.weight": shape for number in range(30) for name, shape in layer.items()}
    return ModelFacts(SMOLLM2, {**shapes, "model.embed_tokens.weight": (49152, 576)})


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        pytest.param({"lora": {}}, 3.0, 4.5, id="LoRA, measured 4.0 GiB"),
        pytest.param({"full": {}}, 6.5, 9.5, id="full"),
        pytest.param({"headOnly": {}}, 2, 4, id="head"),
    ],
)
def test_the_memory_estimate_is_near_what_was_measured(method: dict[str, Any], low: float, high: float) -> None:
    estimate = estimate_memory(make_job(method=method), smollm2(), tokens=1024, bytes_per_value=4)
    assert low < estimate.total / GIB < high


def test_a_reference_takes_two_more_copies_of_what_moves() -> None:
    plain, compared = (
        estimate_memory(make_job(method={"full": {}}, **objective), smollm2(), tokens=1024, bytes_per_value=4)
        for objective in ({}, {"objective": {"dpo": {}}})
    )
    assert compared.total - plain.total == 2 * 4 * plain.trained_parameters


@pytest.mark.parametrize(
    ("changes", "limit", "expected"),
    [
        pytest.param({"data": {"maxSequenceLength": 256}}, None, 8, id="as many as help"),
        pytest.param({"data": {"maxSequenceLength": 256}}, int(3.1 * GIB), 4, id="as many as fit"),
        pytest.param(
            {"data": {"maxSequenceLength": 256}, "training": {"recomputeActivations": True}},
            int(3.1 * GIB),
            8,
            id="more fit where activations are computed again",
        ),
        pytest.param({"data": {"maxSequenceLength": 4096}}, None, 1, id="one at least"),
        pytest.param({"training": {"microBatchSize": 16}}, None, 16, id="what the user gave"),
        pytest.param({"training": {"gradientAccumulationSteps": 2}}, None, 8, id="what follows from the steps"),
    ],
)
def test_the_micro_batch_size_is_chosen_to_fit(changes: dict[str, Any], limit: int | None, expected: int) -> None:
    size, _ = choose_micro_batch_size(make_job(**changes), smollm2(), share=16, bytes_per_value=4, limit=limit)
    assert size == expected


def test_a_model_that_cannot_fit_is_refused_with_numbers_and_remedy() -> None:
    with pytest.raises(TrainerError) as caught:
        choose_micro_batch_size(make_job(method={"full": {}}), smollm2(), share=1, bytes_per_value=4, limit=2 * GIB)
    assert caught.value.reason is TrainerReason.WILL_NOT_FIT
    for words in (
        "134 M weights",
        "the pod may use 2.0 GiB",
        "`method.lora` instead of `full`",
        "`training.recomputeActivations: true`",
        "a profile with at least",
    ):
        assert words in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_accelerators_that_are_not_there_are_refused() -> None:
    with pytest.raises(TrainerError, match="acceleratorsPerNode: 2` needs as many accelerators") as caught:
        choose_device(Distribution(accelerators_per_node=2), local_rank=0)
    assert caught.value.reason is TrainerReason.CONFIG_INVALID


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        pytest.param("config.json", b"{", "config.json cannot be read", id="broken config"),
        pytest.param("model.safetensors", b"1234567890123456", "is not a safetensors file", id="not safetensors"),
        pytest.param("model.safetensors", None, r"has no \*.safetensors file", id="no weights"),
    ],
)
def test_files_that_are_no_model_are_refused(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainerError, match=words) as caught:
        read_model_facts(tmp_path)
    assert caught.value.reason is TrainerReason.MODEL_INVALID
