"""Numbers as readers see them: units, digits and signs are decided here and nowhere else."""

from __future__ import annotations

import math

from mergebook.errors import ReportError

MINUS = "−"
EMPTY = "—"  # a cell without a number
THIN = "\N{NARROW NO-BREAK SPACE}"


def _signless(text: str) -> bool:
    """Whether a formatted number is zero as shown, so that a sign before it would mean nothing."""
    return not any(character in "123456789" for character in text)


def _digits(value: float, digits: int, signed: bool = False) -> str:
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    return text.lstrip("+-") if _signless(text) else text.replace("-", MINUS)


def _points(value: float, digits: int, signed: bool = False) -> str:
    text = _digits(100 * value, digits, signed)
    return f"{text} point{'' if float(text.strip('+' + MINUS)) == 1 else 's'}"


def _change(value: float, digits: int) -> str:
    text = _points(abs(value), digits)
    if _signless(text):
        return f"changes by less than {_points(0.01 * 10.0**-digits, digits)}"
    return f"{'rises' if value > 0 else 'falls'} by {text}"


# What a fraction (or a difference of fractions) can be shown as.
FORMS = {
    "percent": lambda value, digits: f"{_digits(100 * value, digits)}{THIN}%",
    "cell": lambda value, digits: _digits(100 * value, digits),  # its heading has the unit
    "points": _points,
    "signed points": lambda value, digits: _points(value, digits, signed=True),
    "signed": lambda value, digits: _digits(100 * value, digits, signed=True),
    "change": _change,
}


def shown(value: float, form: str = "percent", digits: int = 1) -> str:
    """Return a number as text.

    Parameters
    ----------
    value : float
        A fraction, for the named forms; NaN is shown as a dash.
    form : str, default "percent"
        ``"percent"`` (0.984 is "98.4 %"), ``"cell"`` ("98.4", for a column whose heading has the
        unit), ``"points"`` and ``"signed points"`` (percentage points, for differences),
        ``"signed"`` (the same without the word), ``"change"`` ("rises by 9.5 points"), or
        a Python format specification, which takes the value as it is.
    digits : int, default 1
        Digits after the point of the named forms.

    Returns
    -------
    str
        With a true minus sign, and no sign before what rounds to zero.

    Raises
    ------
    ReportError
        If the form is neither a named one nor a format specification.
    """
    if isinstance(value, float) and math.isnan(value):
        return EMPTY
    if form in FORMS:
        return FORMS[form](float(value), digits)
    try:
        text = format(value, form)
    except ValueError:
        named = ", ".join(FORMS)
        raise ReportError(
            f"no form {form!r} of {value!r}: a format specification, or one of {named}"
        ) from None
    return text.lstrip("+-") if _signless(text) else text.replace("-", MINUS)


def between(low: float, high: float, form: str = "cell", digits: int = 1) -> str:
    """Return an interval as text, e.g. ``"97.9 to 98.7"``."""
    return f"{shown(low, form, digits)} to {shown(high, form, digits)}"


class Number(float):
    """A number that a page asks for: it can be calculated with, and is text where it stands.

    Parameters
    ----------
    value : float
    form : str, default "percent"
    digits : int, default 1
        How it is shown, see :func:`shown`. What is calculated from it is shown alike.
    """

    def __new__(cls, value: float, form: str = "percent", digits: int = 1) -> Number:
        """Make one that knows how it is shown."""
        self = super().__new__(cls, value)
        self.form, self.digits = form, digits
        return self

    def __str__(self) -> str:
        whole = float(self).is_integer() and self.form.endswith("d")
        return shown(int(self) if whole else float(self), self.form, self.digits)

    def text(self, form: str, digits: int = 1) -> str:
        """Return it in another form: ``{{ (full(...) - full(...)).text("change") }}``."""
        return str(Number(self, form, digits))

    def _like(self, value: float) -> Number:
        return Number(value, self.form, self.digits)

    def __add__(self, other: float) -> Number:
        return self._like(float(self) + other)

    def __sub__(self, other: float) -> Number:
        return self._like(float(self) - other)

    def __rsub__(self, other: float) -> Number:
        return self._like(other - float(self))

    def __mul__(self, other: float) -> Number:
        return self._like(float(self) * other)

    def __truediv__(self, other: float) -> Number:
        return self._like(float(self) / other)

    def __neg__(self) -> Number:
        return self._like(-float(self))

    def __abs__(self) -> Number:
        return self._like(abs(float(self)))

    __radd__, __rmul__ = __add__, __mul__
