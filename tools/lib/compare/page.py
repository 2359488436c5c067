"""Writes the results as one HTML page that needs nothing else: no network, no file beside it."""

import json
import os
import re

import jinja2
from markupsafe import Markup, escape

from compare import page_lines, page_ratios, page_tables
from compare.page_allocators import listed

CHART_LIBRARY = "/usr/share/javascript/chart.js/chart.min.js"
SCRIPTS = ("theme.js", "ratio_chart.js", "line_chart.js", "page.js")
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def chart_library():
    """None where it is not installed: results that took long to measure are worth a page without charts, too."""
    try:
        return read(CHART_LIBRARY)
    except OSError:
        return None


def inside_script(text):
    """A script that an HTML parser reads to its end: only "</script" and "<!--" matter there, both rare in code."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def as_data(value):
    """JSON whose strings cannot end the script element; json's ASCII output escapes U+2028 already."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def breakable(text):
    """A name may go on in the next line after a slash or an underscore, rather than anywhere."""
    return Markup(re.sub(r"([/_]+)", r"\1<wbr>", str(escape(text))))


def build_page(results):
    allocators = listed(results)
    library = chart_library()
    sections = page_ratios.sections(results, allocators) + page_lines.sections(results, allocators) if library else []
    charts = [chart for section in sections for chart in section["charts"]]
    for number, chart in enumerate(charts):
        chart["number"] = number
    shown = [{key: one[key] for key in ("name", "own", "colour", "shape")} for one in allocators]
    drawn = [{key: value for key, value in chart.items() if key not in ("table", "caption")} for chart in charts]

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters["breakable"] = breakable
    scripts = [library, *(read(f"{FOLDER}/{name}") for name in SCRIPTS)]
    content = page_tables.content(results, allocators)
    if not library:
        content["notices"].append("The charts are missing: they need the Debian package libjs-chart.js.")
    groups = content["groups"]
    contents = [{"id": "machine", "title": "Machine"}, {"id": "behind", "title": "Behind"}]
    contents += [{"id": section["id"], "title": section["short"]} for section in sections]
    contents += [{"id": group["id"], "title": group["short"]} for group in groups]
    return environment.get_template("page.html.j2").render(
        content, allocators=allocators, chart_sections=sections, contents=contents, style=read(f"{FOLDER}/page.css"),
        data=as_data({"allocators": shown, "charts": drawn}),
        scripts=[inside_script(text) for text in scripts] if sections else [])


def write_page(results, path):
    """`results` as in the results file. Whoever looks at `path` finds the old page or the whole new one,
    unless it is no plain file: /dev/stdout, for example."""
    text = build_page(results)
    unfinished = f"{path}.{os.getpid()}"
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isfile(path)):
        unfinished = path
    with open(unfinished, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    if unfinished != path:
        os.replace(unfinished, path)
