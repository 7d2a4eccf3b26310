"""SQLite files of ours: made, opened, checked and written in one way, with errors that say what to do.

One process writes, any number read. Write-ahead logging with ``synchronous=NORMAL``: what was committed survives the
death of the process, and of the machine up to the last checkpoint. No connection crosses a fork.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, cast

__all__ = [
    "DatabaseError",
    "Kind",
    "MalformedDatabase",
    "NewerDatabase",
    "SqliteFile",
    "UnusableDatabase",
    "version_of",
]


class DatabaseError(Exception):
    """A database of a campaign cannot be used."""


class MalformedDatabase(DatabaseError):
    """The file is damaged, or it is not a database of Shakeout."""


class NewerDatabase(DatabaseError):
    """A later version of Shakeout wrote the file."""


class UnusableDatabase(DatabaseError):
    """The file cannot be opened or written: a full disk, a read-only place, missing rights."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file holds.

    Attributes:
        application: number in its header, by which it is told apart from other programs' databases.
        version: of its tables, in ``PRAGMA user_version``; versions are counted from 1.
        name: what it is called.
        absent: what to tell where there is none, behind its path; ``{0}`` is its directory.
        anew: what to do about one that is damaged or something else.
    """

    application: int
    version: int
    name: str
    absent: str
    anew: str


class SqliteFile:
    """A file of one kind; use it as a context manager.

    Args:
        path: of the file.
        connection: to it.
    """

    KIND: ClassVar[Kind]

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def _make(cls, path: Path, schema: str, rows: Iterable[tuple[str, Sequence[Any]]] = ()) -> None:
        """A new file with these tables and rows (a statement, and its values); raises UnusableDatabase."""
        with cls._explained(path):
            # The tables appear whole under their final name, so a death in between leaves no half-made file there.
            draft = path.with_name(path.name + ".new")
            draft.unlink(missing_ok=True)
            with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.execute(f"PRAGMA application_id={cls.KIND.application}")
                connection.executescript(f"BEGIN;{schema}COMMIT;")
                for query, values in rows:
                    connection.execute(query, values)
                connection.execute(f"PRAGMA user_version={cls.KIND.version}")
            draft.rename(path)

    @classmethod
    def _opened(cls, path: Path) -> sqlite3.Connection:
        """An existing file, to write to it; raises DatabaseError."""
        with cls._explained(path):
            cls._check_present(path)
            connection = sqlite3.connect(path, isolation_level=None, timeout=10)
            try:
                cls._check(path, connection)
                if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                    raise MalformedDatabase(f"{path} is damaged; {cls.KIND.anew}")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                cls._migrate(connection)
                connection.execute("PRAGMA foreign_keys=ON")
            except BaseException:
                connection.close()
                raise
        return connection

    @classmethod
    def _opened_to_read(cls, path: Path) -> sqlite3.Connection:
        """An existing file, only to read, also while a campaign writes to it; raises DatabaseError."""
        with cls._explained(path):
            cls._check_present(path)
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            try:
                cls._check(path, connection)
            except sqlite3.OperationalError:
                # Without write access to the directory, the log's shared memory cannot be made; nobody writes then.
                connection.close()
                connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
                cls._check(path, connection)
        return connection

    @classmethod
    def _migrate(cls, connection: sqlite3.Connection) -> None:
        """Bring the tables of an earlier version up to date, all at once."""

    def back_up(self, path: Path) -> None:
        """Write a copy of all that is committed at this moment, which appears whole; also while a campaign writes.

        Raises:
            MalformedDatabase: this file is damaged; what stood under the name before stays.
            UnusableDatabase: the copy cannot be written.
        """
        draft = path.with_name(f"{path.name}.{os.getpid()}.part")
        with self._explained(path):
            try:
                with closing(sqlite3.connect(draft, isolation_level=None)) as copy:
                    with self._explained(self.path):
                        self._connection.backup(copy)
                    if copy.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                        raise MalformedDatabase(f"{self.path} is damaged")
                    copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are committed together, or none; one inside another is part of it."""
        if self._connection.in_transaction:
            yield
            return
        with self._explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def _many(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._explained(self.path):
            self._connection.executemany(query, rows)

    def _insert(self, query: str, values: Sequence[Any]) -> int:
        with self._explained(self.path):
            return cast(int, self._connection.execute(query, values).lastrowid)

    @classmethod
    def _check_present(cls, path: Path) -> None:
        if not path.exists():
            raise UnusableDatabase(f"{path} does not exist; {cls.KIND.absent.format(path.parent)}")

    @classmethod
    def _check(cls, path: Path, connection: sqlite3.Connection) -> None:
        version, known = version_of(connection), cls.KIND.version
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application != cls.KIND.application or version < 1:
            raise MalformedDatabase(f"{path} is not a {cls.KIND.name} of Shakeout; {cls.KIND.anew}")
        if version > known:
            raise NewerDatabase(
                f"{path} was written by a newer Shakeout (tables of version {version}, this one knows {known}); "
                "install a newer Shakeout"
            )

    @classmethod
    @contextmanager
    def _explained(cls, path: Path) -> Iterator[None]:
        """SQLite's errors as ours, in words that say what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            text = str(error)
            # SQLite tells a limit of the file's size, and a full quota, as an error of input and output.
            if "full" in text or "disk I/O error" in text:
                raise UnusableDatabase(
                    f"{path}: the disk is full, or broken ({text}); free some space and resume"
                ) from None
            if "readonly" in text or "read-only" in text or "unable to open" in text:
                raise UnusableDatabase(
                    f"{path} cannot be written ({text}); check the rights of its directory"
                ) from None
            if "malformed" in text or "no such" in text:
                raise MalformedDatabase(f"{path} is damaged ({text}); {cls.KIND.anew}") from None
            raise UnusableDatabase(f"{path}: {text}") from None
        except sqlite3.DatabaseError as error:
            raise MalformedDatabase(f"{path} is damaged ({error}); {cls.KIND.anew}") from None
        except OSError as error:
            raise UnusableDatabase(f"{path} cannot be written: {error.strerror or error}") from None


def version_of(connection: sqlite3.Connection) -> int:
    """Version of a file's tables."""
    return cast(int, connection.execute("PRAGMA user_version").fetchone()[0])
