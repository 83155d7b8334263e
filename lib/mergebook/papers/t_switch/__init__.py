"""Claims of T-Switch [qi2025tswitch] and its relatives, in the order of the chapter.

Numbers of a page answer with estimates: ``kept(variant, at)`` (normalised accuracy of one of the
page's variants), ``merged(vectors, drop, at, scale)`` (of task arithmetic), ``normalised(method,
at)``, ``accuracy(method, at)`` and ``storage(method, at)`` (share of the experts'), ``bits(code,
drop, at)`` or ``bits(variant, at)`` (per trained weight and task), ``share(method, at)`` (of full
precision), ``beyond_formula(at)``, ``right(extractor, exemplars, neighbours, at)`` (share of right
votes), and ``points(method, at)`` (bits and accuracy of a method's settings).
"""

# In the order of the chapter, in which importing registers the claims.
from mergebook.papers.t_switch import discarding, comparing, varying, printed  # isort: skip
from mergebook.papers.t_switch.chapter import CHAPTER

__all__ = ["CHAPTER", "comparing", "discarding", "printed", "varying"]
