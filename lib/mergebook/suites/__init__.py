"""Suites of tasks, by name."""

from __future__ import annotations

from mergebook.errors import SuiteError, unknown
from mergebook.suites.base import SPLITS, Images, Suite, Task

__all__ = ["SPLITS", "Images", "Suite", "Task", "list_suites", "load_suite"]


def list_suites() -> tuple[str, ...]:
    """Names of the suites that :func:`load_suite` knows."""
    return ("mini",)


def load_suite(name: str = "mini", num_tasks: int | None = None) -> Suite:
    """Return a suite, or its first tasks.

    Parameters
    ----------
    name : str, default "mini"
        One of :func:`list_suites`.
    num_tasks : int, optional
        Keep the first so many tasks; all if not given. 8, 14 and 20 nest as in the CLIP suite.

    Raises
    ------
    SuiteError
        Unknown suite, or ``num_tasks`` out of range.
    """
    if name != "mini":
        raise SuiteError(unknown("suite", name, list_suites()))
    from mergebook.suites import mini

    suite = mini.suite()
    return suite if num_tasks is None else suite.first(num_tasks)
