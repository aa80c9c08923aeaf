"""The words of a fine-tuning run that user, operator and trainer share: model, task, objective, data, training."""

from typing import Annotated, Any, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document, Empty, OneOf, rules
from trimtab_trainer.contract.data_checks import DataSetName, Languages, Slices
from trimtab_trainer.contract.practices import (
    Adversarial,
    ClassWeights,
    Continual,
    Curriculum,
    Decay,
    Divergence,
    ExponentialMovingAverage,
    LearningRateSchedule,
    Normalization,
    TextAugmentation,
)
from trimtab_trainer.contract.quantization import Quantization
from trimtab_trainer.contract.tasks import (
    CausalLanguageModeling,
    ImageClassification,
    ImageTextMatching,
    MultiTask,
    ObjectDetection,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from trimtab_trainer.contract.templates import Template

ModelURI = Annotated[
    str, Field(max_length=1024, pattern=r"^(s3://[^/]+/.+|hf://[^/]+/[^/]+|pvc://[^/]+/.+|modelversion://[^/]+)$")
]
DataURI = Annotated[str, Field(max_length=1024, pattern=r"^(s3://[^/]+/.+|hf://[^/]+/[^/]+(/.+)?|pvc://[^/]+/.+)$")]
# A claim is mounted beside the pod's credentials: a path must not climb out of it.
_NO_PARENTS = ("!self.uri.matches('(^|/)[.][.](/|$)')", "uri must not contain '..' as a part of its path")
Digest = Annotated[str, Field(max_length=71, pattern=r"^(sha256:[0-9a-f]{64})?$")]
Metric = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_.@-]*$")]


class ModelSource(Document):
    """The base model."""

    model_config = rules(
        _NO_PARENTS,
        (
            "!self.uri.startsWith('modelversion://') || !(has(self.revision) && self.revision != '')",
            "revision belongs to hf:// models: a ModelVersion never changes",
        ),
    )

    uri: ModelURI
    """Where the base model is: `s3://bucket/path`, `hf://org/name`, `pvc://claim/path`, or `modelversion://name`: a ModelVersion of the same namespace,
    from whose weights training goes on. Weights must be safetensors."""
    revision: str = Field(default="", max_length=128)
    """Commit, tag or branch of an `hf://` model. A commit makes the job reproducible."""
    digest: Digest = ""
    """Optional pin: `sha256:<hex>` of its files' listing, which a first job tells in `status.resolved.modelDigest`. Other bytes are refused."""
    secret_name: str = Field(default="", max_length=253)
    """Secret of the job's namespace whose key `HF_TOKEN` opens gated `hf://` models and data sets."""


class Task(OneOf):
    """What the head predicts. Exactly one member."""

    causal_language_modeling: CausalLanguageModeling | None = None
    """The next token."""
    sequence_classification: SequenceClassification | None = None
    """One label for a whole text, or any number of them."""
    token_classification: TokenClassification | None = None
    """One label for each word."""
    question_answering: QuestionAnswering | None = None
    """The span of a context that answers a question."""
    image_classification: ImageClassification | None = None
    """One label for an image."""
    object_detection: ObjectDetection | None = None
    """Boxes and labels in an image."""
    image_text_matching: ImageTextMatching | None = None
    """Which text belongs to which image."""
    speech_recognition: Empty | None = None
    """The text of a recording."""
    multi_task: MultiTask | None = None
    """Several tasks over one shared trunk."""


DataFormat = Literal[
    "messages",
    "promptCompletion",
    "preference",
    "prompt",
    "text",
    "labelled",
    "multiLabelled",
    "tagged",
    "questionAnswers",
    "labelledImage",
    "imageText",
    "annotatedImage",
    "transcribedAudio",
]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
AUDIO_SUFFIXES = (".wav",)


class DataSource(Document):
    """One data set: a JSONL, CSV or Parquet file, or a folder of such files, with the images or recordings that they name."""

    model_config = rules(_NO_PARENTS)

    uri: DataURI
    """Where the data is: `s3://bucket/key`, `hf://org/name[/file]` or `pvc://claim/path`. A trailing `/` names a folder."""
    format: DataFormat | None = None
    """How a row is read; each task's formats are in docs/tasks.md. Absent: inferred from the columns."""
    weight: float = Field(default=1.0, gt=0, le=100)
    """How often one epoch shows each example of this data set: 1 once, 2 twice, 0.25 a quarter of them, others in every epoch. For `train` only."""
    columns: dict[str, str] = Field(default_factory=dict, max_length=16)
    """Which column plays which role, for example `{prompt: question, completion: answer}`."""
    templates: list[Template] = Field(default_factory=list, max_length=16)
    """Instead of `format` and `columns`, for language models: ways to ask and to answer, of which each row follows one, chosen by a hash of what it says."""
    revision: str = Field(default="", max_length=128)
    """Commit, tag or branch of an `hf://` data set."""
    task: str = Field(default="", max_length=32)
    """With `task.multiTask`: the name of the task whose examples these are."""
    name: DataSetName = ""
    """Of data sets in `test` and `general`: they are measured by this name too, and versions remember how well each was known; the same name later is the same data."""


