"""Mail: what waits for an operator."""

from collections.abc import Iterator

from console.checks.findings import Finding, Sight, check
from console.output import duration
from db import outbound


@check("unknown_mail", finds="a mail was given to its server, and nobody knows whether the server has it")
def unknown_mail(sight: Sight) -> Iterator[Finding]:
    """No mail waits for an operator to say whether it was sent."""
    found = outbound.count_unknown(sight.connection)
    for slug, count, since in found:
        age = duration(max((sight.now() - since).total_seconds(), 0.0))
        detail = (
            f"{count} mails may have been sent or not, the first for {age}: `greenroom mail unknown --tenant {slug}` "
            "lists them, then `greenroom mail resend` or `mark-sent`"
        )
        yield Finding(f"mail of {slug}", "warning", detail)
    if not found:
        yield Finding("unknown_mail", "ok", "of every mail is known whether it was sent")
