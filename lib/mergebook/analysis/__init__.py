"""Looking into task vectors and merged models."""

from mergebook.analysis.basin import line_scan

__all__ = ["line_scan"]
