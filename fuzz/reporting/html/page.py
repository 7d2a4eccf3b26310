"""Templates to pages: everything is escaped, and no page can load or send anything, whatever it shows."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from shakeout.fuzz.reporting.html.visible import visible

__all__ = ["rendered"]

_TEMPLATES = Path(__file__).parent / "templates"


def rendered(template: str, **values: Any) -> str:
    """A page; text of its values is escaped, and what is invisible in it is made visible."""
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = (_read(name) for name in ("page.css", "page.js"))
    environment.globals.update(style=style, script=script, policy=_policy(style, script))
    environment.filters.update(number=_number, moment=_moment, value=_value)
    return environment


def _read(name: str) -> Markup:
    """A file of ours, that goes into a page as it is."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def _policy(style: str, script: str) -> str:
    """What a browser may do with a page: apply this style, run this script, and nothing else."""
    sources = [
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for kind, text in (("style", style), ("script", script))
    ]
    return "; ".join(["default-src 'none'", *sources, "base-uri 'none'", "form-action 'none'"])


def _shown(value: Any) -> Any:
    """The last step of each value on its way into a page."""
    return value if isinstance(value, Markup) else visible(str(value))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _value(value: Any) -> str:
    """A JSON value as a person writes it."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
