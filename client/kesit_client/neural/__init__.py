"""Trainings with Opacus (the extra `neural`)."""
