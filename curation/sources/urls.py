"""What makes two URLs one image: the normalised URL and the id made of it, as macros of DuckDB.

Normalised URL: scheme and host lower-cased, default port and fragment dropped, path and query byte-exact. In SQL, since
63M rows in plain Python would cost 780 core-seconds.
"""

from __future__ import annotations

MACROS = r"""
    -- nearly all are normal as they stand, alone in their field, and need no more than this one look
    CREATE MACRO is_plain(url) AS regexp_full_match(url, 'https?://[a-z0-9.-]+[/?][!"$-+\--~]*');
    CREATE MACRO normal_parts(m) AS CASE
        WHEN m.host = '' THEN NULL
        ELSE lower(m.scheme) || '://'
            || CASE WHEN m.login = '' THEN '' ELSE m.login || '@' END
            || lower(m.host)
            || CASE WHEN m.port IN ('', CASE lower(m.scheme) WHEN 'http' THEN '80' WHEN 'https' THEN '443' ELSE '' END)
                    THEN '' ELSE ':' || m.port END
            || m.rest
        END;
    CREATE MACRO normal_url(url) AS CASE WHEN is_plain(url) THEN url ELSE list_transform(
        [regexp_extract(url, '^([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#@]*)@)?([^/?#:@]*|\[[^\]]*\])(?::(\d*))?([/?][^#]*)?(?:#.*)?$',
            ['scheme', 'login', 'host', 'port', 'rest'])], lambda m: normal_parts(m))[1] END;
    CREATE MACRO first_url(text) AS CASE WHEN is_plain(text) THEN text
        ELSE trim(split_part(text, ', ', 1), E' \t\r\n') END;
    -- an id is the number that the first 16 digits of the hash are; tables hold the digits
    CREATE MACRO id_of(hash) AS ('0x' || left(hash, 16))::UBIGINT;
    CREATE MACRO id_in(field) AS id_of(sha1(CASE WHEN is_plain(field) THEN field ELSE normal_url(first_url(field)) END));
    CREATE MACRO url_id(url) AS left(sha1(normal_url(url)), 16);
"""
