"""Kernels compiled for accelerators that this machine does not have."""
