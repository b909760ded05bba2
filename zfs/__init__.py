"""The words of ZFS, its errors, and the one door to it. Knows nothing of meshes, policies or replication."""
