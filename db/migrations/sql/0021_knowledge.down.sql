-- Back to documents without counts and comments. Products, their chunks and transcripts go.

DROP FUNCTION knowledge.find_products;
DROP TABLE knowledge.transcript_segments, knowledge.product_chunks, knowledge.products;
DO $$
DECLARE
    relation regclass;
    described text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['knowledge.embedding_models', 'knowledge.spaces', 'knowledge.collections', 'knowledge.documents',
            'knowledge.document_texts', 'knowledge.chunks', 'knowledge.chunk_vectors', 'knowledge.chunk_terms', 'knowledge.term_statistics',
            'knowledge.term_totals', 'knowledge.term_changes', 'knowledge.rag_queries']::regclass[] LOOP
        EXECUTE format('COMMENT ON TABLE %s IS NULL', relation);
        FOR described IN SELECT a.attname FROM pg_attribute a JOIN pg_description d ON d.classoid = 'pg_class'::regclass
                AND d.objoid = a.attrelid AND d.objsubid = a.attnum WHERE a.attrelid = relation LOOP
            EXECUTE format('COMMENT ON COLUMN %s.%I IS NULL', relation, described);
        END LOOP;
    END LOOP;
END
$$;
ALTER TABLE knowledge.rag_queries DROP CONSTRAINT rag_queries_top_score_check;
DROP INDEX knowledge.documents_uploaded_by_idx;
ALTER TABLE knowledge.documents DROP CONSTRAINT documents_uploaded_by_tenant_id_fkey;
ALTER TABLE knowledge.collections DROP COLUMN document_count, DROP COLUMN chunk_count;
