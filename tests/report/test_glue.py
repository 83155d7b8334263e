import pytest

from mergebook.report import glue


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.7123, ".1%", "71.2%"),
        (3.14159, ".2f", "3.14"),
        (8, ".1f", "8"),
        ("mini", ".1f", "mini"),
        (-0.25, "+.1f", "−0.2"),
        ("a-b", "", "a-b"),
    ],
)
def test_glue_stores_the_text_that_is_read(monkeypatch, value, form, text):
    stored = {}
    monkeypatch.setattr(
        "myst_nb.glue", lambda name, shown, display: stored.update({name: (shown, display)})
    )
    assert glue("key", value, form) == text
    assert stored == {"key": (text, False)}
