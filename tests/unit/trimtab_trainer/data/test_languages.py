"""In which language texts are, and what becomes of those in another one than expected."""

import pytest

from trimtab_trainer.contract.data_checks import Languages
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.annotations import Tagged
from trimtab_trainer.data.formats import Chat, Content, Example, Text
from trimtab_trainer.data.languages import in_expected_languages, language_of
from trimtab_trainer.data.quality import check_quality, render_quality
from trimtab_trainer.data.words import said_in
from trimtab_trainer.errors import TrainerError

ENGLISH = [
    "My order has not arrived yet, and nobody answers the phone.",
    "The lamp in the hall is broken again, please send somebody.",
]
GERMAN = [
    "Meine Bestellung kam noch immer nicht an, und niemand nimmt ab.",
    "Die Lampe im Flur leuchtet schon wieder nicht.",
]
CHAT = Chat((("user", "Wann kommt meine Bestellung endlich an?"), ("assistant", "Es kommt morgen, versprochen.")))


def examples(*contents: str | Content) -> list[Example]:
    return [
        Example(f"line {number}", Text(content) if isinstance(content, str) else content)
        for number, content in enumerate(contents, start=1)
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ENGLISH[0], "en"),
        (GERMAN[0], "de"),
        ("Mon colis n'est toujours pas arrivé, que faire ?", "fr"),
        ("Mi pedido todavía no ha llegado, ¿qué puedo hacer?", "es"),
        ("私の荷物がまだ届きません。", "ja"),
        ("ok", "und"),
        ("42", "und"),
        ("", "und"),
    ],
)
def test_the_language_is_told_or_left_open(text: str, code: str) -> None:
    assert language_of(text) == code


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CHAT, "Wann kommt meine Bestellung endlich an?\nEs kommt morgen, versprochen."),
        (Tagged(("Ann", "ging"), ("B-PER", "O")), "Ann\nging"),
    ],
    ids=["a conversation", "tags"],
)
def test_roles_and_tags_are_no_words_of_the_text(content: Content, words: str) -> None:
    assert said_in(content) == words


def test_the_report_has_each_splits_languages_and_names_what_is_not_expected() -> None:
    found = check_quality(
        {"train": examples(*ENGLISH, "ok", GERMAN[0]), "test": examples(CHAT)}, Languages(expected=["en"])
    )
    train, test = found.splits
    assert train.languages == {"en": 2, "und": 1, "de": 1}
    assert (train.unexpected, test.unexpected) == (1, 1)
    assert [finding.place for finding in found.findings if finding.what == "in de"] == ["line 4", "line 1"]
    assert "1 of 4 train examples are in other languages than `data.languages` expects" in found.warnings()[0]
    assert "en 50 %, und 25 %, de 25 %" in render_quality(found)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        pytest.param(Languages(expected=["en"], others="Drop"), [0, 2], id="only English"),
        pytest.param(Languages(expected=["de"], others="Drop"), [1, 2], id="only German"),
        pytest.param(Languages(expected=["en", "de"], others="Drop"), [0, 1, 2], id="both"),
        pytest.param(Languages(expected=["en"]), [0, 1, 2], id="counted"),
    ],
)
def test_other_languages_are_left_out_if_asked_for(settings: Languages, kept: list[int]) -> None:
    given = examples(ENGLISH[0], GERMAN[0], "ok")
    found, warnings = in_expected_languages(given, settings)
    assert found == [given[number] for number in kept]
    assert bool(warnings) == (len(kept) < 3)


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        ("xx", TrainerReason.CONFIG_INVALID, "expected: xx` is no language that can be told"),
        ("ja", TrainerReason.DATASET_INVALID, "leaves none of 2 training examples: they are in en: 1, de: 1"),
    ],
)
def test_what_cannot_be_expected_is_refused(code: str, reason: TrainerReason, words: str) -> None:
    with pytest.raises(TrainerError, match=words) as error:
        in_expected_languages(examples(ENGLISH[0], GERMAN[0]), Languages(expected=[code], others="Drop"))
    assert error.value.reason is reason
