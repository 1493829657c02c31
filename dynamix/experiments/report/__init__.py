"""What a table says: its cells, the agreement with the paper, Markdown and CSV, a picture, one page of all.

report.text.markdown(table, "mini", found)
report.page.page([report.page.section(table, "mini", found, figures)], Path("report.html"))
"""

from dynamix.experiments.report import agreement, cells, order, page, picture, text
from dynamix.experiments.report.cells import Absent, Failure, Found, Measured

__all__ = ["Absent", "Failure", "Found", "Measured", "agreement", "cells", "order", "page", "picture", "text"]
