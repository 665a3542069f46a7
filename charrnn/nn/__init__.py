"""What networks are made of. It may import kernels, and never touches a file."""
