"""Test-time prompt tuning: `python test_time.py`, the same as `tpt-test`; `--help` lists all settings."""

from tpt.programs.test_time import main

if __name__ == "__main__":
    main()
