"""What pages of HTML that need nothing else, neither the network nor a file beside them, are made of. page/ has the style and the
scripts that they share."""

import json
import os
import re

from arenal.errors import Failure

CHART_LIBRARY = "/usr/share/javascript/chart.js/chart.min.js"
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


def environment(folder):
    """The templates of the folder, and those that are shared."""
    try:
        import jinja2                       # pylint: disable=import-outside-toplevel
        from markupsafe import Markup, escape   # pylint: disable=import-outside-toplevel
    except ImportError as error:
        raise Failure("pages need the Debian package python3-jinja2, and Debian's python3") from error

    def breakable(text):
        """A name may go on in the next line after a slash or an underscore, rather than anywhere."""
        return Markup(re.sub(r"([/_]+)", r"\1<wbr>", str(escape(text))))

    made = jinja2.Environment(loader=jinja2.FileSystemLoader([folder, FOLDER]), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True)
    made.filters["breakable"] = breakable
    return made
