"""What the data check finds in words: doubles, leaks, uneven labels; and how texts are changed."""

import random

import pytest

from trimtab_trainer.contract.practices import Normalization, TextAugmentation
from trimtab_trainer.data.changes import augmented, normalized
from trimtab_trainer.data.formats import Chat, Content, Example, Labelled, Text
from trimtab_trainer.data.near_duplicates import first_similar, shingles, similarity
from trimtab_trainer.data.quality import SplitQuality, check_quality, render_quality

WORDS = [f"word{number}" for number in range(500)]


def sentence(seed: int, length: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def examples(*contents: Content | str) -> list[Example]:
    return [
        Example(f"s3://data/file.jsonl line {number}", Text(content) if isinstance(content, str) else content)
        for number, content in enumerate(contents, start=1)
    ]


def test_texts_that_differ_in_case_punctuation_or_a_word_at_the_end_are_similar_and_no_others() -> None:
    texts = [sentence(1), sentence(2), sentence(1).upper() + "!", sentence(2) + " more", sentence(3)]
    assert first_similar(texts) == [None, None, 0, 1, None]


def test_signatures_find_what_comparing_all_pairs_finds() -> None:
    texts = [sentence(seed) for seed in range(150)]
    texts += [
        " ".join([*text.split()[:-cut], *sentence(cut, cut).split()])
        for text, cut in zip(texts, [1, 2, 3, 9] * 40, strict=False)
    ]
    sets = [shingles(text) for text in texts]
    expected = [
        next((other for other in range(number) if similarity(sets[other], sets[number]) >= 0.8), None)
        for number in range(len(texts))
    ]
    assert first_similar(texts) == expected
    assert 100 < len(texts) - expected.count(None) < 150


def test_the_report_of_a_bad_data_set() -> None:
    train = [
        *[Labelled(sentence(seed), "no") for seed in range(22)],
        Labelled(sentence(3), "yes"),
        Labelled(sentence(4) + " x", "yes"),
    ]
    test = [
        Labelled(sentence(5), "no"),
        Labelled(sentence(6) + " or so", "no"),
        Labelled("me@example.org " + sentence(99), "no"),
    ]
    quality = check_quality({"train": examples(*train), "test": examples(*test), "general": []})
    assert quality.splits == [
        SplitQuality(
            split="train",
            checked=24,
            duplicates=1,
            near_duplicates=1,
            labels={"no": 22, "yes": 2},
            languages={"zxx": 24},
        ),
        SplitQuality(
            split="test",
            checked=3,
            leaked=1,
            nearly_leaked=1,
            labels={"no": 3},
            personal_data={"e-mail address": 1},
            languages={"zxx": 3},
        ),
    ]
    assert ("near double in train", "s3://data/file.jsonl line 24", "s3://data/file.jsonl line 5") in [
        (found.what, found.place, found.other) for found in quality.findings
    ]
    warnings = " ".join(quality.warnings())
    for words in (
        "1 of 3 test examples are almost the same",
        "1 training examples are doubles",
        "'yes' has 2 of 24",
        "1 with an e-mail address",
    ):
        assert words in warnings
    text = render_quality(quality)
    assert "| test | 3 | 0 | 0 | 1 | 1 | no: 3 | zxx 100 % | e-mail address: 1 |" in text
    assert "- e-mail address: s3://data/file.jsonl line 3" in text


def test_a_clean_data_set_has_no_warnings() -> None:
    chats = [Chat((("user", sentence(seed)), ("assistant", sentence(seed + 100)))) for seed in range(9)]
    assert check_quality({"train": examples(*chats[:6]), "test": examples(*chats[6:])}).warnings() == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "d\u00e9j\u00e0  \ufb01ne"),
        ({"unicode": "NFKC"}, "d\u00e9j\u00e0  fine"),
        ({"collapseWhitespace": True}, "d\u00e9j\u00e0 \ufb01ne"),
    ],
)
def test_normal_forms(settings: dict[str, object], expected: str) -> None:
    raw = "de\u0301ja\u0300  \ufb01ne"
    found = normalized(
        examples(raw, Chat((("user", raw),)), Labelled(raw, raw)), Normalization.model_validate(settings)
    )
    assert [example.content for example in found] == [
        Text(expected),
        Chat((("user", expected),)),
        Labelled(expected, expected),
    ]


def test_changed_copies_keep_label_and_words_and_are_the_same_for_the_same_seed() -> None:
    settings = TextAugmentation(copies=3, word_dropout=0.2, word_swaps=0.2)
    originals = examples(*[Labelled(sentence(seed), "yes") for seed in range(5)])
    found = augmented(originals, settings, seed=1)
    assert (len(found), found[::4]) == (20, originals)
    assert found == augmented(originals, settings, seed=1)
    assert found != augmented(originals, settings, seed=2)
    assert augmented(originals[3:], settings, seed=1) == found[12:]
    for original, copy in zip(originals, found[1::4], strict=True):
        assert isinstance(original.content, Labelled)
        assert isinstance(copy.content, Labelled)
        assert copy.content.label == "yes"
        assert copy.content.text != original.content.text
        assert set(copy.content.text.split()) <= set(original.content.text.split())
    kept = sum(len(example.content.text.split()) for example in found if example not in originals)  # type: ignore[attr-defined]
    assert kept / (15 * 40) == pytest.approx(0.8, abs=0.06)


def test_swaps_alone_lose_no_word() -> None:
    (_, copy) = augmented(
        examples(Labelled("a b c d e f", "x")), TextAugmentation(word_dropout=0, word_swaps=0.5), seed=3
    )
    assert isinstance(copy.content, Labelled)
    assert sorted(copy.content.text.split()) == list("abcdef")
    assert copy.content.text != "a b c d e f"
