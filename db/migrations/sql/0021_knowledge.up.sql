-- The data model: what documents lack, what it all is, product catalogues and transcripts (000, 003, 004).

-- ---------------------------------------------------------------------------------------------------- collections and documents

-- Cached: writing them with each ingest would have all ingests of a collection wait for each other, so a task counts.
ALTER TABLE knowledge.collections
    ADD COLUMN document_count integer DEFAULT 0 NOT NULL CONSTRAINT collections_document_count_check CHECK (document_count >= 0),
    ADD COLUMN chunk_count integer DEFAULT 0 NOT NULL CONSTRAINT collections_chunk_count_check CHECK (chunk_count >= 0);
UPDATE knowledge.collections c SET document_count = d.documents, chunk_count = d.chunks
FROM (SELECT collection_id, count(*) AS documents, sum(chunk_count) AS chunks FROM knowledge.documents
      WHERE deleted_at IS NULL AND collection_id IS NOT NULL GROUP BY collection_id) AS d
WHERE c.id = d.collection_id;

UPDATE knowledge.documents d SET uploaded_by = NULL
WHERE d.uploaded_by IS NOT NULL
    AND NOT EXISTS (SELECT FROM identity.users u WHERE u.id = d.uploaded_by AND u.tenant_id = d.tenant_id);
