-- Individuals go, and all that is known about them.

DROP FUNCTION people.is_expired;
DROP TABLE people.feedback, people.persona_narrative_usage, people.personas, people.mapper_configs, people.trait_narrative_links,
    people.narratives, people.mindscapes, people.observations, people.persons;
DROP FUNCTION people.number_mapper;
DROP SCHEMA people;
