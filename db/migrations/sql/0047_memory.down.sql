-- Without memories: the chunks that they are go with them.

DROP TRIGGER follow_chunks ON knowledge.chunks;
DROP TRIGGER move_memories ON knowledge.chunks;
DROP TRIGGER erase_memories ON knowledge.documents;
DROP TRIGGER hide_memories ON knowledge.documents;
DROP TRIGGER follow_end ON knowledge.memories;
DELETE FROM knowledge.documents WHERE source = 'memory' AND external_id LIKE 'memory:%';
DROP TABLE knowledge.memory_sources, knowledge.memories;
DROP FUNCTION knowledge.related_chunks(uuid, uuid, uuid, uuid[], integer, double precision), knowledge.move_memories(),
    knowledge.hide_memories(), knowledge.erase_memories(), knowledge.follow_chunks(), knowledge.follow_memory(),
    knowledge.make_due(uuid), knowledge.lock_memory(uuid);
DROP INDEX knowledge.chunks_due_idx;
REVOKE UPDATE (curated_at) ON knowledge.chunks FROM greenroom_worker, greenroom_system, greenroom_operator;
ALTER TABLE knowledge.chunks DROP COLUMN curated_at;
