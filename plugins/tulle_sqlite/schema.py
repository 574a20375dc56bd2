"""The file's tables and the statements that read and write them. Text only."""

from __future__ import annotations

APPLICATION_ID = (
    0x74756C6C  # "tull": `file store.sqlite` shows it, and a foreign file is known by its absence
)
VERSION = 1
"""Kept in PRAGMA user_version. A change that an older tulle cannot read raises it."""

TABLES = (
    # One row. `clock_boot` and `clock_offset`: see clocks.py.
    """CREATE TABLE state (
         id INTEGER PRIMARY KEY CHECK (id = 1),
         revision INTEGER NOT NULL,
         compacted INTEGER NOT NULL,
         clock_boot TEXT NOT NULL,
         clock_offset REAL NOT NULL)""",
    """CREATE TABLE keys (
         key TEXT PRIMARY KEY,
         value BLOB NOT NULL,
         created INTEGER NOT NULL,
         modified INTEGER NOT NULL,
         version INTEGER NOT NULL,
         lease INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX keys_by_lease ON keys (lease) WHERE lease <> 0",
    # The history: every change since `compacted`, with the key as it stood before (see tulle.store.mvcc).
    """CREATE TABLE events (
         revision INTEGER NOT NULL,
         position INTEGER NOT NULL,
         kind TEXT NOT NULL,
         key TEXT NOT NULL,
         value BLOB NOT NULL,
         created INTEGER NOT NULL,
         version INTEGER NOT NULL,
         lease INTEGER NOT NULL,
         old_value BLOB,
         old_created INTEGER,
         old_modified INTEGER,
         old_version INTEGER,
         old_lease INTEGER,
         PRIMARY KEY (revision, position)) WITHOUT ROWID""",
    # AUTOINCREMENT: the number of a lease that is gone never comes back.
    """CREATE TABLE leases (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         ttl_s INTEGER NOT NULL,
         expires REAL NOT NULL)""",
    "CREATE INDEX leases_by_expiry ON leases (expires)",
)

NEW_STATE = "INSERT INTO state VALUES (1, :first, :first, :boot, :offset)"
FIRST_LEASE = "INSERT INTO sqlite_sequence VALUES ('leases', ?)"
GET_STATE = "SELECT revision, compacted, clock_boot, clock_offset FROM state"
SET_STATE = "UPDATE state SET revision = ?, compacted = ?, clock_boot = ?, clock_offset = ?"

_KEY = "key, value, created, modified, version, lease"
GET_KEY = f"SELECT {_KEY} FROM keys WHERE key = ?"
LIST_KEYS = f"SELECT {_KEY} FROM keys WHERE key >= :start"
LIST_WITHOUT_VALUES = "SELECT key, x'', created, modified, version, lease FROM keys WHERE key >= :start"
KEYS_OF_LEASE = f"SELECT {_KEY} FROM keys WHERE lease = ? AND lease <> 0 ORDER BY key"
PUT_KEY = f"INSERT OR REPLACE INTO keys ({_KEY}) VALUES (?, ?, ?, ?, ?, ?)"
DELETE_KEY = "DELETE FROM keys WHERE key = ?"

_EVENT = """SELECT kind, key, value, created, revision, version, lease,
                   old_value, old_created, old_modified, old_version, old_lease
            FROM events WHERE revision > :after AND key >= :start"""
BEFORE_END = " AND key < :end"
"""Goes behind every statement with :start, where the prefix has an end."""
KEY_ORDER = " ORDER BY key"
EVENTS = _EVENT
OLDEST_FIRST = " ORDER BY revision, position"
NEWEST_FIRST = " ORDER BY revision DESC, position DESC"
ADD_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
FORGET_EVENTS = "DELETE FROM events WHERE revision <= ?"

ADD_LEASE = "INSERT INTO leases (ttl_s, expires) VALUES (?, ?)"
GET_LEASE = "SELECT ttl_s FROM leases WHERE id = ?"
RENEW_LEASE = "UPDATE leases SET expires = ? WHERE id = ?"
DELETE_LEASE = "DELETE FROM leases WHERE id = ?"
LEASE_DEADLINES = "SELECT id, expires FROM leases"
NEXT_EXPIRY = "SELECT min(expires) FROM leases"
EXPIRED_LEASES = "SELECT id FROM leases WHERE expires <= ? ORDER BY expires, id"
SHIFT_LEASES = "UPDATE leases SET expires = expires + ?"
SHORTEN_LEASES = "UPDATE leases SET expires = min(expires, ? + ttl_s)"
