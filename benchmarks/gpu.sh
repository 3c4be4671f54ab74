#!/usr/bin/env bash
# The GPU tables of docs/speed.md, on a machine with CUDA that needs no network; what a part has left
# already is not done again. On an H100 ten models of `large` at batch 32 took 52 s, and a whole ViT-B
# as one graph some 20 s to compile: choose batches and reducers where time is short.
#
#     benchmarks/gpu.sh PART [OPTION of vidprune benchmark ...]
#     OUT=DIR benchmarks/gpu.sh small
#     OUT=build/try benchmarks/gpu.sh rivals --device cpu --frames 4 --repeats 2
#     BATCHES="32" benchmarks/gpu.sh large --no-alternatives
#
# Parts: small, base, large, huge (r = 0 to 96, eager and with compiled blocks), graph-base and
# graph-large (r = 0, 64 and 96, replayed, by blocks and as one graph), rivals (ViT-B, r = 64, every
# reducer), selection (ViT-L, r = 64, by Triton's kernels and by torch), beyond-base and beyond-large
# (Ward's merging at three costs), all; and where CLIPS names a folder of videos, video (ViT-S and ViT-L
# from files to logits, decoded by PyAV and by the GPU, and how far its pixels are off).
# Weights are random. Wheels in wheels/ (av, transformers, ...) are installed beforehand; one of
# vidprune itself lets records name its version.
set -euo pipefail
cd "$(dirname "$0")/.."

if compgen -G "wheels/*.whl" >/dev/null; then
    python3 -m pip install --quiet --no-deps --no-index --upgrade --target build/wheels wheels/*.whl
    export PYTHONPATH="$PWD/build/wheels:$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
fi
parts=(small base large huge rivals selection beyond-base beyond-large graph-base graph-large)
if [[ "${1:-}" == all ]]; then
    for part in "${parts[@]}"; do "$0" "$part" "${@:2}"; done
    exit
fi
part="${1:?a part: ${parts[*]} or all}"
# One record per batch size, of runs that take turns; what is there already is not done again.
run() {
    for batch in ${BATCHES:-1 8 32}; do
        local record="${OUT:-benchmarks/results/gpu}/$part-batch-$batch"
        if [[ -s "$record/benchmark.json" ]]; then echo "$record is there already"; continue; fi
        python3 -m vidprune benchmark --dtype bf16 --batch-size "$batch" --repeats 20 \
            --output "$record" "$@"
    done
}
sweep=(sta:r=16 sta:r=32 sta:r=48 sta:r=64 sta:r=80 sta:r=96)
case "$part" in
small | base | large | huge)
    run --model "vit_${part}_patch16_224" --reducer "${sweep[@]}" --against random random:fold=true \
        --mode eager blocks "${@:2}" ;;
graph-base | graph-large)
    run --model "vit_${part#graph-}_patch16_224" --reducer sta:r=64 sta:r=96 --against random \
        random:fold=true --no-alternatives --mode eager blocks-replayed cuda-graph "${@:2}" ;;
rivals)
    run --model vit_base_patch16_224 --reducer sta:r=64 \
        --against random random:fold=true sta:fold=true grid tome \
        tome:proportional_attention=true tome:mode=drop run-length vid-tldr ward "${@:2}" ;;
beyond-base | beyond-large)
    run --model "vit_${part#beyond-}_patch16_224" --reducer ward:r=80 ward:r=112 ward:r=144 \
        --against random random:fold=true sta tome --no-alternatives --mode eager blocks "${@:2}" ;;
selection)
    run --model vit_large_patch16_224 --reducer sta:r=64 sta:r=64,backend=torch --against random random:fold=true \
        --no-alternatives --mode eager blocks graph "${@:2}" ;;
video)
    clips="${CLIPS:?names a folder of videos}"
    for size in small large; do
        for decoder in pyav torchcodec; do
            part="video-$size-$decoder" run --model "vit_${size}_patch16_224" --reducer sta:r=64 \
                --against random random:fold=true --no-alternatives --protocol k400 \
                --video "$clips" --decoder "$decoder" "${@:2}"
        done
    done
    python3 benchmarks/decoders.py "$clips" --device cuda \
        --output "${OUT:-benchmarks/results/gpu}/decoders.json" ;;
*)
    echo "gpu.sh: no part is called $part; choose one of ${parts[*]}, video or all" >&2
    exit 2 ;;
esac
