"""Made-up prose: words of a fixed vocabulary, as often as words of a language are, so that it compresses like one."""

import itertools
import random

_SYLLABLES = [
    first + vowel + last
    for first in ("b", "c", "d", "f", "g", "l", "m", "n", "p", "pr", "r", "s", "st", "t", "tr", "v", "w")
    for vowel in "aeiou"
    for last in ("", "n", "r", "s", "l", "nt", "ck")
]
_COMMON = """
    the of and to a in that is was he for it with as his on be at by had not are but from or have an they which one
    you were all her she there would their we him been has when who will no more if out so up said what its about
    than into them can only other time new some could these two may first then do any like my now over such our man
    me even most made after also well did many before must through back years where much your way down should because
"""


def _vocabulary(size: int = 6_000) -> list[str]:
    source = random.Random("vocabulary")
    made: dict[str, None] = dict.fromkeys(_COMMON.split())
    while len(made) < size:
        made["".join(source.choices(_SYLLABLES, k=source.choice((1, 2, 2, 2, 3, 3))))] = None
    return list(made)


_WORDS = _vocabulary()
_WEIGHTS = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(_WORDS))))
"""Zipf's law with Mandelbrot's shift."""


class Prose:
    """A source of text; the same seed gives the same text."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def text(self, characters: int) -> str:
        """Return sentences of exactly so many characters, all ASCII."""
        parts: list[str] = []
        length = 0
        while length <= characters:
            parts.append(self._sentence())
            length += len(parts[-1]) + 1
        return " ".join(parts)[: characters - 1].rstrip().ljust(characters - 1, "x") + "."

    def _sentence(self) -> str:
        words = self._random.choices(_WORDS, cum_weights=_WEIGHTS, k=self._random.randint(5, 22))
        if len(words) > 12:
            words[6] += ","
        return " ".join(words).capitalize() + "."
