"""PyTorch's side of `deno task bench`: reads requests from stdin, one JSON object a line, and answers each with one line.

`write` makes a case's inputs and weights and writes them for both sides; `load` makes the case in one of PyTorch's forms, on
the CPU or on a GPU, and holds it until `forget`; `results` writes what a form gives, `time` runs it until time is up,
`operations` counts those of one run, `memory` says what the process has taken, `peak` what the device reaches.

Files hold activations as (height, width, frames, channels); every form of a layer gets them in its own layout and is
timed without that conversion, as Kinora is.
"""

import json
import os
import resource
import sys
import time

# The protocol has stdout for itself; whatever a package prints goes to stderr.
replies = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import safetensors.torch
import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Kinora's bf16x3 stands beside f32.
OF_ROWS = {**DTYPES, "bf16x3": torch.float32}
GROUPS, EPS = 32, 1e-5


def space_time_unet(config):
    from make_a_video_pytorch import SpaceTimeUnet

    return SpaceTimeUnet(**config)


def write(case, path):
    """Random inputs and weights of a case: activations of unit scale, kernels as PyTorch draws new ones."""
    torch.manual_seed(0)
    config, tensors = case["config"], {}
    frames, size = config["frames"], config["size"]
    if case["layer"] == "unet":
        model = space_time_unet(config["network"])
        shape = (1, config["network"]["channels"], frames, size, size)
        tensors = {"in/x": torch.randn(shape), "in/target": torch.randn(shape), "in/timestep": torch.tensor([500.0])}
        # Projections of a new model that begin at zero would leave attention out of the comparison.
        for name, tensor in model.state_dict().items():
            silent = tensor.is_floating_point() and tensor.dim() > 1 and not tensor.any()
            tensors[f"state/{name}"] = torch.randn_like(tensor) * tensor.shape[1] ** -0.5 if silent else tensor
    else:
        c = config["channels"]
        wide = case["layer"].endswith("attention")
        tensors["in/x"] = torch.randn(size, size, frames, 3 * c if wide else c)
        tensors["in/g"] = torch.randn(size, size, frames, c)
        kernels = {"conv3x3": (c, c, 3, 3), "conv1x1": (c, c), "linear": (c, c), "temporal_conv": (c, c, 3)}
        if case["layer"] in kernels:
            shape = kernels[case["layer"]]
            bound = (c * torch.Size(shape[2:]).numel()) ** -0.5
            tensors["state/weight"] = torch.empty(shape).uniform_(-bound, bound)
            tensors["state/bias"] = torch.empty(c).uniform_(-bound, bound)
        if case["layer"] == "norm":
            tensors["in/scale_shift"] = torch.randn(1, 2 * c) / 2
            tensors["state/weight"] = 1 + torch.randn(c) / 4
            tensors["state/bias"] = torch.randn(c) / 4
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


