"""Released results on the client's own customers."""
