"""Numbers that prose may quote: the only door from a notebook to a sentence."""

from __future__ import annotations

import myst_nb


def glue(name: str, value: str | int | float, form: str = ".1f") -> str:
    """Store a value in the executed notebook, to be quoted with ``{glue:text}``.

    Floats are stored as the text that a reader sees, so that a page cannot show more digits
    than the notebook vouches for.

    Parameters
    ----------
    name : str
        Key; a page reads it as ``{glue:text}`path/to/notebook.ipynb::name:s` ``.
    value : str, int or float
        What to quote.
    form : str
        Format specification for a float, e.g. ``".1%"`` for a fraction. Texts and integers are
        stored as they are.

    Returns
    -------
    str
        The text that was stored.
    """
    text = format(value, form).replace("-", "−") if isinstance(value, float) else str(value)
    myst_nb.glue(name, text, display=False)
    return text
