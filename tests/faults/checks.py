"""What must hold once every task has ended. Each check returns a sentence for each row that breaks it."""

from tests.support.database import Database

_CHECKS = {
    "has not ended": "SELECT id, status FROM queue.tasks_live",
    "is done, and its effect does not stand exactly once": """
        SELECT t.id, count(e.*) FROM queue.tasks_history t LEFT JOIN public.effects e ON e.task_id = t.id
        WHERE t.status = 'done' AND t.task_type LIKE 'fault.%' GROUP BY t.id HAVING count(e.*) <> 1""",
    "did not end as done, and has an effect": """
        SELECT t.id, t.status FROM queue.tasks_history t
        WHERE t.status <> 'done' AND EXISTS (SELECT FROM public.effects e WHERE e.task_id = t.id)""",
    # A lease that was lost was no right to write any more, even where the rightful attempt then could not.
    "has the effect of an attempt that is not its last": """
        SELECT t.id, e.attempt, t.attempts FROM queue.tasks_history t JOIN public.effects e ON e.task_id = t.id
        WHERE e.attempt <> t.attempts""",
    "has an effect and is no task": """
        SELECT e.task_id FROM public.effects e
        WHERE NOT EXISTS (SELECT FROM queue.outbox_tasks t WHERE t.id = e.task_id)""",
    "failed, and not for its maximum of kills": """
        SELECT t.id, t.attempts, t.last_error FROM queue.tasks_history t
        WHERE t.status <> 'done' AND t.task_type LIKE 'fault.%' AND (
            t.status <> 'failed' OR t.attempts <> t.max_attempts OR t.max_attempts <>
                (SELECT count(*) FROM queue.attempts a WHERE a.task_id = t.id AND a.outcome = 'lost'))""",
    # I3: nobody else may begin while a lease is valid.
    "was taken from its worker under a valid lease": """
        SELECT l.task_id, l.claim_number FROM public.left_leases l JOIN queue.attempts a
            ON a.task_id = l.task_id AND a.claim_number = l.claim_number AND a.outcome = 'lost'""",
    "is poison, and did not fail": """
        SELECT t.id, t.status FROM queue.tasks_history t WHERE t.task_type = 'fault.poison' AND t.status <> 'failed'""",
    # A hand-back or a snooze costs no attempt, and its number comes again.
    "has attempts that are not each recorded once": """
        SELECT t.id, t.status, t.attempts, array_agg(a.number ORDER BY a.number) FROM queue.tasks_history t
        LEFT JOIN queue.attempts a ON a.task_id = t.id AND a.outcome NOT IN ('handed_back', 'snooze')
        GROUP BY t.id, t.status, t.attempts
        HAVING array_remove(array_agg(a.number ORDER BY a.number), NULL) <> ARRAY(
            SELECT generate_series(1, t.attempts - (t.status = 'done')::integer))""",
}

_DOCUMENT_CHECKS = {
    "is a document that is not completed": """
        SELECT d.name, d.status, d.error_message FROM knowledge.documents d
        WHERE d.status <> 'completed' OR d.chunk_count = 0""",
    "is a document whose chunks are not all of its one version": """
        SELECT d.name, d.current_version, d.chunk_count, array_agg(DISTINCT c.version), count(*)
        FROM knowledge.documents d LEFT JOIN knowledge.chunks c ON c.document_id = d.id
        GROUP BY d.id HAVING count(*) <> d.chunk_count OR array_agg(DISTINCT c.version) <> ARRAY[d.current_version]""",
    "is a document with chunks without a vector": """
        SELECT d.name, c.chunk_index FROM knowledge.documents d JOIN knowledge.chunks c ON c.document_id = d.id
        WHERE NOT EXISTS (SELECT FROM knowledge.chunk_vectors v JOIN knowledge.spaces s ON s.id = v.space_id
            WHERE v.chunk_id = c.id AND s.is_active)""",
}


def violations(database: Database) -> list[str]:
    """Return what is wrong with the tasks, their effects and attempts, and the documents."""
    found = []
    for problem, query in (_CHECKS | _DOCUMENT_CHECKS).items():
        for first, *facts in database.rows(query):
            found.append(f"{first} {problem} {facts or ''}".rstrip())
    return found


def documents(database: Database) -> int:
    """Return how many documents there are."""
    return int(database.value("SELECT count(*) FROM knowledge.documents"))


def ended(database: Database, task_type: str) -> int:
    """Return how many tasks of a type have ended."""
    query = "SELECT count(*) FROM queue.tasks_history WHERE task_type = %s"
    return int(database.value(query, (task_type,)))


def lost_attempts(database: Database) -> int:
    """Return how many attempts ended because their lease did."""
    return int(database.value("SELECT count(*) FROM queue.attempts WHERE outcome = 'lost'"))
