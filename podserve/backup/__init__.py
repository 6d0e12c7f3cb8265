"""Backup and restore: a snapshot of the volumes, an archive of the snapshot, and the restore."""
