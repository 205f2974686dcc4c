"""What people may ask for, and by when it must be answered."""
