"""The programs; each module has a `main`."""
