"""kasoko.toml and the environment -> one frozen Config; secrets never in repr."""
