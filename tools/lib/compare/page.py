"""Writes the results as one HTML page that needs nothing else: no network, no file beside it."""

import os

from arenal import files, html
from compare import page_lines, page_ratios, page_tables
from compare.page_allocators import listed

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")


def build_page(results):
    allocators = listed(results)
    library = html.chart_library()
    sections = page_ratios.sections(results, allocators) + page_lines.sections(results, allocators) if library else []
    charts = [chart for section in sections for chart in section["charts"]]
    for number, chart in enumerate(charts):
        chart["number"] = number
    shown = [{key: one[key] for key in ("name", "own", "colour", "shape")} for one in allocators]
    drawn = [{key: value for key, value in chart.items() if key not in ("table", "caption")} for chart in charts]

    scripts = [library, html.read(f"{html.FOLDER}/theme.js"),
               *(html.read(f"{FOLDER}/{name}") for name in ("ratio_chart.js", "line_chart.js", "page.js"))]
    content = page_tables.content(results, allocators)
    if not library:
        content["notices"].append("The charts are missing: they need the Debian package libjs-chart.js.")
    groups = content["groups"]
    contents = [{"id": "machine", "title": "Machine"}, {"id": "behind", "title": "Behind"}]
    contents += [{"id": section["id"], "title": section["short"]} for section in sections]
    contents += [{"id": group["id"], "title": group["short"]} for group in groups]
    return html.environment(FOLDER).get_template("page.html.j2").render(
        content, allocators=allocators, chart_sections=sections, contents=contents, style=html.read(f"{html.FOLDER}/page.css"),
        data=html.as_data({"allocators": shown, "charts": drawn}),
        scripts=[html.inside_script(text) for text in scripts] if sections else [])


def write_page(results, path):
    """`results` as in the results file."""
    files.replace(path, build_page(results))