class Data(Document):
    """What to train, validate and test on."""

    model_config = rules(
        (
            "!(size(self.validation) > 0 && has(self.validationFraction))",
            "validation and validationFraction are exclusive: name a validation split or hold out a share of train",
        ),
        (
            "self.train.all(one, one.name == '') && self.validation.all(one, one.name == '')",
            "name is for data sets in test and general, which are measured by it",
        ),
        ("!has(self.mixFraction) || size(self.general) > 0", "mixFraction needs general: data to mix in"),
    )

    train: list[DataSource] = Field(min_length=1, max_length=32)
    """The training split."""
    validation: list[DataSource] = Field(default_factory=list, max_length=32)
    """The validation split: evaluation during training, early stopping, best checkpoint."""
    validation_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training split to hold out for validation, chosen by a hash of each example."""
    test: list[DataSource] = Field(default_factory=list, max_length=32)
    """The test split: measured once, before and after training."""
    general: list[DataSource] = Field(default_factory=list, max_length=32)
    """Broad data, to see what the model forgets: measured once, before and after training, and by gates with `source: general`."""
    mix_fraction: float | None = Field(default=None, gt=0, lt=1)
    """Share of general data in what is trained on: replay, against forgetting. An epoch still has all of the training split. Absent: none."""
    max_sequence_length: int = Field(default=512, ge=8, le=131072)
    """Token limit of one example; longer ones are cut, counted and reported."""
    packing: bool = True
    """Put several examples into one row, each seeing only itself."""
    normalization: Normalization | None = None
    """Bring all texts into one form before anything reads them. Absent: as they are."""
    languages: Languages | None = None
    """In which languages the texts should be. Absent: they are counted by language, and none is expected."""
    slices: Slices | None = None
    """Measure groups of the held-out examples by themselves too. Absent: none."""
    augmentation: TextAugmentation | None = None
    """Changed copies of labelled texts in the training split. Pictures are augmented by their task's own fields."""


class EarlyStopping(Document):
    """Stop when a metric no longer improves."""

    metric: Metric = "eval_loss"
    """The metric to watch; names ending in `loss`, `perplexity` or `error_rate` are minimised, others maximised."""
    patience: int = Field(default=3, ge=1, le=1000)
    """Evaluations without improvement before training stops."""


class SelectBestBy(Document):
    """Which checkpoint is the best one, the one that is published."""

    metric: Metric = "eval_loss"
    """The metric to compare checkpoints by."""
    mode: Literal["min", "max"] = "min"
    """Whether smaller or larger is better."""


