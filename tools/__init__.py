"""What maintains the repository: dvc.yaml, the lock, the README's tables, the smoke run."""
