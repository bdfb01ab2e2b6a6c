"""Mail: mailboxes are polled into `mail.emails`, and what producers write there is sent (docs/mail.md)."""
