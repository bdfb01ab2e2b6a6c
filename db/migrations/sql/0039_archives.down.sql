DO $$
BEGIN
    EXECUTE replace(pg_get_functiondef('ops.check_retention_policy'::regproc),
        $q$WHERE i.indrelid = relation AND i.indisprimary) AND NEW.table_schema <> 'queue')$q$, 'WHERE i.indrelid = relation AND i.indisprimary))');
END
$$;
DROP FUNCTION ops.drop_archived, ops.empty_with_all, ops.empty_archive, ops.check_stage, ops.archive_stage, ops.archive_blocks,
    ops.gather_archive, ops.archive_follow, ops.archive_steps, ops.archive_list, ops.archive_files, ops.archives_whole, ops.archive_month, ops.archive_scope,
    ops.archive_subjects_of, ops.subject_columns, ops.row_hash, ops.archive_columns;
DROP TABLE ops.archive_subjects, ops.archives;