class Layer:
    """One layer in one of its forms: `function(*leaves)`, and how its tensors lie in the common order."""

    def __init__(self, case, tensors, train):
        self.train = train
        layer, config, form = case["layer"], case["config"], case["peer"]
        dtype, self.device = OF_ROWS[case["dtype"]], device_of(case)
        tensors = {name.split("/", 1)[1]: tensor.to(self.device, dtype) for name, tensor in tensors.items()}
        frames, size, c = config["frames"], config["size"], config["channels"]
        last = form == "channels_last"
        if layer == "temporal_conv":
            # (1, c, f, h, w)
            turn = lambda x: x.permute(3, 2, 0, 1)[None]
            back = lambda x: x[0].permute(2, 3, 1, 0)
            layout = torch.channels_last_3d if last else torch.contiguous_format
        elif layer == "linear" or layer.endswith("attention"):
            # (f, h w, c), as channels-last layers leave it
            turn = lambda x: x.permute(2, 0, 1, 3).reshape(frames, size * size, -1)
            back = lambda x: x.reshape(frames, size, size, -1).permute(1, 2, 0, 3)
            layout = torch.contiguous_format
        else:
            # (f, c, h, w)
            turn = lambda x: x.permute(2, 3, 0, 1)
            back = lambda x: x.permute(2, 3, 0, 1)
            layout = torch.channels_last if last else torch.contiguous_format
        self.back = {"x": back, "y": back}
        leaves = {"x": turn(tensors["x"]).contiguous(memory_format=layout)}
        self.cotangent = turn(tensors["g"]).contiguous(memory_format=layout)
        for name in ("weight", "bias", "scale_shift"):
            if name in tensors:
                leaves[name] = tensors[name]
        if layer == "conv1x1":
            leaves["weight"] = leaves["weight"][:, :, None, None]
        if layer == "temporal_conv" and last:
            leaves["weight"] = leaves["weight"][:, :, :, None, None]
        if last and leaves.get("weight", torch.empty(0)).dim() > 3:
            leaves["weight"] = leaves["weight"].contiguous(memory_format=layout)
        function = getattr(self, layer)(config, form)
        self.function = torch.compile(function) if form == "compile" else function
        self.leaves = {name: leaf.detach().requires_grad_(train) for name, leaf in leaves.items()}

    def conv3x3(self, config, form):
        return lambda x, weight, bias: F.conv2d(x, weight, bias, padding=1)

    def conv1x1(self, config, form):
        return lambda x, weight, bias: F.conv2d(x, weight, bias)

    def linear(self, config, form):
        return lambda x, weight, bias: F.linear(x, weight, bias)

    def temporal_conv(self, config, form):
        if form == "channels_last":
            return lambda x, weight, bias: F.conv3d(x, weight, bias, padding=(1, 0, 0))

        def as_lucidrains(x, weight, bias):
            b, c, f, h, w = x.shape
            x = x.permute(0, 3, 4, 1, 2).reshape(b * h * w, c, f)
            x = F.conv1d(x, weight, bias, padding=1)
            return x.reshape(b, h, w, c, f).permute(0, 3, 4, 1, 2).contiguous()

        return as_lucidrains

    def attention(self, config, form, turn, back):
        heads = config["heads"]

        def core(q, k, v):
            if form == "sdpa":
                return F.scaled_dot_product_attention(q, k, v)
            return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).float().softmax(-1).to(q.dtype) @ v

        def function(x):
            rows = turn(x)
            b, s, width = rows.shape
            q, k, v = (t.reshape(b, s, heads, -1).transpose(1, 2) for t in rows.chunk(3, -1))
            return back(core(q, k, v).transpose(1, 2).reshape(b, s, width // 3))

        return function

    def temporal_attention(self, config, form):
        return self.attention(config, form, lambda x: x.transpose(0, 1), lambda y: y.transpose(0, 1).contiguous())

    def spatial_attention(self, config, form):
        return self.attention(config, form, lambda x: x, lambda y: y)

    def norm(self, config, form):
        def function(x, weight, bias, scale_shift):
            scale, shift = scale_shift[:, :, None, None].chunk(2, 1)
            return F.silu(F.group_norm(x, GROUPS, weight, bias, EPS) * (scale + 1) + shift)

        return function

    def run(self):
        if not self.train:
            with torch.no_grad():
                return self.function(**self.leaves)
        y = self.function(**self.leaves)
        torch.autograd.grad(y, list(self.leaves.values()), self.cotangent)

    def results(self):
        y = self.function(**self.leaves)
        found = {"y": self.back["y"](y)}
        if self.train:
            gradients = torch.autograd.grad(y, list(self.leaves.values()), self.cotangent)
            for name, gradient in zip(self.leaves, gradients):
                found[f"d{name}"] = self.back.get(name, lambda x: x)(gradient)
        return found


class Unet:
    """The whole network; in training the loss, its gradient and AdamW's step as well."""

    def __init__(self, case, tensors, train):
        self.model = space_time_unet(case["config"]["network"])
        self.model.load_state_dict({n[6:]: t for n, t in tensors.items() if n.startswith("state/")})
        self.device = device_of(case)
        self.model.to(self.device)
        self.x, self.target, self.timestep = (tensors[f"in/{n}"].to(self.device) for n in ("x", "target", "timestep"))
        self.bf16 = case["dtype"] == "bf16"
        self.call = torch.compile(self.model) if case["peer"] == "compile" else self.model
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4) if train else None

    def forward(self):
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.call(self.x, timestep=self.timestep)

    def loss(self):
        return F.mse_loss(self.forward().float(), self.target)

    def run(self):
        if self.optimiser is None:
            with torch.no_grad():
                self.forward()
            return
        self.optimiser.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimiser.step()

    def results(self):
        if self.optimiser is None:
            with torch.no_grad():
                return {"y": self.forward()}
        loss = self.loss()
        loss.backward()
        parameters = self.model.named_parameters()
        found = {f"gradient/{n}": torch.zeros_like(p) if p.grad is None else p.grad for n, p in parameters}
        return {"loss": loss.detach().reshape(1), **found}


def device_of(request):
    """The device that a request is for. On a GPU f32 is true f32, as it is on Kinora's side, and convolutions are tuned."""
    device = torch.device(request.get("device", "cpu"))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
    return device


def finish(device):
    """Waits for what was begun on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(run, device, seconds, least, warm):
    """Milliseconds of each run to its end."""
    if warm:
        run()
    finish(device)
    begin, times = time.perf_counter(), []
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        run()
        finish(device)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def peak(device, seconds):
    """GFLOP/s of products of large matrices and GB/s of adding two arrays into a third, at best."""
    side, count = (8192, 1 << 28) if device.type == "cuda" else (512, 1 << 22)

    def best(work):
        return min(timed(work, device, seconds, 3, True))

    found = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        found[name] = 2 * side**3 / best(lambda: a @ b) / 1e6
    a, b, c = (torch.ones(count, device=device) for _ in range(3))
    found["memory"] = 12 * count / best(lambda: torch.add(a, b, out=c)) / 1e6
    return found


def operations(case):
    """The multiplications and additions of the products of one run."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        case.run()
    return counter.get_total_flops()


def answer(request, held):
    match request["do"]:
        case "hello":
            gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
            capability = torch.backends.cpu.get_cpu_capability()
            return {"threads": torch.get_num_threads(), "capability": capability, "gpu": gpu}
        case "write":
            write(request["case"], request["file"])
        case "forget":
            held.clear()
        case "load":
            wanted = request["case"]
            make = Unet if wanted["layer"] == "unet" else Layer
            tensors = safetensors.torch.load_file(request["file"])
            held[wanted["peer"]] = make(wanted, tensors, wanted["pass"] == "train")
        case "results":
            found = held[request["peer"]].results()
            found = {name: tensor.detach().float().cpu().contiguous() for name, tensor in found.items()}
            safetensors.torch.save_file(found, request["file"])
        case "time":
            case = held[request["peer"]]
            return {"ms": timed(case.run, case.device, request["seconds"], request["least"], request["warm"])}
        case "operations":
            return {"operations": operations(held[request["peer"]])}
        case "peak":
            return peak(device_of(request), request["seconds"])
        case "memory":
            return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)}
        case other:
            raise ValueError(f"unknown request {other}")
    return {}


torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
held = {}
for line in sys.stdin:
    try:
        reply = answer(json.loads(line), held)
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    replies.write(json.dumps(reply) + "\n")
