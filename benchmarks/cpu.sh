#!/usr/bin/env bash
# The CPU tables of docs/benchmarks.md, in parts; what a part has left already is not done again.
#
#     benchmarks/cpu.sh PART [OPTION of vidprune benchmark ...]
#
# Parts: small-fp32, small-bf16, base-fp32, base-bf16 (every reducer at matched arithmetic),
# target (one thread, against the bound), or all. Nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

rivals=(
    random random:fold=true sta:fold=true grid tome tome:proportional_attention=true tome:mode=drop
    run-length vid-tldr
)
if [[ "${1:-}" == all ]]; then
    for part in target small-bf16 small-fp32 base-bf16 base-fp32; do "$0" "$part" "${@:2}"; done
    exit
fi
part="${1:?a part: target, small-fp32, small-bf16, base-fp32, base-bf16, all}"

# One record of runs that take turns; what is there already is not done again.
run() {
    local record="benchmarks/results/cpu/$1"
    if [[ -s "$record/benchmark.json" ]]; then echo "$record is there already"; return; fi
    python3 -m vidprune benchmark --output "$record" "${@:2}"
}
case "$part" in
target)
    for size in small base; do
        run "target-$size" --model "vit_${size}_patch16_224" --reducer sta:r=64 --against random \
            --no-alternatives --batch-size 8 --threads 1 --repeats 7 "${@:2}"
    done ;;
small-fp32 | small-bf16 | base-fp32 | base-bf16)
    for batch in 1 8; do
        run "$part-batch-$batch" --model "vit_${part%-*}_patch16_224" --dtype "${part#*-}" \
            --reducer sta:r=32 sta:r=48 sta:r=64 sta:r=96 --against "${rivals[@]}" \
            --batch-size "$batch" --threads 2 --repeats "$((batch == 1 ? 7 : 3))" "${@:2}"
    done ;;
*)
    echo "cpu.sh: no part is called $part; choose target, small-fp32, small-bf16, base-fp32," \
        "base-bf16 or all" >&2
    exit 2 ;;
esac
