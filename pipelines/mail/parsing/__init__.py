"""From a mail's bytes to what `mail.emails` and `mail.attachments` hold.

`message` is the whole of it. `tree` finds the parts in the bytes, `fields` and `values` read headers, `addresses` who
it is from and to, `bodies` what is text and what is a file; `transfer` and `charsets` undo encodings; `names` and
`kinds` say what a file is called and what it is; `verdicts` tells bounces and auto-replies.

Invariant: no bytes make it raise, and its cost grows with their number alone: what would cost more is left out, and
`problems` says so. The parts are found here and not by `email`'s parser, since that keeps an object for each line:
50 MB of short lines took it 41 s and 2 GB (2026-11), and attached mails would not come out as they went in.
"""

from pipelines.mail.parsing.message import parse, parse_headers
from pipelines.mail.parsing.types import MailLimits, ParsedAttachment, ParsedMail

__all__ = ["MailLimits", "ParsedAttachment", "ParsedMail", "parse", "parse_headers"]
