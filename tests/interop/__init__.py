"""Against the real ai-dynamo wheel: ``make test-interop``."""
