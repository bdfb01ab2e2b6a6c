-- Rows that go say nothing of their files.

DO $$
DECLARE
    owning record;
BEGIN
    FOR owning IN SELECT * FROM ops.file_columns() LOOP
        EXECUTE format('DROP TRIGGER release_files ON %s', owning.relation);
        EXECUTE format('DROP TRIGGER release_former ON %s', owning.relation);
    END LOOP;
END
$$;
DROP FUNCTION ops.release_files;
DROP TABLE ops.released_files;
DROP INDEX knowledge.documents_file_key_idx, knowledge.document_texts_file_key_idx, mail.attachments_file_key_idx;
DROP FUNCTION ops.named_files, ops.is_file_named, ops.file_columns;
