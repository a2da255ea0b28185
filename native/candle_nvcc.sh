#!/bin/sh
# nvcc for candle's kernels without those for quantised models, which take most of the time to compile and which no network
# here calls. Functions of their names, which end the process, and an empty module stand in their place.
set -eu

source="" out="" folder="" previous=""
for argument in "$@"; do
  case "$previous" in
    -o) out=$argument ;;
    --output-directory) folder=$argument ;;
  esac
  case "$argument" in *.cu) source=$argument ;; esac
  previous=$argument
done

case "$source" in
  */quantized.cu)
    printf '.version 8.0\n.target sm_80\n.address_size 64\n' > "$folder/quantized.ptx"
    ;;
  */mmvq_gguf.cu)
    # All of them in one object. Cargo runs this in the folder of candle's kernels.
    {
      printf '#include <stdio.h>\n#include <stdlib.h>\n'
      sed -n 's/^ *pub fn \([A-Za-z0-9_]*\)(.*/void \1(void) { fputs("kinora: \1 was left out of this build\\n", stderr); abort(); }/p' src/ffi.rs
    } | gcc -x c -c -fPIC -o "$out" -
    ;;
  */moe/*.cu | */mmq_gguf/*.cu)
    gcc -x c -c -fPIC -o "$out" /dev/null
    ;;
  *)
    exec nvcc "$@"
    ;;
esac
