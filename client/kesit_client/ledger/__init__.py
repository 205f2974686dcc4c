"""The books: approvals, charges, answers and refusals, and what restored ones lack."""
