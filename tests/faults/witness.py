"""A witness in the database: it notes each attempt that leaves its lease while that is valid.

Its own worker may do that at any time; rescue must not (I3), and `checks` tells the two apart by what was recorded.
"""

_NOTE = """
CREATE FUNCTION public.note_left_lease() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF OLD.lease_until > clock_timestamp() THEN
        INSERT INTO public.left_leases (task_id, claim_number) VALUES (OLD.id, OLD.claim_number);
    END IF;
    RETURN NULL;
END $$
"""
WITNESS = (
    "CREATE TABLE public.left_leases (task_id uuid NOT NULL, claim_number integer NOT NULL)",
    _NOTE,
    """CREATE TRIGGER witness_of_updates AFTER UPDATE ON queue.tasks_live FOR EACH ROW
        WHEN (OLD.status = 'in_progress' AND NEW.status <> 'in_progress') EXECUTE FUNCTION public.note_left_lease()""",
    """CREATE TRIGGER witness_of_ends AFTER DELETE ON queue.tasks_live FOR EACH ROW
        WHEN (OLD.status = 'in_progress') EXECUTE FUNCTION public.note_left_lease()""",
)
