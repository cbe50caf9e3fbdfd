"""The journal: one SQLite file a campaign, in which nothing that was paid for is ever lost."""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kepton.errors import InputError

FORMAT = 2
JOURNAL = "campaign.db"
"""The journal's file in a campaign's directory."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, time REAL, kind TEXT, data TEXT);
CREATE TABLE IF NOT EXISTS samples (key TEXT PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS labels
    (key TEXT PRIMARY KEY, data BLOB, failure TEXT, seconds REAL, time REAL);
CREATE TABLE IF NOT EXISTS models (id INTEGER PRIMARY KEY, data BLOB);
"""


@dataclass(frozen=True)
class Event:
    """One thing that happened: its place, time (s since 1970), kind, and plain data."""

    id: int
    time: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What the principle said of one sample: bytes of a label, or the reason of a failure."""

    label: bytes | None
    failure: str | None
    seconds: float


class Journal:
    """Events, samples, labels and models of one campaign, each append one transaction.

    A label is keyed by the content of its sample and the settings of its principle, so it is
    never paid for twice; a process killed at any moment loses only what was in flight.

    Args:
        path: the SQLite file (WAL); made where it does not exist
        settings: JSON that decides every label and every choice of the campaign. What stands under
            `budget` and `file` may change from run to run: a campaign goes on with more labels or
            hours, and its file may be moved
    Raises:
        InputError: the file belongs to another campaign, or is no journal
    """

    def __init__(self, path: Path, settings: dict[str, Any] | None = None):
        self.path = Path(path)
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            self._open(settings)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{self.path} is not a Kepton journal ({error}); give another directory."
            ) from error

    @staticmethod
    def of(directory: Path) -> "Journal":
        """The journal of the campaign that was started in a directory.

        Raises:
            InputError: there is none
        """
        path = Path(directory) / JOURNAL
        if not path.is_file():
            raise InputError(
                f"{directory} holds no campaign (there is no {path}); give the directory that "
                "`kepton run` made."
            )
        return Journal(path)

    def _open(self, settings: dict[str, Any] | None) -> None:
        self.settings: dict[str, Any]
        stored = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        if stored and not {"format", "settings"} <= stored.keys():
            raise InputError(
                f"{self.path} is the database of another program, not a Kepton journal; give "
                "another directory."
            )
        if stored and int(stored["format"]) != FORMAT:
            raise InputError(
                f"{self.path} has journal format {stored['format']}; this version reads {FORMAT}."
            )
        if stored:
            self.settings = json.loads(stored["settings"])
            if settings is None:
                return
            given: dict[str, Any] = json.loads(_canonical(settings))
            old, new = _guarded(self.settings), _guarded(given)
            if old != new:
                raise InputError(
                    f"{self.path.parent} holds another campaign: "
                    f"{_difference(old, new)}. Continue it with "
                    "the file it was started with, or give another directory with --out."
                )
            if given != self.settings:
                self._db.execute(
                    "UPDATE meta SET value = ? WHERE name = 'settings'", (_canonical(given),)
                )
                self.settings = given
        elif settings is None:
            raise InputError(f"{self.path} is an empty journal: no campaign was started in it.")
        else:
            self.settings = json.loads(_canonical(settings))
            with self._transaction():
                self._db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [("format", str(FORMAT)), ("settings", _canonical(settings))],
                )

    def _transaction(self):
        return _Transaction(self._db)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def events(self) -> list[Event]:
        """All that happened, in order."""
        rows = self._db.execute("SELECT id, time, kind, data FROM events ORDER BY id")
        return [Event(i, t, kind, json.loads(data)) for i, t, kind, data in rows]

    def append(
        self,
        kind: str,
        data: dict[str, Any],
        samples: Sequence[bytes] = (),
        model: bytes | None = None,
    ) -> Event:
        """Record an event with the samples or the model it brings, all or nothing.

        A model's id is added to the event's data as `model`.
        """
        with self._transaction():
            for sample in samples:
                self._db.execute(
                    "INSERT OR IGNORE INTO samples VALUES (?, ?)", (self.key(sample), sample)
                )
            if model is not None:
                cursor = self._db.execute("INSERT INTO models (data) VALUES (?)", (model,))
                data = data | {"model": cursor.lastrowid}
            return self._event(kind, data)

    def _event(self, kind: str, data: dict[str, Any]) -> Event:
        now, text = time.time(), _canonical(data)
        cursor = self._db.execute(
            "INSERT INTO events (time, kind, data) VALUES (?, ?, ?)", (now, kind, text)
        )
        return Event(int(cursor.lastrowid or 0), now, kind, json.loads(text))

    def key(self, sample: bytes) -> str:
        """Content hash of a sample under this campaign's principle."""
        principle = _canonical(self.settings.get("principle", {})).encode()
        return hashlib.blake2b(principle + b"\0" + sample, digest_size=16).hexdigest()

    def sample(self, key: str) -> bytes:
        """Bytes of a recorded sample."""
        return self._db.execute("SELECT data FROM samples WHERE key = ?", (key,)).fetchone()[0]

    def label(self, key: str) -> bytes:
        """Bytes of a recorded label, of a sample whose labelling did not fail."""
        return self._db.execute("SELECT data FROM labels WHERE key = ?", (key,)).fetchone()[0]

    def model(self, id: int) -> bytes:
        """Bytes of a recorded model."""
        return self._db.execute("SELECT data FROM models WHERE id = ?", (id,)).fetchone()[0]

    def record(self, key: str, outcome: Outcome) -> None:
        """Keep what the principle said of a sample; the first answer stays."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?, ?)",
                (key, outcome.label, outcome.failure, outcome.seconds, time.time()),
            )

    def withdraw(self, keys: Sequence[str], data: dict[str, Any]) -> Event:
        """Take back the answers to some samples, which an event then tells of in their place."""
        outcomes = [
            {"key": key, "failure": o.failure, "seconds": o.seconds}
            for key, o in self.outcomes(keys).items()
        ]
        with self._transaction():
            self._db.executemany("DELETE FROM labels WHERE key = ?", [(key,) for key in keys])
            return self._event("paused", data | {"outcomes": outcomes})

    def outcomes(self, keys: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Recorded answers, of some samples in their order, or of all."""
        query = "SELECT key, data, failure, seconds FROM labels"
        if keys is None:
            rows = self._db.execute(query)
        else:
            one = f"{query} WHERE key = ?"
            rows = (row for key in keys for row in self._db.execute(one, (key,)))
        return {key: Outcome(*rest) for key, *rest in rows}


class _Transaction:
    def __init__(self, db: sqlite3.Connection):
        self.db = db

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind, *_):
        self.db.execute("ROLLBACK" if kind else "COMMIT")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)


def _guarded(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("budget", "file")}


def _difference(old: Any, new: Any, name: str = "") -> str:
    """The first setting in which two campaigns differ, in words."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                return _difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    shown = [text if len(text) < 60 else text[:57] + "..." for text in (repr(old), repr(new))]
    return f"{name} is {shown[0]} there and {shown[1]} here"
