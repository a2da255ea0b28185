"""A process's first forward of a SpaceTimeUnet: imports, weights, forward. Arguments: configuration, weights, output."""

import json
import os
import sys

import safetensors.torch
import torch
from make_a_video_pytorch import SpaceTimeUnet

config, weights, out = sys.argv[1:]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
with open(config) as file:
    model = SpaceTimeUnet(**json.load(file))
tensors = safetensors.torch.load_file(weights)
model.load_state_dict({name[6:]: tensor for name, tensor in tensors.items() if name.startswith("state/")})
with torch.no_grad():
    y = model(tensors["in/x"], timestep=tensors["in/timestep"])
print("first forward done", flush=True)
safetensors.torch.save_file({"y": y.contiguous()}, out)
