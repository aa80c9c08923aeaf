"""ROUGE of written answers in a whole job, against transformers and `rouge-score` on the published model."""

import json
from pathlib import Path

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_trainer.contract.exit_codes import ExitCode

TASK = {"causalLanguageModeling": {"writtenAnswers": {"maxNewTokens": 12}}}
LEARNING = {
    "learningRate": 0.01,
    "maxSteps": 60,
    "evaluateEverySteps": 30,
    "schedule": {"constant": {}},
    "selectBestBy": {"metric": "eval_rouge_l", "mode": "max"},
}


def test_rouge_is_that_of_the_published_models_greedy_answers(
    storage: MemoryStorage, tmp_path: Path, job_files: Path
) -> None:
    gates = {"gates": [{"metric": "rouge_l", "successCondition": "result >= baseline"}]}
    ended = run_job(make_job(task=TASK, method={"full": {}}, training=LEARNING, evaluation=gates), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    metrics, path = storage.published["metrics"], storage.published["path"]
    base = AutoModelForCausalLM.from_pretrained(job_files / "models" / "llama")
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = [json.loads(line)["messages"] for line in (job_files / "data" / "test.jsonl").read_text().splitlines()]
    for prefix, model in (
        ("baseline_test_", base.eval()),
        ("test_", AutoModelForCausalLM.from_pretrained(path).eval()),
    ):
        scores = [score(model, tokenizer, messages) for messages in rows]
        for name, theirs in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
            mean = sum(one[theirs].fmeasure for one in scores) / len(scores)
            assert metrics[f"{prefix}{name}"] == pytest.approx(mean), f"{prefix}{name}"
    assert metrics["test_rouge_l"] > 0.2 > metrics["baseline_test_rouge_l"]
    assert [(gate.result, gate.baseline) for gate in ended.message.gates] == [
        (repr(metrics["test_rouge_l"]), repr(metrics["baseline_test_rouge_l"]))
    ]


@torch.no_grad()
def score(model: torch.nn.Module, tokenizer: object, messages: list[dict[str, str]]) -> dict[str, object]:
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)  # type: ignore[attr-defined]
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids  # type: ignore[operator]
    written = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False, pad_token_id=257)[0, ids.shape[1] :]  # type: ignore[operator]
    answer = tokenizer.decode(written, skip_special_tokens=True)  # type: ignore[attr-defined]
    return RougeScorer(["rouge1", "rouge2", "rougeL"]).score(messages[-1]["content"], answer)  # type: ignore[no-any-return]


def test_data_without_prompts_is_refused(storage: MemoryStorage, tmp_path: Path) -> None:
    raw = {split: [{"uri": f"s3://data/{split}-raw.jsonl"}] for split in ("train", "validation", "test")}
    ended = run_job(make_job(task=TASK, data=raw), tmp_path / "run")
    assert ended.code == ExitCode.DATASET_INVALID
    assert "needs examples with a prompt" in ended.message.message
