"""Vega's drawings as elements of a page: vector graphics that are made before anybody opens it, and run no script."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from shakeout.fuzz.reporting.html.visible import visible

__all__ = ["FAINT", "INK", "MONO", "PACKAGE", "RULE", "SANS", "able", "from_vega", "from_vega_lite"]

#: What makes the drawings; without it pages have none.
PACKAGE = "vl-convert-python"

#: Drawings take the page's own fonts and colours, and so they are dark where the page is.
SANS, MONO = "system-ui, sans-serif", "ui-monospace, monospace"
INK, FAINT, RULE = "var(--ink)", "var(--faint)", "var(--rule)"

_SVG = "http://www.w3.org/2000/svg"

#: Elements that Vega draws with.
_DRAWN = frozenset("svg g path rect line text tspan circle defs clipPath linearGradient stop title desc".split())


def able() -> bool:
    """Whether drawings can be made here."""
    return importlib.util.find_spec("vl_convert") is not None


def from_vega(spec: Mapping[str, Any], title: str, description: str) -> Markup:
    """A Vega specification as an ``svg`` element.

    Args:
        spec: without anything that would have to be loaded.
        title: what it is a picture of; whoever does not see it hears this,
        description: and this.
    """
    import vl_convert

    return _element(vl_convert.vega_to_svg(json.dumps({"background": None, **spec})), title, description)


def from_vega_lite(spec: Mapping[str, Any], title: str, description: str) -> Markup:
    """The same of a Vega-Lite specification."""
    import vl_convert

    axis = {"labelColor": INK, "titleColor": INK, "gridColor": RULE, "domainColor": FAINT, "tickColor": FAINT}
    sizes = {"labelFontSize": 12, "titleFontSize": 12}
    config = {
        "font": SANS,
        "view": {"stroke": None},
        "axis": {**axis, **sizes, "titleFontWeight": "normal"},
        "legend": {"labelColor": INK, "titleColor": INK, **sizes, "titleFontWeight": "normal", "labelLimit": 300},
    }
    whole = {"background": None, "config": config, **spec}
    return _element(vl_convert.vegalite_to_svg(json.dumps(whole)), title, description)


def _element(text: str, title: str, description: str) -> Markup:
    """One picture to whoever hears it, and for each part that says something a hint to whoever points at it."""
    root = ElementTree.fromstring(text)
    # Names are the whole page's; what is the same picture may have the same.
    own = f"drawing-{hashlib.sha256(f'{title}{text}'.encode()).hexdigest()[:12]}-"
    for element in list(root.iter()):
        # What is given as data does not become an element; it is made sure of that none is there that could act.
        if element.tag.removeprefix(f"{{{_SVG}}}") not in _DRAWN:
            raise ValueError(f"a drawing with an element {element.tag!r}")
        said = element.attrib.pop("aria-label", "")
        symbol = element.attrib.pop("role", "") == "graphics-symbol" and element.tag != f"{{{_SVG}}}g"
        for name, value in list(element.attrib.items()):
            if name.startswith(("aria-", "{")):
                del element.attrib[name]
            elif name == "id":
                element.set(name, own + value)
            elif value.startswith("url(#"):
                element.set(name, f"url(#{own}{value.removeprefix('url(#')}")
        if said and symbol:
            element.insert(0, _text("title", said))
    root.set("role", "img")
    root.set("aria-labelledby", f"{own}title {own}description")
    root.insert(0, _text("title", title, f"{own}title"))
    root.insert(1, _text("desc", description, f"{own}description"))
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _text(name: str, text: str, own: str = "") -> ElementTree.Element:
    element = ElementTree.Element(f"{{{_SVG}}}{name}", {"id": own} if own else {})
    element.text = visible(text)
    return element
