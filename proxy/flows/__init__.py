"""RUN: one request or job, end to end; asks core, uses remote and store."""
