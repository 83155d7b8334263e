"""Lets pages ask for numbers, one by one or as a table.

``{{ full("chapter/notebook/table", "column", method="ties") }}`` in a sentence; and, with a row for
each method and a column for each line of the content,

    ```{numbers} chapter/notebook/table column
    :methods: averaging ties
    :mean: task seed

    8 tasks: {run: full, num_tasks: 8}
    ```
"""

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from mergebook.errors import MergebookError
from mergebook.report.queries import QUERIES, table


class Numbers(SphinxDirective):
    required_arguments = 2
    has_content = True
    option_spec = {  # as docutils has it
        "methods": directives.unchanged_required,
        "mean": directives.unchanged,
        "over": directives.unchanged,
        "form": directives.unchanged,
        "label": directives.unchanged,
    }

    def run(self):
        options = {name: text.strip() for name, text in self.options.items()}
        lists = {name: options.pop(name, "").split() for name in ("methods", "mean")}
        try:
            columns = yaml.safe_load("\n".join(self.content))
            if not isinstance(columns, dict):
                raise self.error("numbers: the content is a line `heading: {run: ..., ...}` each")
            text = table(*self.arguments, columns=columns, **lists, **options)
        except (MergebookError, yaml.YAMLError) as problem:
            raise self.error(f"numbers: {problem}") from problem
        node = nodes.container()
        source = self.get_source_info()[0]
        self.state.nested_parse(StringList(text.splitlines(), source), self.content_offset, node)
        return node.children


def serve(app, config):
    config.myst_substitutions = {**config.myst_substitutions, **QUERIES}


def setup(app):
    app.add_directive("numbers", Numbers)
    app.connect("config-inited", serve, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
