"""What lies below the kernels: the compiler and its cache, native code, memory, threads.

It imports no other kernels.
"""
