-- Selection as one would write it for DuckDB alone: the frozen baseline of `make bench ONLY=selection`.
-- It knows nothing of the project's code, and stays as it is: that is what makes it one. It reads FaceCaption (boxes as text
-- or as lists) and LAION-Face, and writes candidates.parquet and selected.parquet with the columns of a run's tables.
-- ${folder}: the sources; ${out}: a folder for the tables; ${count}: how many are selected.

-- scheme and host in lower case, no default port, no fragment; all else byte for byte
CREATE MACRO written_normal(p) AS CASE WHEN p.host <> '' THEN
    lower(p.scheme) || '://' || p.login || lower(p.host)
    || CASE WHEN p.port = '' OR (lower(p.scheme), p.port) IN (('http', '80'), ('https', '443')) THEN '' ELSE ':' || p.port END
    || p.rest END;
-- most URLs are normal as they stand, and alone in their field
CREATE MACRO is_plain(url) AS regexp_full_match(url, 'https?://[a-z0-9.-]+[/?][!"$-+\--~]*');
CREATE MACRO normal(url) AS CASE WHEN is_plain(url) THEN url ELSE list_transform([regexp_extract(
    url, '^([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#@]*@)?(\[[^\]]*\]|[^/?#:@]*)(?::([0-9]*))?([/?][^#]*)?(?:#.*)?$',
    ['scheme', 'login', 'host', 'port', 'rest'])], lambda p: written_normal(p))[1] END;
CREATE MACRO first_part(url) AS CASE WHEN is_plain(url) THEN url ELSE trim(split_part(url, ', ', 1), E' \t\r\n') END;
CREATE MACRO image_id(url) AS left(sha1(normal(url)), 16);

CREATE TABLE faces AS
WITH rows AS (
    SELECT ((file_index::BIGINT + 1000000) << 40) + file_row_number AS place, _id, caption[1] AS caption,
           first_part(url) AS url, laion_caption[1] AS laion_caption, TRY_CAST(box AS DOUBLE[]) AS box
    FROM read_parquet('${folder}/faces-text-*.parquet')
    UNION ALL  -- in the order of the files' names
    SELECT (file_index::BIGINT << 40) + file_row_number, _id, caption[1], first_part(url), laion_caption[1], box::DOUBLE[]
    FROM read_parquet('${folder}/faces-list-*.parquet')
), identified AS (
    SELECT *, image_id(url) AS id FROM rows
)
SELECT id, url, place, laion_caption,
       TRY_CAST(list_transform(box, lambda x: round(x)) AS INT[]) AS box,
       caption, _id AS source_id,
       CASE WHEN url IS NULL OR url IN ('', 'UNKNOWN') THEN 'url_unknown'
            WHEN id IS NULL OR lower(url[:4]) <> 'http' THEN 'url_malformed'
            WHEN box IS NULL OR len(box) <> 4 OR NOT coalesce(
                 greatest(abs(box[1]), abs(box[2])) + greatest(abs(box[3]), abs(box[4])) < 1e6
                 AND box[1] + box[2] + box[3] + box[4] IS NOT NULL, false) THEN 'box_malformed'
            WHEN box[1] >= box[3] OR box[2] >= box[4] OR box[3] <= 0 OR box[4] <= 0 THEN 'box_empty'
            WHEN caption IS NULL OR trim(caption) = '' THEN 'caption_missing' END AS dropped
FROM identified;

CREATE TABLE images AS
WITH merged AS (
    SELECT id, arg_min(url, place) AS url, arg_min(laion_caption, place) AS laion_caption,
           list({'place': place, 'box': box, 'caption': caption, 'source_id': source_id}) AS faces,
           max(least(box[3] - box[1], box[4] - box[2])) AS key
    FROM faces WHERE dropped IS NULL GROUP BY id
), ordered AS (
    SELECT * REPLACE (CASE WHEN len(faces) = 1 THEN faces ELSE list_sort(faces) END AS faces) FROM merged
)
SELECT * REPLACE (
    list_transform(
        -- a face that is there twice is one face
        CASE WHEN len(faces) = 1 THEN faces
             ELSE list_filter(faces, lambda face, nth: list_position(
                list_transform(faces, lambda other: (other.box, other.caption)), (face.box, face.caption)) = nth) END,
        lambda face: {'box': face.box, 'caption': face.caption, 'source_id': face.source_id}) AS faces)
FROM ordered;

CREATE TABLE sizes AS
WITH rows AS (
    SELECT * EXCLUDE (URL), first_part(URL) AS url FROM read_parquet('${folder}/part-*.parquet')
), identified AS (
    SELECT *, image_id(url) AS id FROM rows
)
SELECT id, min({'sample_id': SAMPLE_ID, 'width': WIDTH::INT, 'height': HEIGHT::INT, 'similarity': similarity::FLOAT,
                'license': LICENSE, 'nsfw': NSFW}) AS size
FROM identified WHERE id IN (SELECT id FROM images) GROUP BY id;

CREATE TABLE ranks AS SELECT id, row_number() OVER (ORDER BY key DESC, id) - 1 AS rank FROM images;

COPY (
    SELECT id, url, faces, laion_caption, NULL::VARCHAR AS image_caption, NULL::VARCHAR AS image_short_caption,
           NULL::BOOLEAN AS in_hq, size.width AS width, size.height AS height, size.nsfw AS nsfw, size.license AS license,
           size.similarity AS similarity, size.sample_id AS sample_id, rank
    FROM images JOIN ranks USING (id) LEFT JOIN sizes USING (id) ORDER BY id
) TO '${out}/candidates.parquet' (FORMAT parquet, COMPRESSION zstd);

COPY (
    SELECT id, url, rank FROM images JOIN ranks USING (id) WHERE rank < ${count} ORDER BY id
) TO '${out}/selected.parquet' (FORMAT parquet, COMPRESSION zstd);
