"""What is left on disk by a kill and by a disk that is full."""
