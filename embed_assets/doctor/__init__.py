"""Find damage in the tables, name it, and mend what can be mended."""
