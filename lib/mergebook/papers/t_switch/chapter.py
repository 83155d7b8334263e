"""The chapter that the claims belong to, and names that they share."""

from __future__ import annotations

from functools import partial

from mergebook.claims import Chapter

CHAPTER = Chapter("t_switch", paper="qi2025tswitch", authors="Qi et al. 2025")
CODE, ABSTRACT = "released code", "abstract"
STUDY = "study of task vectors, at second hand"
DROP = 0.6  # discarded by the released commands
STATIC = ("task_arithmetic", "ties", "adamerging_layer_pp")
FULL, ROW, TENSOR, TASK = "full values", "one a row", "one a tensor", "one a task"
RANDOM = "random ones"
claim = partial(CHAPTER.claim, printed="")  # the paper's own tables could not be read
