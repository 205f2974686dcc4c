"""A real coordinator: its folder, its certificates, and its members."""
