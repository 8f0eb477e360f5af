"""The programs' settings: checks before anything is loaded, and the text of `--help`."""
