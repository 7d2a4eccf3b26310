"""What a script has to see before it says that it shows a failure: this one, and no other.

Exit statuses of scripts: 0 no difference, 1 this failure, ``OTHER`` another one, 125 nothing could be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["GUARD", "MEMORY_SIGNALS", "OTHER", "STATUSES", "STATUSES_OF_ANY", "Symptom"]

#: Exit status of a script that fails in another way than the one that it is about. Not 2, with which Python says that
#: it cannot open a file.
OTHER = 3

#: What the statuses mean, as it stands on top of a script.
STATUSES = f"Exit status: 0 no difference, 1 the failure that this is about, {OTHER} another one, 125 cannot run."

#: The same of a script for which any difference is the failure.
STATUSES_OF_ANY = "Exit status: 0 no difference, 1 any difference, 125 cannot run."

#: What a script begins with: Python ends with 1 after an exception that nobody caught, a package that is missing say.
GUARD = "sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(125))  # then nothing was compared"

#: Signals of which one memory error gives this one today and that one tomorrow.
MEMORY_SIGNALS = ("SIGSEGV", "SIGABRT", "SIGBUS")

#: Pieces of a message that are the same words in each run: what lies between numbers, quotes, addresses and paths.
_BETWEEN = re.compile(r"-?\d[\d.e+-]*|N|ADDRESS|['\"\\{}\n]|\S*[./\\]\S*\.\w+\S*|\S+\.(?:cpp|cc|h|py):")

#: Characters of such a piece that a script quotes at most.
_QUOTED = 48

#: Oracles that see what no comparison of tensors does.
_UNCOMPARED = ("crash", "hang", "memory", "aliasing", "randomness")

_PARTS = {"value": "output", "gradient": "gradient", "mutation": "input after the call"}

#: By symptom, what the long script says of it (``standalone.compare``), and what the short one asks: of ``said``, which
#: is what ``torch.testing.assert_close`` says, and of the tensors that were compared.
_SEEN: Mapping[str, tuple[str, str]] = {
    "wrong dtype": (": dtype ", "\"'dtype'\" in said"),
    "wrong shape": (": shape ", "\"'shape'\" in said"),
    "wrong strides": (": strides ", '"stride" in said'),
    "wrong number of outputs": ("outputs: ", '"length" in said'),
    "gradient lost": ("none found", '"None" in said'),
    "gradient appears": ("none expected", '"None" in said'),
    "wrong value": (": wrong value", '"are not" in said and "nan" not in said'),
    **{
        f"{word} {end}": (
            f": {word} {end}",
            '"are not" in said and any('
            f"(want.{asked}() {order} got.{asked}()).any() for want, got in zip(expected, found))",
        )
        for word, asked in (("NaN", "isnan"), ("infinity", "isinf"))
        for end, order in (("lost", ">"), ("appears", "<"))
    },
}

#: Any difference between values, of whatever class.
_VALUES = ("elements differ", '"are not" in said')


@dataclass(frozen=True, slots=True)
class Symptom:
    """The class of one failure.

    Attributes:
        oracle: that saw it: ``value``, ``metadata``, ``exception``, ``crash`` ...
        name: of the class: ``NaN lost``, an exception's class, a signal.
        message: of an exception, with or without its numbers; empty otherwise.
        place: where it was seen, ``output 0``; empty where that is not known.
    """

    oracle: str
    name: str
    message: str = ""
    place: str = ""

    @classmethod
    def told(cls, failure: Mapping[str, str]) -> Symptom:
        """Of a case that ships, by the ``failure`` in its file."""
        return cls(failure["oracle"], failure["symptom"], failure.get("culprit", "").rpartition(" | ")[2])

    @classmethod
    def seen(cls, verdict: Any) -> Symptom:
        """Of a failing verdict."""
        message = str(verdict.evidence.get("template", "")) if verdict.oracle == "exception" else ""
        return cls(verdict.oracle, verdict.symptom, message, verdict.place)

    @property
    def raises(self) -> bool:
        """Whether it is an exception."""
        return self.oracle == "exception"

    @property
    def dies(self) -> bool:
        """Whether the process dies of it."""
        return self.oracle == "crash"

    @property
    def words(self) -> tuple[str, ...]:
        """What one line of the long script has in it if this is what it found; empty if any difference counts."""
        if self.raises:
            return tuple(filter(None, (self.name, self._quoted())))
        if self.dies:
            return ("the process died",) if self.name in MEMORY_SIGNALS else ("the process died", self.name)
        if self.oracle == "hang":
            return ("no answer within",)
        if self.oracle == "aliasing":
            return ("shares memory with",)
        if self.oracle == "randomness":
            return ("random state",)
        seen = self._seen()
        return () if seen is None else tuple(filter(None, (_PARTS.get(self.oracle, ""), seen[0])))

    @property
    def condition(self) -> str:
        """The same of the short script, as an expression of Python.

        ``True`` if any difference counts, ``False`` if none does. Of an exception ``said`` is its traceback, else what
        ``torch.testing.assert_close`` says.
        """
        if self.raises:
            return " and ".join(f"{_literal(word)} in said" for word in self.words)
        if self.oracle in _UNCOMPARED:
            return "False"
        seen = self._seen()
        return "True" if seen is None else seen[1]

    def died(self, signal: str) -> bool:
        """Whether a process that was ended by this signal shows it."""
        return self.dies and (signal == self.name or {signal, self.name} <= set(MEMORY_SIGNALS))

    def _seen(self) -> tuple[str, str] | None:
        name = self.name.partition(" on a later call")[0]
        if name in _SEEN:
            return _SEEN[name]
        return _VALUES if name in ("nondeterministic", "imprecise value", "wrong mutation") else None

    def _quoted(self) -> str:
        """The longest piece of the message that every run prints alike; empty if there is none that tells anything."""
        pieces = [piece.strip(" ,;:") for piece in _BETWEEN.split(self.message)]
        longest = max(pieces, key=len, default="")
        if len(longest) > _QUOTED:
            longest = longest[:_QUOTED].rpartition(" ")[0] or longest[:_QUOTED]
        return longest if len(longest) > 2 else ""


def _literal(text: str) -> str:
    """A text as a literal of Python, in double quotes where that needs no escapes."""
    return f'"{text}"' if '"' not in text and "\\" not in text else repr(text)
