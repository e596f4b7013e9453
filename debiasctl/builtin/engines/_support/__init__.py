"""Parts of engines: the process that runs jobs."""
