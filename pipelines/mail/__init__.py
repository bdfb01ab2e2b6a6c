"""The mail pipeline: mailboxes are read into Postgres, mail is sent from it.

`parsing` makes a row's values of a mail's bytes, `threads` says which mails belong together, `html` makes a body safe
to show. All three are pure: they see no database and no network.
"""
