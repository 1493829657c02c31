"""`dynamix report`: all that has been run and drawn, on one page."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from dynamix import disk
from dynamix.experiments import conclusions, findings, measured, records, tables
from dynamix.experiments.pictures import FIGURES
from dynamix.experiments.report import Found, Measured, page
from dynamix.experiments.reproduce import PICTURES, Request, figure_file, found_of, named

CLAIMED = "Each conclusion as one difference of two rows, theirs as printed and ours."


def report_page(request: Request, out: Path) -> Path:
    """One self-contained HTML page of what has been run and drawn so far; nothing is run for it."""
    if out.is_dir():
        raise ValueError(f"{out} is a folder: name the file of the page, as {out / 'report.html'}")
    disk.check_file(out)
    names, figures = named(["all"])
    made = replace(request, names=names).ledger()
    claims = request.out / f"claims.{made.profile}.png"
    sections = [*_findings(request), *_picture("claims", "What the papers conclude", CLAIMED, claims)]
    for name in figures:
        says = (FIGURES[name].__doc__ or "").splitlines()[0]
        path = PICTURES / figure_file(name, made.profile)
        sections += _picture(name, name.replace("figure", "Figure "), says, path)
    for name in names:
        table = tables.table(name)
        found: Found | Measured = found_of(table, made)
        if table.measured:
            found = measured.read(table, made.profile, request.folder, request.results.parent)
        beside = [request.out / f"{name}.{made.profile}.png"]
        beside += [request.out / "regimes.effects.png"] if (name, made.profile) == ("regimes", "mini") else []
        figure = [path for path in beside if path.exists()]
        sections.append(page.section(table, made.profile, found, figure, absent=made.why(name)))
    there, of = sum(entry.result is not None for entry in made.entries.values()), len(made.entries)
    intro = (
        f"Profile {made.profile}. {there} of the {of} trainings behind these tables are there. Written on "
        f"{date.today()} by {records.provenance()['commit']}."
    )
    return page.page(sections, out, intro=intro)


def _findings(request: Request) -> list[page.Section]:
    """What reproduces and what does not, for the mini profile, of which it speaks; none while rows lack."""
    if request.profile != "mini":
        return []
    title = "What reproduces, what does not"
    try:
        shown = conclusions.html(findings.findings(request.results.parent))
    except (ValueError, FileNotFoundError) as error:
        return [
            page.Section(
                name="findings", title=title, claim=f"Left out until all it quotes has run ({error})."
            )
        ]
    return [page.Section(name="findings", title=title, html=shown)]


def _picture(name: str, title: str, says: str, path: Path) -> list[page.Section]:
    """The section of a picture that has been drawn."""
    return [page.Section(name=name, title=title, claim=says, figures=(path,))] if path.exists() else []
