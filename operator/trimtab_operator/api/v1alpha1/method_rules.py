"""What a method does not go together with, as CEL over a FineTuneJob's spec. docs/methods.md has the table.

What few jobs have is asked first, and of the part with the fewest fields: what follows costs nothing then.
"""

from pydantic import JsonValue


def _rule(rule: str, message: str) -> dict[str, JsonValue]:
    return {"rule": rule, "message": message}


_TASKS_WITH_PREFIXES = ("causalLanguageModeling", "sequenceClassification", "tokenClassification", "questionAnswering")
METHOD_RULES: list[dict[str, JsonValue]] = [
    _rule(
        "!has(self.method.headOnly) || !has(self.task.causalLanguageModeling)",
        "method.headOnly needs a task with a head of its own, for example sequenceClassification: the head of a "
        "language model is shared with its embeddings",
    ),
    _rule(
        "!self.output.merge || has(self.method.lora)",
        "output.merge folds a LoRA adapter into the base model: set method.lora, or leave merge out",
    ),
    _rule(
        "!has(self.output.quantization) || self.output.merge || has(self.method.full) || has(self.method.partial) || has(self.method.headOnly)",
        "output.quantization needs a whole model: set output.merge with method.lora, or choose method.full, partial or headOnly",
    ),
    _rule(
        "!has(self.output.quantization) || !has(self.task.multiTask)",
        "output.quantization is for models that transformers loads by itself, which those of task.multiTask are not",
    ),
    _rule(
        "!has(self.objective.fewShot) || !has(self.method.headOnly)",
        "objective.fewShot moves what the head reads, and method.headOnly the head alone: choose another method",
    ),
    _rule(
        "!has(self.objective.fewShot) || !has(self.task.sequenceClassification) || !self.task.sequenceClassification.multiLabel",
        "objective.fewShot needs one class for each text: leave multiLabel out",
    ),
    _rule(
        "!has(self.method.prefixTuning) || !has(self.task.causalLanguageModeling) || !self.data.packing",
        "method.prefixTuning stands before each text by itself: set data.packing to false",
    ),
    _rule(
        "!has(self.method.prefixTuning) || " + " || ".join(f"has(self.task.{task})" for task in _TASKS_WITH_PREFIXES),
        f"method.prefixTuning stands before a text of one task ({', '.join(_TASKS_WITH_PREFIXES)}): choose another method, for example lora",
    ),
    *(
        _rule(
            f"!has(self.method.{method}) || !has(self.training.{practice})",
            f"training.{practice} needs a method that trains layers one by one: method.{method} has none",
        )
        for practice in ("layerwiseLearningRateDecay", "gradualUnfreezing")
        for method in ("headOnly", "prefixTuning")
    ),
]
