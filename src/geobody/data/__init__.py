"""Data sets: what is read, what is made, and the shards that training maps into memory."""
