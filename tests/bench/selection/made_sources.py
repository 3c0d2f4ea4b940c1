"""FaceCaption and LAION-Face of any size, in their true schemas, made by DuckDB: some 3 core-seconds a million rows.

Everything follows from a row's number. Of a hundred FaceCaption rows 87 are the first face of an image, the others another
face of one. A few in a thousand are what the real table has too: rows twice, a box as text that is none, an empty box, a
URL that is unknown, that has a second part, a port or capitals, no caption. Half of the files hold boxes as text, as the
published table does, half as lists. LAION-Face has nearly all of these images, some of them twice, among many others.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

IMAGES_A_FACE = 0.87
FACE_FILES, PARTS = 13, 32

MACROS = """
    CREATE MACRO pick(words, number) AS list_extract(words, (1 + number % len(words))::BIGINT);
    CREATE MACRO draw(number, of_what) AS hash(number * 64 + of_what);
    CREATE MACRO host(image) AS
        pick(['www.', 'images.', 'cdn.', 'i', 'static.', ''], draw(image, 1))
        || pick(['photo', 'news', 'wedding', 'actor', 'style', 'press', 'sport', 'family'], draw(image, 2))
        || draw(image, 3) % 20011
        || pick(['.example.com', '.example.org', '.example.net', '.cdn.example.com'], draw(image, 4));
    CREATE MACRO path(image) AS
        pick(['/wp-content/uploads/20', '/media/catalog/product/', '/photos/large/', '/i/'], draw(image, 5))
        || draw(image, 6) % 20 || '/' || draw(image, 7) % 13 || '/'
        || pick(['portrait-of-a-woman', 'smiling-man-with-glasses', 'red-carpet-arrival', 'IMG', 'Team%20Photo', 'bride'],
                draw(image, 8))
        || '-' || draw(image, 9) % 10000000 || '-' || image
        || pick(['.jpg', '-1024x683.jpg', '.jpg?w=1200&quality=85', '.jpeg', '.png'], draw(image, 10));
    -- who links to an image spells its URL in one of several ways
    CREATE MACRO url(image, who) AS CASE draw(who, 11) % 400
        WHEN 0 THEN 'HTTP://' || upper(host(image)) || ':80' || path(image)
        WHEN 1 THEN 'http://' || host(image) || path(image) || '#top'
        WHEN 2 THEN 'http://' || host(image) || path(image) || ', http://mirror.example.com/' || image
        ELSE 'http://' || host(image) || path(image) END;
    CREATE MACRO caption(face) AS
        'The ' || pick(['woman', 'man', 'young girl', 'boy', 'elderly lady'], draw(face, 12)) || ' in the picture has '
        || pick(['long brown', 'short black', 'wavy blond', 'grey', 'curly red', 'straight dark'], draw(face, 13))
        || ' hair, ' || pick(['an oval face', 'high cheekbones', 'a pointy nose', 'bushy eyebrows'], draw(face, 14))
        || ' and ' || pick(['big lips', 'narrow eyes', 'rosy cheeks', 'a double chin', 'arched eyebrows'], draw(face, 15))
        || '. ' || pick(['She', 'He', 'This person'], draw(face, 16)) || ' wears '
        || pick(['heavy lipstick and a necklace', 'glasses and a tie', 'a hat', 'no jewellery at all'], draw(face, 17))
        || ' and looks ' || pick(['attractive', 'tired', 'young', 'straight into the camera'], draw(face, 18))
        || ', with ' || draw(face, 19) % 1000 || ' other things about this face that a caption would go on to say; the '
        || pick(['smile is slight', 'mouth is slightly open', 'beard is trimmed', 'skin is pale'], draw(face, 20)) || '.';
