"""Write the table of registered methods, as Markdown with citations: list_methods.py OUTPUT."""

import sys
from pathlib import Path

import mergebook as mb

rows = [
    "| name | method | kind | parameters (default) | paper |",
    "| --- | --- | --- | --- | --- |",
]
for name in mb.list_methods():
    method = mb.get_method(name)
    parameters = (
        ", ".join(f"`{each.name}` ({each.default})" for each in method.parameters) or "none"
    )
    paper = f"{{cite}}`{method.paper}`" if method.paper else ""
    rows.append(f"| `{name}` | {method.title} | {method.family} | {parameters} | {paper} |")
Path(sys.argv[1]).write_text("\n".join(rows) + "\n", encoding="utf-8")
