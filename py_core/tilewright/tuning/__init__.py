"""Times kernel candidates on the device at hand and keeps the fastest correct one."""
