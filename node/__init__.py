"""The agent and its surfaces: composition root, jobs, NFS, API, command line."""
