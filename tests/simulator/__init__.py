"""Stand-ins for the world around a front end: model directories, workers, hub and engines."""
