"""The sandbox for untrusted programs: its levels, the host's side of a jail, and what runs inside."""
