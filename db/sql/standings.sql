-- Where tasks stand that go on page by page, each on its own row, under the name of what it is.

-- name: read
SELECT metadata -> %(of)s::text FROM queue.tasks_live WHERE id = %(task_id)s;

-- name: note
-- With the page that brought it there.
UPDATE queue.tasks_live SET metadata = metadata || jsonb_build_object(%(of)s::text, %(standing)s::jsonb) WHERE id = %(task_id)s;
