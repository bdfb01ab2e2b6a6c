DO $$
DECLARE
    finding CONSTANT text := pg_get_functiondef('ops.tenant_tables'::regproc);
    found CONSTANT text := replace(finding, $q$ AND c.oid <> 'ops.archives'::regclass$q$, '');
BEGIN
    ASSERT found <> finding, 'ops.tenant_tables is another one';
    EXECUTE found;
END
$$;

DROP FUNCTION ops.keep_holds(text[]);
DROP FUNCTION ops.holds_on(text[]);
DROP FUNCTION ops.hold_archived(text, name[], jsonb);
DROP FUNCTION ops.hash_archived(text, name[], jsonb);
DROP FUNCTION ops.archived_rows(text, name[]);

DROP FUNCTION ops.await_deletions();
DROP TRIGGER forget_deleted ON identity.users;
DROP TRIGGER forget_deleted ON people.persons;
DROP TRIGGER forget_deleted ON assistants.clients;
DROP TRIGGER forget_deleted ON assistants.personas;
DROP TRIGGER forget_deleted ON knowledge.documents;
DROP FUNCTION ops.forget_deleted();
