#!/bin/bash
# Writes docs/benchmarks/*.json and docs/benchmarks.md: all figures of this machine, each kind in one run beside its peer.
# Its argument is the folder of the programs, as `make benchmarks` gives it. A peer that is not installed is left out.
set -eu -o pipefail
BIN=$1 FIGURES=docs/benchmarks
mkdir -p $FIGURES

peer() {  # its option, where it can be imported as $2
  if "$BIN"/python -c "import $2" 2> /dev/null; then echo "--peer $1"; else echo "$1 is not installed: left out" >&2; fi
}

bench() {  # name of the figures, options
  local name=$1
  shift
  "$BIN"/sam2s bench "$@" --output "$FIGURES/$name.json" --overwrite
}

if "$BIN"/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  SAM2=$(peer sam2 sam2) COMPILED=$(peer sam2-compiled sam2) TRANSFORMERS=$(peer transformers transformers)
  bench gpu_tiny_512 --size 512 --objects 1 --objects 2 --objects 4 --objects 8 --steps 200 $SAM2
  bench gpu_tiny_1024 --size 1024 --steps 200 $SAM2
  bench gpu_tiny_1024_compiled --size 1024 --steps 200 $COMPILED
  bench gpu_base_plus --model sam2.1_hiera_base_plus --size 512 --size 1024 --policy divemem --steps 200 $SAM2
  bench gpu_base_plus_compiled --model sam2.1_hiera_base_plus --size 1024 --steps 200 $COMPILED
  bench gpu_tiny_512_compile --size 512 --compile --steps 200
  bench gpu_base_plus_compile --model sam2.1_hiera_base_plus --size 1024 --policy divemem --compile --steps 200
  bench gpu_edgetam_1024 --model edgetam --size 1024 --objects 1 --objects 4 --steps 200 $TRANSFORMERS
  bench gpu_efficienttam_s_512 --model efficienttam_s --size 512 --objects 1 --objects 4 --steps 200
  bench gpu_sam3_1008 --model sam3 --size 1008 --size 672 --objects 1 --objects 4 --steps 100 $TRANSFORMERS
  bench gpu_nano_512 --checkpoint sam2s_nano --size 512 --objects 1 --objects 8 --steps 200
else
  TRANSFORMERS=$(peer transformers transformers)
  bench cpu_tiny_512 --size 512 --objects 1 --objects 4 --dtype fp32 --dtype bf16 --steps 15 $TRANSFORMERS
  bench cpu_tiny_512_objects --size 512 --objects 1 --objects 2 --objects 4 --objects 8 --dtype bf16
  bench cpu_tiny_1024 --size 1024 --objects 1 --objects 4 --dtype bf16 --steps 10 $TRANSFORMERS
  bench cpu_edgetam_512 --model edgetam --size 512 --objects 1 --objects 4 --dtype bf16 $TRANSFORMERS
  bench cpu_efficienttam_ti_512 --model efficienttam_ti --size 512 --objects 1 --objects 4 --dtype bf16
  bench cpu_efficienttam_floors --model efficienttam_s --model efficienttam_ti --size 512 --size 1024 \
    --objects 1 --objects 4 --dtype bf16 --steps 0
  bench cpu_sam3_floors --model sam3 --size 1008 --size 672 --objects 1 --objects 4 --dtype bf16 --steps 0
  bench cpu_tiny_512_int8 --size 512 --dtype fp32 --dtype int8
  bench cpu_nano_512 --checkpoint sam2s_nano --size 512 --objects 1 --objects 4 --dtype fp32 --dtype bf16 --steps 50
fi
"$BIN"/sam2s bench page $FIGURES > docs/benchmarks.md
