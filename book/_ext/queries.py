"""Lets pages ask for numbers: ``{{ full("chapter/notebook/table", "column", method="ties") }}``."""

from mergebook.report.queries import QUERIES


def serve(app, config):
    config.myst_substitutions = {**config.myst_substitutions, **QUERIES}


def setup(app):
    app.connect("config-inited", serve, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
