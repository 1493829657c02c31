"""What reproduces and what does not, as the README, the report and a page of their own say it.

The texts are in conclusions.md, written by hand; their numbers never are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dynamix import disk

TEXTS = Path(__file__).with_suffix(".md")
PAGE = "findings.mini.md"
ONE = "¹"  # behind a number of one seed
BASIS = (
    "On Mannequins, mini profile, pre-trained start: mAP, the mean over the two unseen worlds unless said "
    f"otherwise, ± its standard deviation over seeds (two or three); {ONE} one seed, which is no verdict. "
    "Rows of Table 3 are those on the profile's own small CNN."
)
HEAD = ("the papers say", "here", "", "why, as far as measured")


@dataclass(frozen=True)
class Conclusion:
    """A claim of the papers, our numbers of it, whether it holds here, and why as far as measured."""

    says: str
    here: str
    holds: str
    why: str
    more: str = ""  # on the page alone


def conclusions(path: Path = TEXTS) -> list[Conclusion]:
    """What stands in the file of texts. Raises ValueError naming a part that is not whole."""
    text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [_conclusion(part, path) for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]]


def _conclusion(part: str, path: Path) -> Conclusion:
    says, *paragraphs = (" ".join(each.split()) for each in re.split(r"\n\s*\n", part.strip()))
    holds, colon, here = paragraphs[0].partition(": ") if paragraphs else ("", "", "")
    if not colon or len(paragraphs) not in (2, 3):
        raise ValueError(
            f"{path}: the part '{says}' is not a paragraph 'whether it holds: our numbers', one that "
            "says why, and at most one more"
        )
    return Conclusion(says, here, holds, *paragraphs[1:])


def written(text: str, values: Mapping[str, str]) -> str:
    """`text` with every `{name}` replaced. Raises KeyError naming a number that nobody has measured."""
    return re.sub(r"\{([^{}]+)\}", lambda found: _known(found[1], values), text).replace(" (one seed)", ONE)


def _known(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise KeyError(f"no number is called '{name}'; there are: {', '.join(sorted(values))}")
    return values[name]


def short(values: Mapping[str, str]) -> str:
    """The short form as the README shows it: on what the numbers stand, then a Markdown table."""
    lines = [BASIS, "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for each in conclusions():
        across = (written(text, values) for text in (each.says, each.here, f"**{each.holds}**", each.why))
        lines.append(f"| {' | '.join(across)} |")
    return "\n".join(lines) + "\n"


def page(values: Mapping[str, str], up: str = "../../") -> str:
    """Every conclusion in full, as a Markdown page; `up` leads from its folder to the project's."""
    parts = ["# What reproduces, what does not: in full", BASIS]
    for each in conclusions():
        said = f"**{each.holds[0].upper()}{each.holds[1:]}.** {each.here[0].upper()}{each.here[1:]}."
        because = f"{each.why[0].upper()}{each.why[1:]}. {each.more}".strip()
        parts += [f"## {each.says[0].upper()}{each.says[1:]}", said, because]
    return re.sub(r"\]\((?!http)", f"]({up}", written("\n\n".join(parts), values)) + "\n"


def html(values: Mapping[str, str]) -> str:
    """The short form for the report's page."""
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in HEAD)
    rows = []
    for each in conclusions():
        cells = (_inline(written(text, values)) for text in (each.here, f"**{each.holds}**", each.why))
        said = _inline(written(each.says, values))
        rows.append(
            f'<tr><th scope="row">{said}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        )
    return (
        f'<div class="wide"><table class="prose"><caption>{escape(BASIS)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _inline(text: str) -> str:
    """Markdown's bold, code and links within a line as HTML; of a link its text alone stays."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", escape(text))
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def write(values: Mapping[str, str], folder: Path) -> Path:
    """Write the page into `folder`."""
    path = folder / PAGE
    disk.write_text(path, page(values))
    return path
