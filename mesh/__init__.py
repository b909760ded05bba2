"""Who is in the mesh, who may do what, who is alive and by which path. Knows nothing of ZFS."""