class GradualUnfreezing(Document):
    """Layers begin to move one stage after the other, from the top (ULMFiT; Howard and Ruder, 2018, arXiv:1801.06146).

    In stage k (0, 1, ...) the head and the last `(k + 1) * layersPerStage` layers move; the embeddings come after all layers.
    """

    model_config = rules(
        (
            "has(self.everySteps) != has(self.everyEpochs)",
            "set one of everySteps and everyEpochs",
        ),
    )

    every_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of one stage."""
    every_epochs: float | None = Field(default=None, gt=0, le=1000)
    """Passes over the training split of one stage, rounded to whole steps."""
    layers_per_stage: int = Field(default=1, ge=1, le=1000)
    """Layers that join at each stage."""


class Training(Document):
    """How to train."""

    model_config = rules(
        ("!(has(self.epochs) && has(self.maxSteps))", "epochs and maxSteps are exclusive: set one of them"),
        (
            "!has(self.microBatchSize) || self.globalBatchSize % self.microBatchSize == 0",
            "globalBatchSize must be a multiple of microBatchSize",
        ),
    )

    epochs: float | None = Field(default=None, gt=0, le=10000)
    """Passes over the training split. Absent with `maxSteps` absent: 1, with `objective.fewShot` 20."""
    max_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; exclusive with `epochs`."""
    global_batch_size: int = Field(default=16, ge=1, le=65536)
    """Examples per optimizer step over all processes."""
    micro_batch_size: int | None = Field(default=None, ge=1, le=65536)
    """Examples (with packing: rows of at most `maxSequenceLength` tokens) per forward pass of one process. Absent: chosen by the trainer."""
    gradient_accumulation_steps: int | None = Field(default=None, ge=1, le=65536)
    """Micro batches per optimizer step. Absent: follows from the two batch sizes and the world size."""
    learning_rate: float | None = Field(default=None, gt=0, le=10)
    """Peak learning rate. Absent: follows from the method, the objective, and from whether the task's head is new; the report names it (docs/training.md has the table)."""
    schedule: LearningRateSchedule = Field(default_factory=lambda: LearningRateSchedule(cosine=Decay()))
    """How the learning rate moves."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decoupled weight decay (AdamW), not on biases and norms."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this global norm."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Override of every dropout that the model came with; an adapter's own stays. Absent: as the model says."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target probability that is spread over all classes or words (Szegedy et al., 2016, arXiv:1512.00567). Measurements are not smoothed."""
    embedding_noise_alpha: float | None = Field(default=None, gt=0, le=1000)
    """NEFTune (Jain et al., 2023, arXiv:2310.05914): uniform noise of `alpha / sqrt(tokens * width)` on the input embeddings. The paper uses 5 to 15."""
    exponential_moving_average: ExponentialMovingAverage | None = None
    """Measure, select and publish a running average of the weights instead of the newest ones."""
    divergence: Divergence = Field(default_factory=Divergence)
    """What to do with steps whose loss is not finite, or jumps."""
    class_weights: ClassWeights | None = None
    """Weights of classes in the loss of a classifier."""
    balanced_sampling: bool = False
    """Draw the examples of a classifier with replacement, each class equally often."""
    curriculum: Curriculum | None = None
    """Short examples first; needs `data.packing: false` where the task packs."""
    layerwise_learning_rate_decay: float | None = Field(default=None, gt=0, le=1)
    """Discriminative learning rates (ULMFiT, arXiv:1801.06146; ELECTRA, arXiv:2003.10555): layer l of L learns with `learningRate * decay^(L - l)`, the embeddings with `decay^L`, the head without decay."""
    gradual_unfreezing: GradualUnfreezing | None = None
    """Unfreeze layers from the top while training goes on."""
    early_stopping: EarlyStopping | None = None
    """Stop when a metric no longer improves; needs a validation split."""
    select_best_by: SelectBestBy | None = None
    """Publish the checkpoint with the best metric. Absent: `eval_loss` where there is validation data, else the last step."""
    adversarial: Adversarial | None = None
    """Adversarial steps on the embeddings."""
    continual: Continual | None = None
    """Hold the weights near where they started, to forget less."""
    recompute_activations: bool = False
    """Keep of each layer what goes in, and compute the rest again in the backward pass (gradient checkpointing): far less memory for long
    rows and deep models, about a third more time for each step; losses stay the same."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the forward and backward pass. `auto`: bfloat16 where the hardware has it, else float32."""
    seed: int = Field(default=42, ge=0, le=4294967295)
    """Seeds every random choice."""
    evaluate_every_steps: int | None = Field(default=None, ge=1)
    """Steps between evaluations on the validation split. Absent: at every checkpoint by steps."""
    extra_arguments: dict[str, Any] = Field(default_factory=dict, max_length=32)
    """Unmodelled arguments of the training engine, checked by the trainer: `adamBeta1`, `adamBeta2`, `adamEpsilon`, `logEverySteps`, `shardWeights`."""


class Distribution(Document):
    """Over how many pods and accelerators."""

    nodes: int = Field(default=1, ge=1, le=512)
    """Pods of one attempt; more than one run under torchrun."""
    accelerators_per_node: int = Field(default=0, ge=0, le=16)
    """Accelerators per pod, one process each; 0 trains on CPU."""


class Checkpoints(Document):
    """When to save, and what to keep."""

    every_steps: int | None = Field(default=50, ge=1)
    """Steps between checkpoints."""
    every_seconds: int | None = Field(default=600, ge=1)
    """Seconds after which a checkpoint is due, whichever comes first."""
    keep_last: int = Field(default=2, ge=1, le=100)
    """How many of the newest checkpoints stay in the store."""
    keep_best: int = Field(default=1, ge=0, le=100)
    """How many of the best ones stay besides."""
    resume: Literal["Auto", "Never"] = "Auto"
    """`Auto` continues from the newest checkpoint that verifies; `Never` starts every attempt from step 0."""


class Output(Document):
    """What comes out."""

    model_name: str = Field(max_length=50, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Name that the versions of this model share. The next free number becomes `<modelName>-v<version>`."""
    version_label: str = Field(default="", max_length=63)
    """A word for humans, kept with the version."""
    reclaim_policy: Literal["Retain", "Delete"] = "Retain"
    """`spec.reclaimPolicy` of the ModelVersion: what happens to its bytes when it is deleted."""
    merge: bool = False
    """Fold a LoRA adapter into the base model before publishing, once the logits are found to be the same: a whole model that needs no peft."""
    quantization: Quantization | None = None
    """Publish a whole model with fewer bits, measured again as it is published. Absent: float32."""
    sign: bool = False
    """Sign the published model in the OpenSSF model signing format (`manifest.sig`), by the elliptic-curve key of a Secret in the job's namespace."""
    signing_secret_name: str = Field(default="", max_length=253)
    """Secret whose key `signing.key` is the private key in PEM. Empty: the one that the TrainingProfile names in `signing.secretName`."""
