"""What is wrong with a data set, as far as its words show it: doubles, leaks between splits, uneven labels, languages, personal data."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.data_checks import Languages
from trimtab_trainer.data.formats import Example, Labelled
from trimtab_trainer.data.languages import counted, is_expected, language_of
from trimtab_trainer.data.near_duplicates import first_similar
from trimtab_trainer.data.personal_data import kinds_in
from trimtab_trainer.data.words import said_in, text_of

CHECKED_EXAMPLES = 20_000
"""Examples of all splits together that are looked at, to bound the time (about 10 s); training examples first."""
SHOWN_PLACES = 5
UNEVEN = 10
"""A label that is so many times as frequent as another gets a warning."""


class SplitQuality(Document):
    """What was found in one split."""

    split: str
    checked: int
    """Examples that were looked at."""
    duplicates: int = 0
    """Say the same, word for word, as an earlier example of the split."""
    near_duplicates: int = 0
    """Say almost the same as an earlier example of the split."""
    leaked: int = 0
    """Are in the training split too, word for word."""
    nearly_leaked: int = 0
    """Are almost the same as a training example."""
    labels: dict[str, int] = Field(default_factory=dict)
    """How often each label occurs."""
    personal_data: dict[str, int] = Field(default_factory=dict)
    """How many examples hold an e-mail address, and so on, as far as its form shows it."""
    languages: dict[str, int] = Field(default_factory=dict)
    """How many examples are in each language, by ISO 639 code; `und` where it cannot be told, `zxx` where the words are of none."""
    unexpected: int = 0
    """Are in another language than `data.languages` expects."""


class Finding(Document):
    """One example of what was found."""

    what: str
    place: str
    """File and line."""
    other: str = ""
    """What it is a double of."""


class DataQuality(Document):
    """The data check's report."""

    splits: list[SplitQuality] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)
    """The first few of each kind."""

    def warnings(self) -> list[str]:
        """What a reader should act on."""
        found = []
        for split in self.splits:
            if split.nearly_leaked:
                found.append(
                    f"{split.nearly_leaked} of {split.checked} {split.split} examples are almost the same as training examples: "
                    "what is measured on them is too good. The report names them."
                )
            if split.split == "train" and split.duplicates + split.near_duplicates:
                found.append(
                    f"{split.duplicates} training examples are doubles, {split.near_duplicates} more are almost the same as others."
                )
            if (
                split.split == "train"
                and split.labels
                and max(split.labels.values()) > UNEVEN * min(split.labels.values())
            ):
                rarest = min(split.labels, key=lambda label: split.labels[label])
                found.append(
                    f"The label '{rarest}' has {split.labels[rarest]} of {split.checked} training examples. "
                    "Consider `training.classWeights` or `training.balancedSampling`, and judge by f1."
                )
            if split.unexpected:
                found.append(
                    f"{split.unexpected} of {split.checked} {split.split} examples are in other languages than `data.languages` expects "
                    f"({counted(Counter(split.languages))}). The report names places."
                )
            if split.personal_data:
                kinds = ", ".join(
                    f"{count} with an {kind}" if kind[0] in "aeiou" else f"{count} with a {kind}"
                    for kind, count in split.personal_data.items()
                )
                found.append(
                    f"The {split.split} split seems to hold personal data, by its form: {kinds}. The report names places."
                )
        return found


def check_quality(splits: Mapping[str, Sequence[Example]], expected: Languages | None = None) -> DataQuality:
    """Look at the words of all splits; `train` is what the others are compared with, `expected` what their languages are."""
    order = sorted(splits, key=lambda name: name != "train")
    chosen = [(name, example, text_of(example.content)) for name in order for example in splits[name]]
    chosen = [entry for entry in chosen if entry[2].strip()][:CHECKED_EXAMPLES]
    similar = first_similar([text for _, _, text in chosen])
    found = {name: SplitQuality(split=name, checked=sum(one == name for one, _, _ in chosen)) for name in order}
    counts: dict[str, Counter[str]] = {name: Counter() for name in order}
    labels: dict[str, Counter[str]] = {name: Counter() for name in order}
    personal: dict[str, Counter[str]] = {name: Counter() for name in order}
    languages: dict[str, Counter[str]] = {name: Counter() for name in order}
    findings: list[Finding] = []
    shown: Counter[str] = Counter()

    def note(what: str, example: Example, other: str = "") -> None:
        shown[what] += 1
        if shown[what] <= SHOWN_PLACES:
            findings.append(Finding(what=what, place=example.place, other=other))

    for (name, example, text), earlier in zip(chosen, similar, strict=True):
        if isinstance(example.content, Labelled):
            labels[name][example.content.label] += 1
        language = language_of(said_in(example.content))
        languages[name][language] += 1
        if expected is not None and not is_expected(language, expected.expected):
            counts[name]["unexpected"] += 1
            note(f"in {language}", example)
        for kind in kinds_in(text):
            personal[name][kind] += 1
            note(kind, example)
        if earlier is None:
            continue
        other_name, other, other_text = chosen[earlier]
        is_same = text == other_text
        if other_name == name:
            counts[name]["duplicates" if is_same else "near_duplicates"] += 1
            note(f"{'double' if is_same else 'near double'} in {name}", example, other.place)
        elif other_name == "train":
            counts[name]["leaked" if is_same else "nearly_leaked"] += 1
            note(f"{name} example {'' if is_same else 'nearly '}in train", example, other.place)
    return DataQuality(
        splits=[
            found[name].model_copy(
                update={
                    **counts[name],
                    "labels": dict(labels[name]),
                    "personal_data": dict(personal[name]),
                    "languages": dict(languages[name].most_common()),
                }
            )
            for name in order
            if found[name].checked
        ],
        findings=findings,
    )


def _shares(languages: Mapping[str, int]) -> str:
    """`en 98 %, und 2 %`."""
    whole = sum(languages.values())
    return ", ".join(f"{language} {100 * count / whole:.0f} %" for language, count in list(languages.items())[:6])


def render_quality(quality: DataQuality | None) -> str:
    """The section of `report.md`."""
    if quality is None or not quality.splits:
        return ""
    rows = [
        f"| {one.split} | {one.checked:,} | {one.duplicates} | {one.near_duplicates} | {one.leaked} | {one.nearly_leaked} | "
        f"{', '.join(f'{label}: {count}' for label, count in sorted(one.labels.items())[:8]) or '-'} | "
        f"{_shares(one.languages) or '-'} | {', '.join(f'{kind}: {count}' for kind, count in one.personal_data.items()) or '-'} |"
        for one in quality.splits
    ]
    places = [
        f"- {finding.what}: {finding.place}" + (f" (as {finding.other})" if finding.other else "")
        for finding in quality.findings
    ]
    head = (
        "| split | checked | doubles | near doubles | in train | nearly in train | labels | languages | personal data (by form) |\n"
        "|---|---:|---:|---:|---:|---:|---|---|---|\n"
    )
    return "## Data quality\n\n" + head + "\n".join(rows) + ("\n\n" + "\n".join(places) if places else "")
