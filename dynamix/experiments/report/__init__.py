"""What a table says: cells, agreement with the paper, Markdown, CSV, picture, and one page of all.

report.markdown(table, "mini", found)
report.page([report.section(table, "mini", found, figures)], Path("report.html"))
"""

from dynamix.experiments.report.agreement import Agreement, agreement, kendall, sentence
from dynamix.experiments.report.cells import Cell, Failure, Found, Measured, cell, cells
from dynamix.experiments.report.page import Section, page, section
from dynamix.experiments.report.picture import picture
from dynamix.experiments.report.text import markdown, table_csv

__all__ = [
    "Agreement", "Cell", "Failure", "Found", "Measured", "Section", "agreement", "cell", "cells", "kendall",
    "markdown", "page", "picture", "section", "sentence", "table_csv",
]  # fmt: skip
