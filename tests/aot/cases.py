"""Accelerators the kernels are compiled for, by the name in the table → as `targets` calls them."""

GPUS = {'sm_80': 'a100', 'sm_89': 'l4', 'sm_90a': 'h200', 'sm_100a': 'b200'}

# Smallest topologies libtpu knows of each; kernels are compiled for their first chip.
TPUS = {'v5e': 'v5e:2x2', 'v5p': 'v5p:2x2x1', 'v6e': 'v6e:2x2'}
HOPPER_AND_NEWER = ('sm_90a', 'sm_100a')
