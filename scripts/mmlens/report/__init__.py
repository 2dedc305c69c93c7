"""The comparison report: tables of a run as one HTML page and one Markdown file."""
