"""Answers come from the very distribution that is trained, whatever a model's own generation settings say."""

from pathlib import Path

import numpy as np
import torch
from tests.support.tiny_models import byte_tokenizer, write_tiny_llama
from transformers import AutoModelForCausalLM, GenerationConfig

from trimtab_trainer.contract.rewards import Sampling
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Example
from trimtab_trainer.data.prompt_encoding import EncodedPrompt, PromptEncoder
from trimtab_trainer.data.prompts import Prompt
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.sampling import Sampler
from trimtab_trainer.tasks.language_modeling import choose_layout

STOP = 257


def make_model(directory: Path) -> TrainableModel:
    module = AutoModelForCausalLM.from_pretrained(write_tiny_llama(directory))
    module.generation_config = GenerationConfig(top_k=1, repetition_penalty=5.0, eos_token_id=STOP)
    with torch.no_grad():  # some tokens are much likelier than others
        module.model.norm.weight.mul_(8)
    return TrainableModel(
        module, byte_tokenizer(), torch.device("cpu"), torch.float32, trainable=dict(module.named_parameters())
    )


def prompts(*texts: str) -> list[EncodedPrompt]:
    encoder = PromptEncoder(TextEncoder(byte_tokenizer(), 200), room=8)
    return encoder.encode([Example("here", Prompt(text, ())) for text in texts])


def test_first_tokens_follow_the_distribution_at_the_temperature(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, (short, long) = make_model(tmp_path), prompts("Hi", "Tell me something long")
    sampler = Sampler(Sampling(max_new_tokens=1, temperature=0.7), (STOP,))
    drawn = sampler.draw(model, [short, long], count=2000)
    model.module.eval()
    for prompt, answers in ((short, drawn[:2000]), (long, drawn[2000:])):
        logits = model.module(torch.from_numpy(prompt.ids).long()[None]).logits[0, -1]
        expected = (logits / 0.7).softmax(-1).detach().numpy()
        counted = np.bincount([int(one.ids[0]) for one in answers], minlength=258) / 2000
        assert np.abs(counted - expected).sum() / 2 < 0.5 * np.sqrt(258 / 2000)  # total variation of so many draws
        assert counted.max() < 0.9  # not the likeliest alone
    logits = model.module(torch.from_numpy(short.ids).long()[None]).logits[0, -1].detach()
    language, _ = choose_layout(model, [one.sequence for one in drawn[:2]])
    by_token = language.log_probabilities(model, language.collate([drawn[0].sequence]), temperature=0.7)
    torch.testing.assert_close(by_token[0], (logits / 0.7).log_softmax(-1)[int(drawn[0].ids[0])], rtol=1e-4, atol=1e-5)


def test_an_answer_ends_with_its_stop_token(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, asked = make_model(tmp_path), prompts("Hi", "Tell me something long")
    with torch.no_grad():  # every second token or so is a stop token
        model.module.lm_head.weight[STOP] = model.module.lm_head.weight.mean(0) * 4
    sampler = Sampler(Sampling(max_new_tokens=8), (STOP, 65))
    drawn = sampler.draw(model, asked, count=40)
    assert [one.prompt for one in drawn] == [asked[0]] * 40 + [asked[1]] * 40
    for one in drawn:
        stops = [place for place, token in enumerate(one.ids.tolist()) if token in {STOP, 65}]
        assert one.is_finished == bool(stops)
        assert stops in ([], [len(one.ids) - 1])
        assert len(one.ids) <= 8
        assert one.sequence.targets == len(one.ids)
    assert model.module.generation_config.top_k == 1
