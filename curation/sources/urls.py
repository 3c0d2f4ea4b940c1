"""What makes two URLs one image: the normalised URL and the id made of it, vectorised in DuckDB."""

from __future__ import annotations

import threading

import duckdb
import pyarrow as pa

# Normalised URL: scheme and host lower-cased, default port and fragment dropped, path and query byte-exact.
# In SQL, since 63M rows in plain Python would cost 780 core-seconds.
NORMALISE = r"""
    CREATE OR REPLACE MACRO normal_parts(m) AS CASE
        WHEN m.host = '' THEN NULL
        ELSE lower(m.scheme) || '://'
            || CASE WHEN m.login = '' THEN '' ELSE m.login || '@' END
            || lower(m.host)
            || CASE WHEN m.port IN ('', CASE lower(m.scheme) WHEN 'http' THEN '80' WHEN 'https' THEN '443' ELSE '' END)
                    THEN '' ELSE ':' || m.port END
            || m.rest
        END;
    CREATE OR REPLACE MACRO normal_url(url) AS list_transform(
        [regexp_extract(url, '^([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#@]*)@)?([^/?#:@]*|\[[^\]]*\])(?::(\d*))?([/?][^#]*)?(?:#.*)?$',
            ['scheme', 'login', 'host', 'port', 'rest'])], lambda m: normal_parts(m))[1];
    CREATE OR REPLACE MACRO first_url(text) AS trim(split_part(text, ', ', 1), E' \t\r\n');
    CREATE OR REPLACE MACRO url_id(url) AS left(sha1(normal_url(url)), 16);
"""
_OF_THREAD = threading.local()


def query(sql: str, **tables: pa.Table) -> pa.Table:
    """What DuckDB answers to a query, which may name `tables` and use the macros; on one thread, since Ray runs one task
    a core."""
    connection = _connection()
    for name, table in tables.items():
        connection.register(name, table)
    try:
        return connection.sql(sql).to_arrow_table()
    finally:
        for name in tables:
            connection.unregister(name)


def _connection() -> duckdb.DuckDBPyConnection:
    """This thread's: opening one and its macros cost as much as the query of a small row group."""
    if not hasattr(_OF_THREAD, "connection"):
        _OF_THREAD.connection = duckdb.connect(config={"threads": 1})
        _OF_THREAD.connection.execute(NORMALISE)
    return _OF_THREAD.connection
