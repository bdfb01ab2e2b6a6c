"""What every layer shares: settings, the error tree, the service loop, back-off and the catalogue of events.

Nothing here imports another of our packages, and importing it costs a producer nothing: each module is imported where
it is used.
"""
