"""Real nodes: a loop that speaks Flower's Fleet calls directly, and its supervisor."""
