"""Federations on one machine: the production apps over an in-process grid."""
