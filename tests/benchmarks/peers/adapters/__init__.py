"""One module a peer, run as a process: `python -m tests.benchmarks.peers.adapters.<peer> <command> <arguments>`."""
