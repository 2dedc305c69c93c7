"""Rendering of the report: one self-contained HTML page, and the same in Markdown."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape


def render_html(template, **content):
    """The page; everything that comes from data is escaped by the template engine."""
    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=select_autoescape(default=True)
    )
    return environment.get_template(template.name).render(**content)


def embedded(path):
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()


def render_markdown(title, paragraphs, findings, tables, figures, reproduce):
    """The report as Markdown; figures are linked, not embedded."""
    lines = [f"# {title}", "", *[f"{text}\n" for text in paragraphs], "## Findings", ""]
    lines += [f"- {text}" for text in findings]
    for table in tables:
        lines += ["", f"## {table.title}", "", table.note, ""]
        lines.append("| " + " | ".join(table.columns) + " |")
        lines.append("|" + " --- |" * len(table.columns))
        lines += ["| " + " | ".join(escape(t) for t, _ in row) + " |" for row in table.rows]
    lines += ["", "## Figures", ""]
    lines += [f"![{figure['title']}](../figures/{figure['file']})\n" for figure in figures]
    lines += ["## How to reproduce", "", "```yaml", reproduce.rstrip(), "```", ""]
    return "\n".join(lines)


def escape(text):
    """Text for a Markdown table cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
