"""Lightning parts that run a method: tasks, callbacks, loggers, contact sheets."""
