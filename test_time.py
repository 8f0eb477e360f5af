"""Test-time prompt tuning: `python test_time.py`, the same as `tpt-test`; `--help` lists all settings."""

from tpt.cli.programs.opening import test_time

if __name__ == "__main__":
    test_time()