"""
# `image` is any permutation of the first ones, so that neighbours in a file are strangers
FACES = """
    COPY (
        WITH numbered AS (
            SELECT row, CASE WHEN draw(row, 21) % 500 = 0 THEN draw(row, 22) % {faces} ELSE row END AS face
            FROM range({start}, {stop}) AS rows(row)
        ), placed AS (
            SELECT row, face, CASE WHEN face < {images} THEN face * {prime} % {images} ELSE draw(face, 23) % {images} END
                       ::BIGINT AS image,
                   (draw(face, 24) % 900)::INT AS x, (draw(face, 25) % 700)::INT AS y,
                   (128 + draw(face, 26) % 300 + draw(face, 27) % 200)::INT AS w, (140 + draw(face, 28) % 480)::INT AS h
            FROM numbered
        )
        SELECT left(md5(row::VARCHAR), 24) AS _id,
               CASE WHEN draw(row, 29) % 2000 = 0 THEN [''] ELSE [caption(face)] END AS caption,
               CASE draw(row, 30) % 600 WHEN 0 THEN 'UNKNOWN' WHEN 1 THEN NULL WHEN 2 THEN 'not a url'
                    ELSE url(image, row) END AS url,
               CASE draw(image, 31) % 10 WHEN 0 THEN [NULL] WHEN 1 THEN []::VARCHAR[]
                    ELSE [pick(['Photo: ', 'Stock image of ', 'Портрет ', 'View '], draw(image, 32))
                          || 'somebody at ' || host(image) || ', no. ' || image] END AS laion_caption,
               {box} AS box
        FROM placed
    ) TO '{path}' (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {group})
"""
BOX_AS_TEXT = """CASE draw(row, 33) % 800 WHEN 0 THEN '[12, 30, 110' WHEN 1 THEN '[1, null, 3, 4]'
    WHEN 2 THEN '[' || x + w || ', ' || y || ', ' || x || ', ' || y + h || ']'
    ELSE '[' || x || ', ' || y || ', ' || x + w || ', ' || y + h || ']' END"""
BOX_AS_LIST = """CASE draw(row, 33) % 800 WHEN 0 THEN [12, 30, 110] WHEN 1 THEN [1, NULL, 3, 4]
    WHEN 2 THEN [x + w, y, x, y + h] ELSE [x, y, x + w, y + h] END"""
LAION = """
    COPY (
        WITH placed AS (
            -- one row in a hundred is of an image that has another row
            SELECT row, CASE WHEN draw(row, 34) % 100 = 0 THEN draw(row, 35) % {rows} ELSE row * {prime} % {rows} END
                       ::BIGINT AS image
            FROM range({start}, {stop}) AS rows(row)
        )
        SELECT row * 977 + 12 AS SAMPLE_ID,
               url(CASE WHEN image % 50 = 0 THEN image + {rows} ELSE image END, row + 1000000007) AS URL,
               'Somebody at ' || host(image) AS TEXT,
               (200 + draw(image, 36) % 3000)::DOUBLE AS HEIGHT, (200 + draw(image, 37) % 3000)::DOUBLE AS WIDTH,
               pick(['?', '?', '?', 'cc-by-2.0'], draw(image, 38)) AS LICENSE,
               pick(['UNLIKELY', 'UNLIKELY', 'UNSURE', NULL], draw(image, 39)) AS NSFW,
               (0.3 + (draw(image, 40) % 2000) / 10000)::DOUBLE AS similarity
        FROM placed
    ) TO '{path}' (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {group})
"""


def make_sources(folder: Path, faces: int, laion: int, group: int = 100_000) -> None:
    """Write `faces-text-*`, `faces-list-*` and `part-*.parquet`; nothing where they are there already.

    `group`: rows a row group.
    """
    done = folder / "made"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(config={"preserve_insertion_order": "false", "memory_limit": "4GB"})
    connection.execute(MACROS)
    images = max(1, int(faces * IMAGES_A_FACE))
    for number, (start, stop) in enumerate(_ranges(faces, FACE_FILES)):
        kind, box = ("text", BOX_AS_TEXT) if number % 2 == 0 else ("list", BOX_AS_LIST)
        path = folder / f"faces-{kind}-{number:05d}.parquet"
        connection.execute(FACES.format(
            faces=faces, images=images, prime=1_000_003, start=start, stop=stop, box=box, path=path, group=group))  # fmt: skip
    for number, (start, stop) in enumerate(_ranges(laion, PARTS)):
        path = folder / f"part-{number:05d}.parquet"
        connection.execute(LAION.format(rows=laion, prime=1_000_033, start=start, stop=stop, path=path, group=group))
    done.touch()


def _ranges(rows: int, files: int) -> list[tuple[int, int]]:
    edges = [rows * number // files for number in range(files + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))
