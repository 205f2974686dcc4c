"""Real processes: a SuperLink that only Fleet reaches from outside, its nodes, and runs on it."""
