"""A real coordinator: its folder, certificates and members, its server process, and runs on it."""
