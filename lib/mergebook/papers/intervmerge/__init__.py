"""Claims of IntervMerge [osial2024intervmerge] and its predecessors, in the order of the chapter.

Numbers of a page answer with estimates: ``accuracy(merge, correction, at)`` (mean over tasks, plain
accuracy; the correction "none" is the merge itself) with the tuple ``merges``; ``bias(merge,
correction, at)`` and ``block_bias(merge, block, at)`` (distance to the experts' features and class
tokens, over that of the base) with ``merges``, ``corrections`` and ``blocks``; and elsewhere
``kept(variant, at)`` (normalised accuracy of one of the page's variants).
"""

# In the order of the chapter, in which importing registers the claims.
from mergebook.papers.intervmerge import comparing, shaping, learning, printed  # isort: skip
from mergebook.papers.intervmerge.chapter import CHAPTER

__all__ = ["CHAPTER", "comparing", "learning", "printed", "shaping"]
