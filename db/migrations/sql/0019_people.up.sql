-- The data model: individuals, what was observed and written about them, and the personas that mapper rules generate from it.

CREATE SCHEMA people;

CREATE TABLE people.persons (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    external_id text,
    display_name text,
    metadata jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT persons_pkey PRIMARY KEY (id),
    CONSTRAINT persons_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persons_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persons_external_id_check CHECK (length(external_id) BETWEEN 1 AND 255),
    CONSTRAINT persons_display_name_check CHECK (length(display_name) <= 255)
);
CREATE INDEX persons_tenant_id_idx ON people.persons (tenant_id);
CREATE INDEX persons_deleted_at_idx ON people.persons (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE UNIQUE INDEX persons_external_id_key ON people.persons (tenant_id, external_id) WHERE external_id IS NOT NULL;
COMMENT ON TABLE people.persons IS 'An individual whom observations, narratives and generated personas are about; all of them go with the row.';
COMMENT ON COLUMN people.persons.external_id IS 'The product''s own key';
CREATE TRIGGER touch BEFORE UPDATE ON people.persons FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE people.observations (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    person_id uuid NOT NULL,
    observation_type text NOT NULL,
    content jsonb NOT NULL,
    metadata jsonb,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT observations_pkey PRIMARY KEY (id),
    CONSTRAINT observations_person_id_tenant_id_fkey FOREIGN KEY (person_id, tenant_id) REFERENCES people.persons (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT observations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT observations_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT observations_observation_type_check CHECK (length(observation_type) BETWEEN 1 AND 50),
    CONSTRAINT observations_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX observations_tenant_id_idx ON people.observations (tenant_id);
CREATE INDEX observations_created_by_idx ON people.observations (created_by);
CREATE INDEX observations_person_created_idx ON people.observations (person_id, created_at DESC);
COMMENT ON TABLE people.observations IS 'Raw input about a person from one source: a work session, what a user said, a calendar''s event.';
COMMENT ON COLUMN people.observations.content IS 'In the form of its type';
COMMENT ON COLUMN people.observations.metadata IS 'Source, context';

CREATE TABLE people.mindscapes (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    person_id uuid NOT NULL,
    traits jsonb DEFAULT '{}' NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT mindscapes_pkey PRIMARY KEY (id),
    CONSTRAINT mindscapes_person_id_tenant_id_fkey FOREIGN KEY (person_id, tenant_id) REFERENCES people.persons (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT mindscapes_person_id_key UNIQUE (person_id),
    CONSTRAINT mindscapes_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mindscapes_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT mindscapes_traits_check CHECK (jsonb_typeof(traits) = 'object')
);
CREATE INDEX mindscapes_tenant_id_idx ON people.mindscapes (tenant_id);
COMMENT ON TABLE people.mindscapes IS 'A person''s traits and patterns, gathered from what was observed and written; one a person.';
COMMENT ON COLUMN people.mindscapes.traits IS 'A tree; a path of it is written with dots';
COMMENT ON COLUMN people.mindscapes.version IS 'Counts changes; whoever writes it writes the one that was read';
CREATE TRIGGER check_version BEFORE UPDATE ON people.mindscapes FOR EACH ROW EXECUTE FUNCTION ops.check_version();
CREATE TRIGGER touch BEFORE UPDATE ON people.mindscapes FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE people.narratives (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    person_id uuid NOT NULL,
    narrative_type text NOT NULL,
    raw_text text NOT NULL,
    curated_text text,
    tags text[],
    context jsonb,
    trait_path text,
    curation_action jsonb,
    source text,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT narratives_pkey PRIMARY KEY (id),
    CONSTRAINT narratives_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT narratives_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT narratives_person_id_tenant_id_fkey FOREIGN KEY (person_id, tenant_id) REFERENCES people.persons (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT narratives_narrative_type_check CHECK (narrative_type IN ('self_observation', 'curation')),
    CONSTRAINT narratives_trait_path_check CHECK (length(trait_path) BETWEEN 1 AND 500),
    CONSTRAINT narratives_source_check CHECK (length(source) <= 100),
    CONSTRAINT narratives_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX narratives_created_by_idx ON people.narratives (created_by);
CREATE INDEX narratives_person_id_idx ON people.narratives (person_id);
CREATE INDEX narratives_tags_idx ON people.narratives USING gin (tags);
CREATE INDEX narratives_type_idx ON people.narratives (tenant_id, narrative_type);
COMMENT ON TABLE people.narratives IS 'What a person wrote, or how one of their traits was curated. Its embedding lives in a space.';
COMMENT ON COLUMN people.narratives.raw_text IS 'As it was put in';
COMMENT ON COLUMN people.narratives.curated_text IS 'Refined from raw_text';
COMMENT ON COLUMN people.narratives.trait_path IS 'Of a curation: the trait, with dots';
COMMENT ON COLUMN people.narratives.curation_action IS 'Of a curation: what was done';
CREATE TRIGGER touch BEFORE UPDATE ON people.narratives FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE people.trait_narrative_links (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    narrative_id uuid NOT NULL,
    trait_path text NOT NULL,
    link_type text NOT NULL,
    confidence double precision,
    metadata jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT trait_narrative_links_pkey PRIMARY KEY (id),
    CONSTRAINT trait_narrative_links_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT trait_narrative_links_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT trait_narrative_links_narrative_id_tenant_id_fkey FOREIGN KEY (narrative_id, tenant_id) REFERENCES people.narratives (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT trait_narrative_links_trait_path_check CHECK (length(trait_path) BETWEEN 1 AND 500),
    CONSTRAINT trait_narrative_links_link_type_check CHECK (link_type IN ('extracted_from', 'curates', 'supports', 'contradicts')),
    CONSTRAINT trait_narrative_links_confidence_check CHECK (confidence BETWEEN 0 AND 1)
);
CREATE INDEX trait_narrative_links_narrative_id_idx ON people.trait_narrative_links (narrative_id);
CREATE INDEX trait_narrative_links_trait_idx ON people.trait_narrative_links (tenant_id, trait_path);
COMMENT ON TABLE people.trait_narrative_links IS 'How a narrative bears on a trait.';
COMMENT ON COLUMN people.trait_narrative_links.trait_path IS 'In a mindscape''s traits, with dots';

CREATE TABLE people.mapper_configs (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    config_id text NOT NULL,
    version integer DEFAULT 0 NOT NULL,
    configuration jsonb NOT NULL,
    status text DEFAULT 'draft' NOT NULL,
    created_by uuid,
    usage_count integer DEFAULT 0 NOT NULL,
    metadata jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT mapper_configs_pkey PRIMARY KEY (id),
    CONSTRAINT mapper_configs_tenant_id_config_id_version_key UNIQUE (tenant_id, config_id, version),
    CONSTRAINT mapper_configs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT mapper_configs_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT mapper_configs_config_id_check CHECK (length(config_id) BETWEEN 1 AND 255),
    CONSTRAINT mapper_configs_version_check CHECK (version >= 1),
    CONSTRAINT mapper_configs_configuration_check CHECK (jsonb_typeof(configuration) = 'object'),
    CONSTRAINT mapper_configs_status_check CHECK (status IN ('draft', 'active', 'deprecated')),
    CONSTRAINT mapper_configs_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by),
    CONSTRAINT mapper_configs_usage_count_check CHECK (usage_count >= 0)
);
CREATE UNIQUE INDEX mapper_configs_active_key ON people.mapper_configs (tenant_id, config_id) WHERE status = 'active';
CREATE INDEX mapper_configs_created_by_idx ON people.mapper_configs (created_by);
CREATE INDEX mapper_configs_status_idx ON people.mapper_configs (tenant_id, status);
COMMENT ON TABLE people.mapper_configs IS 'A version of the rules by which personas are generated from traits; at most one version is active.';
COMMENT ON COLUMN people.mapper_configs.config_id IS 'What all versions of it are known by';
COMMENT ON COLUMN people.mapper_configs.version IS 'A trigger puts the next number for 0';
COMMENT ON COLUMN people.mapper_configs.configuration IS 'Metadata, rules and templates in the mapper''s form';
COMMENT ON COLUMN people.mapper_configs.usage_count IS 'Personas that it generated';
CREATE TRIGGER touch BEFORE UPDATE ON people.mapper_configs FOR EACH ROW EXECUTE FUNCTION ops.touch_updated_at();

CREATE TABLE people.personas (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    person_id uuid NOT NULL,
    mapper_id uuid,
    mapper_config_id text,
    mapper_version integer,
    core jsonb NOT NULL,
    overlay jsonb,
    metadata jsonb,
    expires_at timestamptz DEFAULT now() + interval '24 hours',
    expired_at timestamptz,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT personas_pkey PRIMARY KEY (id),
    CONSTRAINT personas_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT personas_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT personas_person_id_tenant_id_fkey FOREIGN KEY (person_id, tenant_id) REFERENCES people.persons (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT personas_mapper_id_tenant_id_fkey FOREIGN KEY (mapper_id, tenant_id) REFERENCES people.mapper_configs (id, tenant_id) ON DELETE NO ACTION,
    CONSTRAINT personas_mapper_config_id_check CHECK (length(mapper_config_id) <= 255),
    CONSTRAINT personas_mapper_version_check CHECK (mapper_version >= 1),
    CONSTRAINT personas_expired_at_check CHECK (expired_at >= expires_at),
    CONSTRAINT personas_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX personas_tenant_id_idx ON people.personas (tenant_id);
CREATE INDEX personas_created_by_idx ON people.personas (created_by);
CREATE INDEX personas_expires_at_idx ON people.personas (expires_at);
CREATE INDEX personas_mapper_id_idx ON people.personas (mapper_id);
CREATE INDEX personas_person_id_idx ON people.personas (person_id);
CREATE INDEX personas_unmarked_idx ON people.personas (expires_at) WHERE expired_at IS NULL;
COMMENT ON TABLE people.personas IS 'A persona generated from a person''s mindscape, good until it expires; kept after that, marked as expired.';
COMMENT ON COLUMN people.personas.mapper_config_id IS 'The mapper''s config_id';
COMMENT ON COLUMN people.personas.mapper_version IS 'The mapper''s version';
COMMENT ON COLUMN people.personas.core IS 'Of traits that change seldom';
COMMENT ON COLUMN people.personas.overlay IS 'Of the state of the moment';
COMMENT ON COLUMN people.personas.metadata IS 'How it was generated: tokens, duration';
COMMENT ON COLUMN people.personas.expires_at IS 'Never, where it is NULL; people.is_expired looks at it';
COMMENT ON COLUMN people.personas.expired_at IS 'When it was marked as expired';

CREATE TABLE people.persona_narrative_usage (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid NOT NULL,
    narrative_id uuid NOT NULL,
    usage_type text NOT NULL,
    relevance_score double precision,
    usage_context jsonb,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT persona_narrative_usage_pkey PRIMARY KEY (id),
    CONSTRAINT persona_narrative_usage_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT persona_narrative_usage_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT persona_narrative_usage_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES people.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_narrative_usage_narrative_id_tenant_id_fkey FOREIGN KEY (narrative_id, tenant_id) REFERENCES people.narratives (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT persona_narrative_usage_usage_type_check CHECK (length(usage_type) BETWEEN 1 AND 50),
    CONSTRAINT persona_narrative_usage_relevance_score_check CHECK (relevance_score BETWEEN 0 AND 1)
);
CREATE INDEX persona_narrative_usage_tenant_id_idx ON people.persona_narrative_usage (tenant_id);
CREATE INDEX persona_narrative_usage_narrative_id_idx ON people.persona_narrative_usage (narrative_id);
CREATE INDEX persona_narrative_usage_persona_id_idx ON people.persona_narrative_usage (persona_id);
COMMENT ON TABLE people.persona_narrative_usage IS 'A narrative that went into the generation of a persona.';

CREATE TABLE people.feedback (
    id uuid DEFAULT ops.uuid_v7() NOT NULL,
    tenant_id uuid NOT NULL,
    persona_id uuid,
    rating integer,
    helpful boolean,
    context jsonb,
    rule_id text,
    mapper_version integer,
    created_by uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT feedback_pkey PRIMARY KEY (id),
    CONSTRAINT feedback_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES identity.tenants (id) ON DELETE CASCADE,
    CONSTRAINT feedback_id_tenant_id_key UNIQUE (id, tenant_id),
    CONSTRAINT feedback_persona_id_tenant_id_fkey FOREIGN KEY (persona_id, tenant_id) REFERENCES people.personas (id, tenant_id) ON DELETE CASCADE,
    CONSTRAINT feedback_rating_check CHECK (rating >= 1 AND rating <= 5),
    CONSTRAINT feedback_rule_id_check CHECK (length(rule_id) <= 255),
    CONSTRAINT feedback_mapper_version_check CHECK (mapper_version >= 1),
    CONSTRAINT feedback_created_by_tenant_id_fkey FOREIGN KEY (created_by, tenant_id) REFERENCES identity.users (id, tenant_id) ON DELETE SET NULL (created_by)
);
CREATE INDEX feedback_created_at_idx ON people.feedback (tenant_id, created_at DESC);
CREATE INDEX feedback_created_by_idx ON people.feedback (created_by);
CREATE INDEX feedback_persona_id_idx ON people.feedback (persona_id);
COMMENT ON TABLE people.feedback IS 'What a user thought of a generated persona or of one rule''s suggestion.';
COMMENT ON COLUMN people.feedback.rating IS '1 to 5 stars';
COMMENT ON COLUMN people.feedback.context IS 'The task at hand, further remarks';
COMMENT ON COLUMN people.feedback.rule_id IS 'The mapper''s rule that made the suggestion';

-- ---------------------------------------------------------------------------------------------------- functions

-- Give a mapper's new version the next number of its config_id where its writer leaves that open (0); one that is given stays, so
-- that a version can be written twice ON CONFLICT DO NOTHING. Writers of one config_id wait for each other: two that read the same
-- highest number would break the key.
CREATE FUNCTION people.number_mapper() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('mapper ' || NEW.tenant_id::text || ' ' || NEW.config_id, 0));
    IF NEW.version = 0 THEN
        NEW.version := (SELECT COALESCE(max(m.version), 0) + 1 FROM people.mapper_configs m
            WHERE m.tenant_id = NEW.tenant_id AND m.config_id = NEW.config_id);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER number BEFORE INSERT ON people.mapper_configs FOR EACH ROW EXECUTE FUNCTION people.number_mapper();

-- Whether a persona has expired, marked as such or not: SELECT people.is_expired(p) FROM people.personas p.
CREATE FUNCTION people.is_expired(persona people.personas) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT persona.expired_at IS NOT NULL OR COALESCE(persona.expires_at <= now(), false)
$$;

-- ---------------------------------------------------------------------------------------------------- row security and grants

GRANT USAGE ON SCHEMA people TO greenroom_worker, greenroom_system, greenroom_operator, greenroom_reader;
SELECT ops.bind_to_tenant('people.persons', 'people.observations', 'people.mindscapes', 'people.narratives',
    'people.trait_narrative_links', 'people.mapper_configs', 'people.personas', 'people.persona_narrative_usage', 'people.feedback');
