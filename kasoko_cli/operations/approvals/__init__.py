"""Two people: whose signatures count, and whether the second said the same as the first."""
