"""The page of a rerun: one executed notebook, rendered by the book's engine as the book renders it.

Import it where a page is made: it needs Jupyter Book, which the library itself does without.
"""

from mergebook.rendering.page import render_page

__all__ = ["render_page"]
