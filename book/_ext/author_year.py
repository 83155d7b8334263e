"""Sphinx extension: one label for a paper, "Yang et al., 2024a", in the text and in the list alike.

sphinxcontrib-bibtex writes author and year in the text and letter codes in the list, and two papers
of the same authors and year look alike. Here such papers get a letter behind the year, in the order
of the list, and the list is headed by the same words that the text uses.
"""

from __future__ import annotations

import re
from collections import defaultdict
from string import ascii_lowercase

from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting.author_year_title import SortingStyle


def authors(entry) -> str:
    """Surnames as the text gives them: one, two with "and", or the first "et al."."""
    names = [
        " ".join(map(str, (*person.rich_prelast_names, *person.rich_last_names)))
        for person in entry.persons["author"]
    ]
    if len(names) > 2:
        return f"{names[0]} et al."
    return " and ".join(names)


def add_letters(entries: dict) -> None:
    """Tell papers of the same authors and year apart: 2024 becomes 2024a, 2024b, ...

    Parameters
    ----------
    entries : mapping of str to pybtex.database.Entry
        Years are changed in place; letters that they had before are forgotten.
    """
    alike = defaultdict(list)
    for entry in entries.values():
        entry.fields["year"] = re.match(r"\d+", entry.fields["year"])[0]
        alike[authors(entry), entry.fields["year"]].append(entry)
    order = SortingStyle()
    for (_, year), group in alike.items():
        if len(group) > 1:
            for letter, entry in zip(ascii_lowercase, order.sort(group), strict=False):
                entry.fields["year"] = year + letter


class AuthorYearLabels(BaseLabelStyle):
    """Labels of the list: surnames and year."""

    def format_labels(self, sorted_entries):
        """Yield a label for each entry."""
        for entry in sorted_entries:
            yield f"{authors(entry)}, {entry.fields['year']}"


class AuthorYearStyle(UnsrtStyle):
    """Entries sorted by authors, year and title, headed by the labels of the text."""

    default_sorting_style = "author_year_title"
    default_label_style = AuthorYearLabels


def add_letters_to_domain(app) -> None:
    """Add letters to what sphinxcontrib-bibtex has read."""
    add_letters(app.env.get_domain("cite").bibdata.data.entries)


def setup(app) -> dict:
    """Register the style as ``author_year``; letters are added once the files are read."""
    register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)
    app.connect("builder-inited", add_letters_to_domain, priority=600)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
