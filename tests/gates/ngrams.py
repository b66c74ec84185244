"""A model that really collapses: characters by their four predecessors, retrained on its own samples.

`python -m tests.gates.ngrams` prints what happens to it, and what the collapse gate says, generation by generation.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import accumulate

import numpy as np

from instar.contracts.evidence import Evidence, Provenance, Score
from instar.contracts.lab import Safeguard
from instar.gates.collapse import Collapse

ORDER, LENGTH, CHUNK = 5, 60_000, 100
SAFEGUARDS = (
    Safeguard("held-out fit", 0.02, "both"),  # 2^-bits per character on real text, per chunk
    Safeguard("word types", 250.0, "both"),  # in a sample as long as the real text
    Safeguard("tail coverage", 0.10, "founder"),  # share of the real text's rare words that a sample still has
)


def real_text(rng: np.random.Generator, length: int) -> str:
    """A made language: words of one to four syllables, by Zipf's law, in sentences."""
    maker = np.random.default_rng(7)  # the language is the same for all texts
    syllables = [c + v + e for c in "bdfgklmnprstvz" for v in "aeiou" for e in ("", "n", "r", "s")]
    words = ["".join(maker.choice(syllables, maker.integers(1, 5))) for _ in range(6000)]
    chance = 1.0 / np.arange(1, len(words) + 1)
    drawn = [words[i] for i in rng.choice(len(words), length // 4, p=chance / chance.sum())]
    ends = np.where(rng.random(len(drawn)) < 0.1, ".\n", " ")
    return "".join(word + end for word, end in zip(drawn, ends, strict=True))[:length]


class Ngrams:
    """Counts of characters after their predecessors; sampling takes the counts as they are."""

    def __init__(self, texts: list[str]) -> None:
        self.after: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for n in range(ORDER - 1, len(text)):
                self.after[text[n - ORDER + 1 : n]][text[n]] += 1
        self.totals = {context: counts.total() for context, counts in self.after.items()}

    def sample(self, rng: np.random.Generator, length: int) -> str:
        table = {c: (list(counts), list(accumulate(counts.values()))) for c, counts in self.after.items()}
        contexts = sorted(table)
        context, found = contexts[0], []
        for chance in rng.random(length):
            if context not in table:
                context = contexts[int(chance * len(contexts))]
            characters, sums = table[context]
            drawn = characters[int(np.searchsorted(sums, chance * sums[-1], side="right"))]
            found.append(drawn)
            context = context[1:] + drawn
        return "".join(found)

    def fit(self, text: str) -> np.ndarray:
        """2^-bits per character of each chunk, mixed with a uniform 64th part."""
        chances = [
            (self.after[c][text[n]] / self.totals[c] if (c := text[n - ORDER + 1 : n]) in self.totals else 0.0)
            for n in range(ORDER - 1, len(text))
        ]
        logs = np.log(0.9 * np.array(chances) + 0.1 / 64)
        whole = len(logs) // CHUNK * CHUNK
        return np.exp(logs[:whole].reshape(-1, CHUNK).mean(axis=1))


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z]+", text))


class Marker:
    """Knows the real text, which the models after the first see no more."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.text, self.held_out = real_text(rng, LENGTH), real_text(rng, LENGTH)
        self.rare = {word for word, count in words(self.text).items() if count == 2}

    def mark(self, model: Ngrams, sample: str) -> Score:
        fit, seen = model.fit(self.held_out), words(sample)
        figures = {
            "held-out fit": fit,
            "word types": float(len(seen)),
            "tail coverage": sum(word in seen for word in self.rare) / len(self.rare),
        }
        count = len(fit)
        return Score(fit, fit > 0.2, np.full(count, np.nan), np.zeros(count, dtype=np.int64), ("all",),
                     safeguards=figures)  # fmt: skip


def live(accumulating: bool, generations: int = 7, seed: int = 3) -> list[tuple[Score, bool, str]]:
    """Retrain on own samples; return each generation's score, whether the gate passes it, and why not.

    The line goes on whatever the gate says: each generation is judged against the last one that passed.
    """
    rng = np.random.default_rng(seed)
    marker = Marker(rng)
    texts = [marker.text]
    model = Ngrams(texts)
    sample = model.sample(rng, LENGTH)
    founder = incumbent = marker.mark(model, sample)
    gate, line = Collapse(ungrounded=1.0, safeguards=SAFEGUARDS), [(founder, True, "")]
    for number in range(1, generations + 1):
        texts = [*texts, sample] if accumulating else [sample]
        model = Ngrams(texts)
        sample = model.sample(rng, LENGTH)
        score = marker.mark(model, sample)
        data = Provenance(len(texts), len(texts) - accumulating)
        evidence = Evidence((score,) * 3, incumbent, founder, number, provenance=data)
        decision = gate.judge(evidence)
        incumbent = score if decision.promote else incumbent
        line.append((score, decision.promote, decision.summary if not decision.promote else ""))
    return line


if __name__ == "__main__":
    for accumulating in (False, True):
        print("accumulate beside the real text" if accumulating else "replace")
        for number, (score, passed, why) in enumerate(live(accumulating)):
            bits = -np.log2(score.values).mean()
            figures = score.safeguards
            print(f"  {number}: {bits:.2f} bits/character, {figures['word types']:.0f} word types, tail "
                  f"{figures['tail coverage']:.0%} | {'passes' if passed else why[:150]}")  # fmt: skip