ALTER TABLE knowledge.documents ADD CONSTRAINT documents_uploaded_by_tenant_id_fkey
    FOREIGN KEY (uploaded_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (uploaded_by);
CREATE INDEX documents_uploaded_by_idx ON knowledge.documents (uploaded_by);

-- The design's 0 to 1 holds for no strategy: cosine similarities are signed, BM25 has no upper bound.
UPDATE knowledge.rag_queries SET top_score = NULL
WHERE NOT CASE strategy WHEN 'lexical' THEN top_score >= 0 ELSE top_score BETWEEN -1 AND 1 END;
ALTER TABLE knowledge.rag_queries ADD CONSTRAINT rag_queries_top_score_check
    CHECK (CASE strategy WHEN 'lexical' THEN top_score >= 0 ELSE top_score BETWEEN -1 AND 1 END);

-- ---------------------------------------------------------------------------------------------------- what there is, in words

COMMENT ON TABLE knowledge.embedding_models IS 'A model that makes vectors of texts, in one revision.';
COMMENT ON COLUMN knowledge.embedding_models.max_tokens IS 'How much of a text it reads';
COMMENT ON TABLE knowledge.spaces IS 'What is embedded, by which model. Its vectors have a partition of their own; searches read the active one.';
COMMENT ON COLUMN knowledge.spaces.kind IS 'What is embedded';
COMMENT ON COLUMN knowledge.spaces.precision IS 'What its index compares by';
COMMENT ON COLUMN knowledge.spaces.is_dropped IS 'Its partition goes next';
COMMENT ON TABLE knowledge.collections IS 'A collection of documents: a knowledge base, with how its documents are cut into chunks.';
COMMENT ON COLUMN knowledge.collections.slug IS 'Unique in the tenant among collections that are not deleted';
COMMENT ON COLUMN knowledge.collections.embedding_model IS 'The model that is wished for; vectors say theirs by their space';
COMMENT ON COLUMN knowledge.collections.chunk_size IS 'Tokens of cl100k_base';
COMMENT ON COLUMN knowledge.collections.chunk_overlap IS 'Tokens that a chunk shares with the one before';
COMMENT ON COLUMN knowledge.collections.document_count IS 'Documents that are not deleted, as last counted';
COMMENT ON COLUMN knowledge.collections.chunk_count IS 'Chunks of these documents'' current versions, as last counted';
COMMENT ON TABLE knowledge.documents IS 'A document that searches find: of a collection, a persona or neither. Its status follows from its tasks.';
COMMENT ON COLUMN knowledge.documents.external_id IS 'What it is registered by: a path, an address, a key';
COMMENT ON COLUMN knowledge.documents.name IS 'The file''s name';
COMMENT ON COLUMN knowledge.documents.title IS 'As the document itself says';
COMMENT ON COLUMN knowledge.documents.source IS 'Where it came from: an upload, a repository, an address';
COMMENT ON COLUMN knowledge.documents.file_path IS 'Where the file stands in storage';
COMMENT ON COLUMN knowledge.documents.file_size IS 'Bytes';
COMMENT ON COLUMN knowledge.documents.mime_type IS 'The file''s type, as its content shows';
COMMENT ON COLUMN knowledge.documents.language IS 'The text search configuration that its words are reduced by';
COMMENT ON COLUMN knowledge.documents.content_hash IS 'SHA-256 of the file last parsed';
COMMENT ON COLUMN knowledge.documents.current_version IS 'The version that readers see';
COMMENT ON COLUMN knowledge.documents.next_version IS 'The last version that an ingest was given';
COMMENT ON COLUMN knowledge.documents.chunk_count IS 'Of the current version';
COMMENT ON COLUMN knowledge.documents.uploaded_at IS 'When the file was last registered';
COMMENT ON TABLE knowledge.document_texts IS 'The normalised text of a document''s version, and the blocks that it is made of.';
COMMENT ON COLUMN knowledge.document_texts.tenant_id IS 'The document''s';
COMMENT ON COLUMN knowledge.document_texts.file_path IS 'The stored file that it was made of';
COMMENT ON COLUMN knowledge.document_texts.blocks IS 'Headings, paragraphs, tables: their kinds, pages and offsets in the text';
COMMENT ON TABLE knowledge.chunks IS 'A piece of a document''s version, found as a whole. Its vectors live in spaces, which say the model.';
COMMENT ON COLUMN knowledge.chunks.tenant_id IS 'The document''s';
COMMENT ON COLUMN knowledge.chunks.collection_id IS 'The document''s';
COMMENT ON COLUMN knowledge.chunks.persona_id IS 'The document''s';
COMMENT ON COLUMN knowledge.chunks.version IS 'The document''s version that it belongs to';
COMMENT ON COLUMN knowledge.chunks.chunk_index IS 'Its place in the version';
COMMENT ON COLUMN knowledge.chunks.header IS 'Title and section above it: embedded and searched with the text';
COMMENT ON COLUMN knowledge.chunks.text_hash IS 'SHA-256 of what is embedded';
COMMENT ON COLUMN knowledge.chunks.token_count IS 'Tokens of cl100k_base';
COMMENT ON COLUMN knowledge.chunks.start_offset IS 'Characters into the version''s text';
COMMENT ON COLUMN knowledge.chunks.end_offset IS 'Characters into the version''s text, exclusive';
COMMENT ON COLUMN knowledge.chunks.is_curated IS 'A summary of other chunks';
COMMENT ON COLUMN knowledge.chunks.source_chunk_ids IS 'The chunks that a curated one sums up';
COMMENT ON TABLE knowledge.chunk_vectors IS 'The vector of a chunk in a space: what a design keeps on the chunk, with the model that made it.';
COMMENT ON COLUMN knowledge.chunk_vectors.tenant_id IS 'The chunk''s';
COMMENT ON COLUMN knowledge.chunk_vectors.embedding IS 'Of the space''s dimensions';
COMMENT ON TABLE knowledge.chunk_terms IS 'The terms of a chunk with their weights before their rarity is known (BM25); kept by trigger.';
COMMENT ON COLUMN knowledge.chunk_terms.tenant_id IS 'The chunk''s';
COMMENT ON COLUMN knowledge.chunk_terms.language IS 'The document''s, when the chunk was written';
COMMENT ON COLUMN knowledge.chunk_terms.keys IS 'Its terms as numbers of its tenant';
COMMENT ON COLUMN knowledge.chunk_terms.weights IS 'By key: frequency, saturated and normalised';
COMMENT ON TABLE knowledge.term_statistics IS 'How many chunks of a tenant hold a term; lags behind by what stands in term_changes.';
COMMENT ON COLUMN knowledge.term_statistics.key IS 'The term as a number of its tenant';
COMMENT ON TABLE knowledge.term_totals IS 'How many chunks and terms a tenant has in a language; lags behind by what stands in term_changes.';
COMMENT ON TABLE knowledge.term_changes IS 'Chunks that came or went and are not counted yet: in place, all ingests of a tenant would wait for each other.';
COMMENT ON COLUMN knowledge.term_changes.chunk_count IS 'Negative where chunks went';
COMMENT ON COLUMN knowledge.term_changes.term_count IS 'Negative where chunks went';
COMMENT ON COLUMN knowledge.term_changes.keys IS 'The terms of these chunks';
COMMENT ON COLUMN knowledge.term_changes.counts IS 'By how many chunks each of them changes';
COMMENT ON TABLE knowledge.rag_queries IS 'A search that was asked, with what it found, how long it took and what its reader thought of it.';
COMMENT ON COLUMN knowledge.rag_queries.result_chunk_ids IS 'What was found, best first';
COMMENT ON COLUMN knowledge.rag_queries.result_scores IS 'Of each, in the same order';
COMMENT ON COLUMN knowledge.rag_queries.top_score IS 'What the strategy goes by, of the best';
COMMENT ON COLUMN knowledge.rag_queries.response_ms IS 'Milliseconds';

-- ---------------------------------------------------------------------------------------------------- catalogues and transcripts

CREATE TABLE knowledge.products (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    user_id uuid NOT NULL,
    catalog_id text,
    name text NOT NULL,
    description text,
    price numeric(10, 2),
    currency text DEFAULT 'USD' NOT NULL,
    sku text,
    category text,
    in_stock boolean DEFAULT true NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT products_pkey PRIMARY KEY (id),
    CONSTRAINT products_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT products_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT products_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT products_user_id_tenant_id_fkey FOREIGN KEY (user_id, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT products_catalog_id_check CHECK (length(catalog_id) <= 255),
    CONSTRAINT products_name_check CHECK (length(name) BETWEEN 1 AND 500),
    CONSTRAINT products_price_check CHECK (price >= 0),
    CONSTRAINT products_currency_check CHECK (length(currency) BETWEEN 1 AND 10),
    CONSTRAINT products_sku_check CHECK (length(sku) <= 255),
    CONSTRAINT products_category_check CHECK (length(category) <= 255)
);
CREATE INDEX products_catalog_id_idx ON knowledge.products (tenant_id, catalog_id);
CREATE INDEX products_category_idx ON knowledge.products (tenant_id, category);
CREATE INDEX products_description_tsvector_idx ON knowledge.products USING gin (to_tsvector('english', description));
CREATE UNIQUE INDEX products_external_id_key ON knowledge.products (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX products_in_stock_idx ON knowledge.products (tenant_id, in_stock);
CREATE INDEX products_metadata_idx ON knowledge.products USING gin (metadata);
CREATE INDEX products_name_tsvector_idx ON knowledge.products USING gin (to_tsvector('english', name));
CREATE INDEX products_tsvector_idx ON knowledge.products USING gin (to_tsvector('english', (name || ' ') || COALESCE(description, '')));
CREATE INDEX products_user_id_idx ON knowledge.products (user_id);
CREATE INDEX products_user_in_stock_idx ON knowledge.products (user_id, in_stock) WHERE in_stock;
COMMENT ON TABLE knowledge.products IS 'A product of a user''s catalogue.';
COMMENT ON COLUMN knowledge.products.external_id IS 'The product''s own key';
COMMENT ON COLUMN knowledge.products.catalog_id IS 'Groups what came by one upload';
COMMENT ON COLUMN knowledge.products.metadata IS 'Colour, size, material and the like';
CREATE TRIGGER touch BEFORE UPDATE ON knowledge.products FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE knowledge.product_chunks (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    product_id uuid NOT NULL,
    content text NOT NULL,
    chunk_index integer NOT NULL,
    token_count integer,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT product_chunks_pkey PRIMARY KEY (id),
    CONSTRAINT product_chunks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT product_chunks_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT product_chunks_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT product_chunks_product_id_tenant_id_fkey FOREIGN KEY (product_id, tenant_id) REFERENCES knowledge.products (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT product_chunks_content_check CHECK (content <> ''),
    CONSTRAINT product_chunks_chunk_index_check CHECK (chunk_index >= 0),
    CONSTRAINT product_chunks_token_count_check CHECK (token_count >= 0)
);
CREATE INDEX product_chunks_tenant_id_idx ON knowledge.product_chunks (tenant_id);
CREATE INDEX product_chunks_chunk_index_idx ON knowledge.product_chunks (product_id, chunk_index);
CREATE UNIQUE INDEX product_chunks_external_id_key ON knowledge.product_chunks (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX product_chunks_product_id_idx ON knowledge.product_chunks (product_id);
COMMENT ON TABLE knowledge.product_chunks IS 'A piece of what is known of a product, found as a whole. Its embedding lives in a space of its kind.';
COMMENT ON COLUMN knowledge.product_chunks.external_id IS 'The product''s own key';
COMMENT ON COLUMN knowledge.product_chunks.chunk_index IS 'Its place in the product, from 0';
COMMENT ON COLUMN knowledge.product_chunks.metadata IS 'The page or section that it comes from';

CREATE TABLE knowledge.transcript_segments (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    persona_id uuid NOT NULL,
    youtube_url text NOT NULL,
    segment_index integer NOT NULL,
    content text NOT NULL,
    timestamp_start double precision NOT NULL,
    timestamp_end double precision NOT NULL,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT transcript_segments_pkey PRIMARY KEY (id),
    CONSTRAINT transcript_segments_persona_id_youtube_url_segment_index_key UNIQUE (persona_id, youtube_url, segment_index),
    CONSTRAINT transcript_segments_order_check CHECK (timestamp_end >= timestamp_start),
    CONSTRAINT transcript_segments_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES assistants.voice_personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT transcript_segments_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT transcript_segments_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT transcript_segments_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT transcript_segments_youtube_url_check CHECK (length(youtube_url) BETWEEN 1 AND 2000),
    CONSTRAINT transcript_segments_segment_index_check CHECK (segment_index >= 0),
    CONSTRAINT transcript_segments_content_check CHECK (content <> ''),
    CONSTRAINT transcript_segments_timestamp_start_check CHECK (timestamp_start >= 0)
);
CREATE INDEX transcript_segments_tenant_id_idx ON knowledge.transcript_segments (tenant_id);
CREATE UNIQUE INDEX transcript_segments_external_id_key ON knowledge.transcript_segments (tenant_id, external_id) WHERE external_id IS NOT NULL;
COMMENT ON TABLE knowledge.transcript_segments IS 'What a persona says in a stretch of a video. Its embedding lives in a space of its kind.';
COMMENT ON COLUMN knowledge.transcript_segments.external_id IS 'The product''s own key';
COMMENT ON COLUMN knowledge.transcript_segments.segment_index IS 'Its place in the video, from 0';
COMMENT ON COLUMN knowledge.transcript_segments.timestamp_start IS 'Seconds into the video';
COMMENT ON COLUMN knowledge.transcript_segments.timestamp_end IS 'Seconds into the video';

-- Products of one tenant, and of the user that the transaction acts for, whose name and description together hold the words of
-- a query (as websearch_to_tsquery reads it) and whose metadata holds what is asked for, best first. Takes the tenant explicitly
-- and runs as the owner: neither operator is leakproof, so row security would keep its index from being used.
CREATE FUNCTION knowledge.find_products(tenant uuid, query_text text DEFAULT NULL, metadata jsonb DEFAULT NULL,
        in_stock boolean DEFAULT NULL, "limit" integer DEFAULT 20)
    RETURNS SETOF knowledge.products LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    query CONSTANT tsquery := websearch_to_tsquery('english', query_text);
    acting CONSTANT uuid := identity.current_user_id();
BEGIN
    IF identity.current_tenant_id() IS DISTINCT FROM tenant THEN
        RAISE EXCEPTION 'search of a tenant that this transaction is not bound to' USING ERRCODE = '42501',
            HINT = 'Set app.current_tenant_id for the transaction.';
    END IF;
    RETURN QUERY
    SELECT p.* FROM (
        SELECT f.* FROM knowledge.products f
        WHERE f.tenant_id = tenant AND (acting IS NULL OR f.user_id = acting)
            AND (query IS NULL OR to_tsvector('english', (f.name || ' ') || COALESCE(f.description, '')) @@ query)
            AND (find_products.metadata IS NULL OR f.metadata @> find_products.metadata)
            AND (find_products.in_stock IS NULL OR f.in_stock = find_products.in_stock)
        OFFSET 0 -- or the planner goes by the order of ids until it has enough
    ) AS p
    ORDER BY ts_rank(to_tsvector('english', (p.name || ' ') || COALESCE(p.description, '')), query) DESC, p.id
    LIMIT "limit";
END
$$;

-- ---------------------------------------------------------------------------------------------------- row security and grants

SELECT ops.bind_to_tenant('knowledge.products', 'knowledge.product_chunks', 'knowledge.transcript_segments');
-- A user sees what its own products and personas are made of.
SELECT ops.bind_to_user('knowledge.products');
SELECT ops.bind_to_user('knowledge.product_chunks', 'EXISTS (SELECT FROM knowledge.products p '
    'WHERE p.id = product_chunks.product_id AND p.user_id = (SELECT identity.current_user_id()))');
SELECT ops.bind_to_user('knowledge.transcript_segments', 'EXISTS (SELECT FROM assistants.voice_personas p '
    'WHERE p.id = transcript_segments.persona_id AND p.user_id = (SELECT identity.current_user_id()))');
REVOKE EXECUTE ON FUNCTION knowledge.find_products FROM PUBLIC;
GRANT EXECUTE ON FUNCTION knowledge.find_products TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
