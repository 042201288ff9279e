"""What `make_secagg` writes: `book` collects a file, the others say what is in it."""
