"""Claims as functions: each yields what was measured beside what the paper says it should be.

A claim's function takes :class:`Numbers`, which answer alike for this build, where they carry
bootstrap draws, and for what the paper prints, where they carry the error of reading it. So there
is one formula for both.
"""

from mergebook.claims.chapter import OURS, Chapter, list_chapters, load_claims
from mergebook.claims.judgement import (
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_TESTABLE,
    Claim,
    Judgement,
    Part,
    above,
    below,
    verdict,
)
from mergebook.claims.numbers import Numbers, Setting

__all__ = [
    "FAILS",
    "HOLDS",
    "INCONCLUSIVE",
    "NOT_TESTABLE",
    "OURS",
    "Chapter",
    "Claim",
    "Judgement",
    "Numbers",
    "Part",
    "Setting",
    "above",
    "below",
    "list_chapters",
    "load_claims",
    "verdict",
]
