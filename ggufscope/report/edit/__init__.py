"""An edit, for eyes and for machines."""
