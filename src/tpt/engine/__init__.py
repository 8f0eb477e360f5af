"""Lightning around a method: tasks, callbacks, loggers, contact sheets."""
