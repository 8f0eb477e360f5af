"""Settings of the programs, checked before anything is loaded, and what `--help` says of them."""
