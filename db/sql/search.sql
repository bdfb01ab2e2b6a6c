-- Search. Every query runs in a transaction that is bound to one tenant.

-- name: search
SELECT chunk_id, document_id, document_name, chunk_index, page, section, text, score, similarity, words, highlight
FROM knowledge.search(%(tenant_id)s, %(text)s, %(vector)s::vector, %(space_id)s, %(strategy)s, %(limit)s, %(collection_id)s,
    %(persona_id)s, %(document_ids)s::uuid[], %(metadata)s, %(uploaded_from)s, %(uploaded_before)s, %(is_curated)s);

-- name: surroundings
SELECT c.id, substring(t.text FROM near.first + 1 FOR near.last - near.first)
FROM knowledge.chunks c
JOIN knowledge.document_texts t ON t.document_id = c.document_id AND t.version = c.version
CROSS JOIN LATERAL (
    SELECT min(n.start_offset) AS first, max(n.end_offset) AS last FROM knowledge.chunks n
    WHERE n.document_id = c.document_id AND n.version = c.version
        AND n.chunk_index BETWEEN c.chunk_index - %(around)s AND c.chunk_index + %(around)s
) AS near
WHERE c.id = ANY (%(chunk_ids)s);

-- name: log_query
INSERT INTO knowledge.rag_queries (tenant_id, collection_id, query_text, result_chunk_ids, result_scores, top_score, strategy, filters,
    response_ms)
VALUES (%(tenant_id)s, %(collection_id)s, %(text)s, %(chunk_ids)s, %(scores)s, %(top_score)s, %(strategy)s, %(filters)s, %(response_ms)s)
RETURNING id;

-- name: give_feedback
UPDATE knowledge.rag_queries SET feedback = %(feedback)s WHERE id = %(id)s;

-- name: count_terms
SELECT knowledge.count_terms(%(tenant_id)s);
