"""Nothing in a journal is ever overwritten, and nothing is half written."""

import sqlite3

import numpy as np
import pytest

from kepton.elt.journal import FORMAT, JOURNAL, Journal, Outcome
from kepton.errors import InputError

SETTINGS = {"principle": {"kind": "pyscf", "basis": "sto-3g"}, "goal": {"target": 0.1}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.db"


@pytest.fixture
def journal(path):
    path.parent.mkdir()
    return Journal(path, SETTINGS)


def test_what_is_appended_is_read_again(journal, path):
    first = journal.append("seeded", {"seed": ["a"], "x": [1.5, np.inf]}, samples=[b"one", b"two"])
    second = journal.append("trained", {"data": 1}, model=b"\0weights")
    third = journal.append("trained", {"data": 2}, model=b"\0weights")
    journal.close()
    again = Journal(path)
    assert again.settings == SETTINGS
    assert again.events() == [first, second, third]
    assert [e.id for e in again.events()] == [1, 2, 3]
    assert again.events()[0].data == {"seed": ["a"], "x": [1.5, np.inf]}
    assert again.sample(again.key(b"two")) == b"two"
    assert (second.data["model"], third.data["model"]) == (1, 2)
    assert again.model(2) == b"\0weights"


def test_floats_and_what_is_no_number_come_back_bit_for_bit(journal):
    values = np.random.default_rng(0).standard_normal(50) * 10.0 ** np.arange(-25, 25)
    event = journal.append("explored", {"visited": values.tolist(), "nan": float("nan")})
    (read,) = journal.events()
    assert read.data["visited"] == event.data["visited"] == values.tolist()
    assert np.isnan(read.data["nan"])


def test_a_label_is_never_overwritten(journal):
    journal.record("k", Outcome(b"first", None, 1.0))
    journal.record("k", Outcome(b"second", None, 2.0))
    journal.record("k", Outcome(None, "failed later", 3.0))
    assert journal.outcomes() == {"k": Outcome(b"first", None, 1.0)}
    journal.record("f", Outcome(None, "SCF did not converge.", 3.0))
    assert journal.outcomes(["f", "unknown"]) == {"f": Outcome(None, "SCF did not converge.", 3.0)}
    assert list(journal.outcomes(["f", "", "k", "f"])) == ["f", "k"]
    assert journal.label("k") == b"first"


def test_the_key_depends_on_the_sample_and_the_principle_and_on_nothing_else(tmp_path):
    def key(sample, **settings):
        name = str(len(list(tmp_path.iterdir())))
        return Journal(tmp_path / name, settings).key(sample)

    principle = {"kind": "pyscf", "basis": "sto-3g"}
    known = key(b"x", principle=principle)
    assert known == key(b"x", principle=dict(reversed(principle.items())), goal={"target": 1.0})
    assert known != key(b"y", principle=principle)
    assert known != key(b"x", principle=principle | {"basis": "def2-svp"})
    assert len(known) == 32


def test_the_settings_of_another_campaign_are_refused_by_name(journal, path):
    journal.close()
    Journal(path, SETTINGS).close()
    other = {"principle": {"kind": "pyscf", "basis": "def2-svp"}, "goal": {"target": 0.1}}
    with pytest.raises(InputError, match=r"principle\.basis is 'sto-3g' there and 'def2-svp' here"):
        Journal(path, other)
    with pytest.raises(InputError, match=r"goal\.coverage is None there and 0\.9 here"):
        Journal(path, SETTINGS | {"goal": {"target": 0.1, "coverage": 0.9}})
    assert Journal(path).settings == SETTINGS


def test_the_budget_may_change_from_run_to_run(path):
    path.parent.mkdir()
    Journal(path, SETTINGS | {"budget": {"labels": 100}}).close()
    Journal(path, SETTINGS | {"budget": {"labels": 200}}).close()
    assert Journal(path).settings["budget"] == {"labels": 200}


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_bytes(b"These are notes, and no database at all. " * 100)
    with pytest.raises(InputError, match=r"notes\.txt is not a Kepton journal"):
        Journal(text, SETTINGS)
    assert text.read_bytes().startswith(b"These are notes")


def test_a_damaged_journal_is_refused(journal, path):
    journal.append("seeded", {}, samples=[bytes(5000)])
    journal.close()
    data = bytearray(path.read_bytes())
    data[:4096] = np.random.default_rng(0).bytes(4096)
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not a Kepton journal"):
        Journal(path, SETTINGS)


def test_the_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        other.execute("INSERT INTO meta VALUES ('author', 'someone')")
    other.close()
    with pytest.raises(InputError, match="not a Kepton journal"):
        Journal(path, SETTINGS)


def test_a_journal_of_another_format_is_refused(journal, path):
    journal._db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (str(FORMAT + 1),))
    journal.close()
    with pytest.raises(InputError, match=f"format {FORMAT + 1}; this version reads {FORMAT}"):
        Journal(path, SETTINGS)


def test_an_empty_journal_needs_settings(tmp_path):
    with pytest.raises(InputError, match="no campaign was started in it"):
        Journal(tmp_path / "journal.db")
    Journal(tmp_path / "journal.db", SETTINGS)


def test_a_directory_without_a_campaign_is_refused_and_left_as_it_was(tmp_path):
    with pytest.raises(InputError, match=r"holds no campaign \(there is no .*campaign\.db\)"):
        Journal.of(tmp_path)
    assert not list(tmp_path.iterdir())
    Journal(tmp_path / JOURNAL, SETTINGS).close()
    assert Journal.of(tmp_path).settings == SETTINGS


def test_an_event_comes_with_all_its_samples_or_not_at_all(journal):
    journal.append("seeded", {}, samples=[b"a"])
    with pytest.raises(TypeError):
        journal.append("trained", {"x": object()}, samples=[b"c"], model=b"weights")
    assert [event.kind for event in journal.events()] == ["seeded"]
    count = "SELECT (SELECT count(*) FROM samples), (SELECT count(*) FROM models)"
    assert journal._db.execute(count).fetchone() == (1, 0)
    assert journal.append("trained", {}, model=b"weights").data["model"] == 1


def test_others_read_while_one_writes(journal, path):
    reader = Journal(path)
    journal.append("seeded", {})
    with journal._transaction():
        journal._db.execute("INSERT INTO events VALUES (2, 0.0, 'half', '{}')")
        assert [event.kind for event in reader.events()] == ["seeded"]
    assert len(reader.events()) == 2


def test_every_transaction_is_on_the_disk_when_it_ends(journal):
    """FULL is 2: the write-ahead log is synchronised at each commit, so power may fail too."""
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
