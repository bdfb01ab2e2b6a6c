-- Stored files go with the last row that names them, whoever deletes it: a product, a policy, a cascade. Triggers note the keys, a task
-- removes what nobody names any more.

-- ---------------------------------------------------------------------------------------------------- who names files

-- Columns whose values are keys of stored files, each with the column that says whose. A file goes when none of them has its key.
CREATE FUNCTION ops.file_columns() RETURNS TABLE (relation regclass, key_column name, tenant_column name) LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
    VALUES ('knowledge.documents'::regclass, 'file_path'::name, 'tenant_id'::name),
        ('knowledge.document_texts'::regclass, 'file_path'::name, 'tenant_id'::name),
        ('mail.attachments'::regclass, 'file_path'::name, 'tenant_id'::name)
$$;
COMMENT ON FUNCTION ops.file_columns IS 'Columns that hold keys of stored files: a file goes with the last row that names it.';

-- Whether a row names a stored file. Hold the file's lock, and ask in a statement of its own.
CREATE FUNCTION ops.is_file_named(tenant uuid, key text) RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owning record;
    is_named boolean;
BEGIN
    FOR owning IN SELECT * FROM ops.file_columns() LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s r WHERE r.%I = $1 AND r.%I = $2)', owning.relation, owning.tenant_column,
            owning.key_column) INTO is_named USING tenant, key;
        IF is_named THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END
$$;
COMMENT ON FUNCTION ops.is_file_named IS 'Whether any row names a stored file.';

-- The next keys behind one that rows name, in the order of their bytes, which is the storage's; up to `before`, where it is given.
CREATE FUNCTION ops.named_files(after text, before text, most integer) RETURNS TABLE (tenant_id uuid, key text) LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pages CONSTANT text := (
        SELECT string_agg(format('(SELECT DISTINCT r.%2$I, r.%1$I COLLATE "C" FROM %3$s r WHERE r.%1$I COLLATE "C" > %4$L %5$s '
            'ORDER BY r.%1$I COLLATE "C" LIMIT %6$L)', c.key_column, c.tenant_column, c.relation, after,
            CASE WHEN before IS NOT NULL THEN format('AND r.%1$I COLLATE "C" < %2$L', c.key_column, before) END, most), ' UNION ')
        FROM ops.file_columns() c);
BEGIN
    RETURN QUERY EXECUTE format('SELECT * FROM (%s) AS f (tenant_id, key) ORDER BY f.key COLLATE "C", f.tenant_id LIMIT %L', pages, most);
END
$$;
COMMENT ON FUNCTION ops.named_files IS 'A page of the keys that rows name, in the order of their bytes.';

CREATE INDEX documents_file_key_idx ON knowledge.documents ((file_path COLLATE "C"));
CREATE INDEX document_texts_file_key_idx ON knowledge.document_texts ((file_path COLLATE "C"));
CREATE INDEX attachments_file_key_idx ON mail.attachments ((file_path COLLATE "C"));

-- ---------------------------------------------------------------------------------------------------- what they named

-- Notes are only added, so whoever deletes waits for nobody; what is removed is asked of the rows, not of their number.
CREATE TABLE ops.released_files (
    id bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
    tenant_id uuid NOT NULL,
    key text NOT NULL,
    key_hash bigint GENERATED ALWAYS AS (hashtextextended(key, 0)) STORED,
    released_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT released_files_pkey PRIMARY KEY (id),
    CONSTRAINT released_files_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT released_files_released_at_range_check CHECK (released_at >= '0002-01-01 00:00+00' AND released_at < '9999-01-01 00:00+00')
);
-- By the key's hash: it may be longer than an index takes, and no delete is to fail of that.
CREATE INDEX released_files_key_idx ON ops.released_files (tenant_id, key_hash);
COMMENT ON TABLE ops.released_files IS 'A stored file that a row named which is gone; it is removed unless another names it.';
COMMENT ON COLUMN ops.released_files.key IS 'Where it stands in storage';
SELECT ops.bind_to_tenant('ops.released_files');

-- Note the files of rows that were deleted, or of one that has another now. Those of a deleted tenant go with its folder.
CREATE FUNCTION ops.release_files() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO ops.released_files (tenant_id, key)
        SELECT DISTINCT g.tenant_id, g.file_path FROM gone g JOIN identity.tenants t ON t.id = g.tenant_id
        WHERE g.file_path IS NOT NULL AND t.status <> 'deleted';
    ELSE
        INSERT INTO ops.released_files (tenant_id, key)
        SELECT t.id, OLD.file_path FROM identity.tenants t WHERE t.id = OLD.tenant_id AND t.status <> 'deleted';
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    owning record;
BEGIN
    FOR owning IN SELECT * FROM ops.file_columns() LOOP
        EXECUTE format('CREATE TRIGGER release_files AFTER DELETE ON %s REFERENCING OLD TABLE AS gone '
            'FOR EACH STATEMENT EXECUTE FUNCTION ops.release_files()', owning.relation);
        EXECUTE format('CREATE TRIGGER release_former AFTER UPDATE OF %2$I ON %1$s FOR EACH ROW '
            'WHEN (OLD.%2$I IS NOT NULL AND OLD.%2$I IS DISTINCT FROM NEW.%2$I) EXECUTE FUNCTION ops.release_files()',
            owning.relation, owning.key_column);
    END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION ops.file_columns, ops.is_file_named, ops.named_files, ops.release_files FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ops.file_columns, ops.is_file_named TO greenroom_worker, greenroom_system, greenroom_operator;
GRANT EXECUTE ON FUNCTION ops.named_files TO greenroom_system;
