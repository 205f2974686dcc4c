"""Consents and other grounds: what was given, shown, withdrawn; and who may be counted."""
