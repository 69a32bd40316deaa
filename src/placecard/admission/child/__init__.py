"""The other processes of a load test: the nursery, which forks, and its children, which open directories."""
