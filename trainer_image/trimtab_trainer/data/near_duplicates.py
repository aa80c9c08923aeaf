"""Texts that are almost the same: MinHash signatures (Broder, 1997), banded, and the exact Jaccard index of what they propose."""

import re
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS, BANDS = 64, 16
"""Of signatures: texts of similarity 0.8 share a band of 4 with a probability of 0.9998, those of 0.3 with one of 0.12."""
SIMILAR = 0.8
"""Jaccard index of the shingles from which texts count as almost the same."""
SHINGLE_WORDS = 3
COMPARED = 8
"""How many texts of one band a text is compared with: many alike shall not cost the square of their number."""
_WORDS = re.compile(r"\w+")
_RANDOM = np.random.default_rng(20210707)
_FACTORS = _RANDOM.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_OFFSETS = _RANDOM.integers(0, 2**63, PERMUTATIONS, dtype=np.uint64)

Shingles = frozenset[int]


def shingles(text: str) -> Shingles:
    """Hashes of all runs of three words, without case and punctuation; of the whole text where it is shorter."""
    words = _WORDS.findall(text.lower())
    runs = [words[start : start + SHINGLE_WORDS] for start in range(max(1, len(words) - SHINGLE_WORDS + 1))]
    return frozenset(zlib.crc32(" ".join(run).encode()) for run in runs)


def similarity(left: Shingles, right: Shingles) -> float:
    """Jaccard index."""
    return len(left & right) / max(1, len(left | right))


def signature(of: Shingles) -> NDArray[np.uint64]:
    """The least hash under each of 64 permutations, [64]."""
    hashes = np.fromiter(of, np.uint64, len(of))
    mixed: NDArray[np.uint64] = (hashes[:, None] * _FACTORS + _OFFSETS) >> np.uint64(32)  # multiply-shift hashing
    return mixed.min(axis=0)


def first_similar(texts: Sequence[str]) -> list[int | None]:
    """For each text the number of an earlier one that is almost the same; None where there is none."""
    known: list[Shingles] = []
    bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    found: list[int | None] = []
    for number, text in enumerate(texts):
        known.append(shingles(text))
        keys = [(band, part.tobytes()) for band, part in enumerate(signature(known[number]).reshape(BANDS, -1))]
        candidates = sorted({other for key in keys for other in bands[key]})
        found.append(next((other for other in candidates if similarity(known[other], known[number]) >= SIMILAR), None))
        for key in keys:
            if len(bands[key]) < COMPARED:
                bands[key].append(number)
    return found
