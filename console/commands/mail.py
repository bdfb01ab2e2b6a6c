"""`greenroom mail`: what came and what was sent."""

import typer

from console.commands import mail_out

app = typer.Typer(help="Mail: what its server may have or not.", no_args_is_help=True)
app.command("unknown")(mail_out.unknown)
app.command("resend")(mail_out.resend)
app.command("mark-sent")(mail_out.mark_sent)
