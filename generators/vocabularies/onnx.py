"""The onnx vocabulary's records, from the node cases that ship with onnx.

Of the version that Shakeout is developed with they are shipped (``corpus/data/records``); of any other they are
collected once, in half a minute, and cached.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from shakeout import corpus
from shakeout.corpus import cache
from shakeout.corpus.program import Program, Ref
from shakeout.corpus.vocabularies import onnx_schemas
from shakeout.generators.choices import Choices
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.rules.library import library_of_onnx
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.torch import Progress, Vocabulary, recorded_rows

__all__ = ["FORMAT", "SHIPPED", "OnnxVocabulary", "cache_path", "load_onnx", "of_one_set", "of_program"]

#: Version of the cached rows; raise it whenever collecting finds something else than before.
FORMAT = 1


SHIPPED = Path(corpus.__file__).parent / "data" / "records"


class OnnxVocabulary(Vocabulary):
    """Operators of ONNX: inputs lie row-major, nothing is written to, and whole numbers are mostly initialisers."""

    name = "onnx"
    fallback = Record("onnx.v13.Neg", (Ref(0),), (), (Slot("T", (0,)),), (3,), (False,), ("float32",))
    forms = False

    def config(self, drawn: GrowthConfig) -> GrowthConfig:
        """As drawn, without what only torch has; sizes, axes and places are initialisers, and so are weights."""
        return replace(drawn, share=0.0, mix=0.0, number=0.0, derive=0.0, mutate=0.1, parameter=0.3, constant=0.8)

    def within(self, operators: frozenset[str]) -> OnnxVocabulary:
        """The same without all other operators; made once for each set of them."""
        found = self._parts.get(operators)
        if found is None:
            found = OnnxVocabulary({name: row for name, row in self._rows.items() if name in operators}, self._library)
            found._records, found._rules, found._index = self._records, self._rules, self._index
            self._parts[operators] = found
        return found  # type: ignore[return-value]


def cache_path() -> Path:
    """Where the records of the installed onnx are kept: below SHAKEOUT_CACHE, or the user's cache directory."""
    from importlib.metadata import version

    return cache.directory() / f"onnx-{version('onnx')}-records-{FORMAT}.json.gz"


_loaded: list[OnnxVocabulary] = []


def load_onnx(progress: Progress = lambda text: None) -> OnnxVocabulary:
    """The vocabulary of the installed onnx, from the cache or, the first time, from its own node cases.

    Raises:
        BootstrapFailed: the cases could not be run; the message ends with what the process said.
    """
    if not _loaded:
        rows = _shipped()
        if rows is None:
            _, rows = recorded_rows(cache_path(), "shakeout.generators.vocabularies.onnx_bootstrap", progress)
        _loaded.append(OnnxVocabulary(rows, library_of_onnx()))
    return _loaded[0]


def _shipped() -> Any:
    """The records that are shipped for the installed onnx, or None."""
    from importlib.metadata import version

    path = SHIPPED / f"onnx-{version('onnx')}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def of_one_set(vocabulary: OnnxVocabulary, choices: Choices) -> OnnxVocabulary:
    """The operators of one operator set, drawn: those of two do not go together in a model."""
    return vocabulary.within(onnx_schemas.of_set(choices.pick(onnx_schemas.SETS)))


def of_program(vocabulary: OnnxVocabulary, program: Program) -> OnnxVocabulary:
    """The operators that go together with those of a program: those of one operator set that has them all.

    Of a model that somebody brought there may be no such set; then they are the program's own.
    """
    own = frozenset(program.operators())
    sets = [known for number in onnx_schemas.SETS if own <= (known := onnx_schemas.of_set(number))]
    return vocabulary.within(sets[0] if sets else own)
