"""All parts, in the order of what depends on what."""

from __future__ import annotations

from sam2s_model.gpu_check import computation, living, rollouts, speed
from sam2s_model.gpu_check.part import CheckPart

PARTS = (
    CheckPart(1, "device and attention kernels", computation.the_device),
    CheckPart(2, "networks in fp32", computation.networks_in_fp32),
    CheckPart(3, "networks in bf16 and fp16", computation.networks_in_half),
    CheckPart(4, "attention", computation.attention),
    CheckPart(5, "small operations", computation.small_operations),
    CheckPart(6, "every policy beside the CPU", rollouts.beside_the_cpu),
    CheckPart(7, "graphs beside single launches", rollouts.graphs),
    CheckPart(8, "captured again", rollouts.captured_again),
    CheckPart(9, "a capture that fails", rollouts.a_capture_that_fails),
    CheckPart(10, "deterministic", rollouts.deterministic),
    CheckPart(11, "waits of a step", rollouts.waits),
    CheckPart(12, "two trackers in two threads", living.two_threads),
    CheckPart(13, "want of memory", living.want_of_memory, alone=True),
    CheckPart(14, "long streams", living.long_streams, alone=True),
    CheckPart(15, "speed", speed.speeds, alone=True, limit=180.0),
    CheckPart(16, "each GPU", living.each_gpu, alone=True, limit=600.0),
)
BY_HAND = (
    "once by hand: compute-sanitizer --tool memcheck python -m sam2s_model.gpu_check 7 cuda:0; "
    "TORCH_CUDA_SANITIZER=1 python -m sam2s_model.gpu_check 6 cuda:0"
)
"""Comparison 17: programs of CUDA's toolkit that take minutes, and are not installed with torch."""
