"""Networks and baselines, one file each; the file name is the model's. `network.py` says how to add one."""
