"""What an owner decides and does: policy, pins, approvals, keys, checks, backups."""
