#!/usr/bin/env bash
# The CPU tables of docs/benchmarks.md, in parts; what a part has left already is not done again.
#
#     benchmarks/cpu.sh PART [OPTION of vidprune benchmark ...]
#
# Parts: videoswin (T and B, gaps closed and filled); families (one published shape of each, from a
# real clip to its logits; CLIP names another); input (from four files to logits, by how many processes
# decode; CLIPS names others); levers (ViT-S as torch runs it, and with each thing that makes it faster);
# compiled (ViT-S and B as one graph, and with frozen weights); waiting (the same as they stand, by what
# OpenMP's threads do between operations);
# r32, r64, r96 (ViT-S and B, fp32 and bf16, batch 1 and 8: STA with that r and its main rivals at
# its arithmetic, with r64 and batch 1 every reducer), or one of their records by its name, such as
# small-bf16-batch-1-r64; beyond (Ward's merging at three costs, and STA, random and ToMe at them); all.
# Nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ "${1:-}" == all ]]; then
    for part in videoswin families input levers compiled waiting r64 r32 r96 beyond; do
        benchmarks/cpu.sh "$part" "${@:2}"
    done
    exit
fi
part="${1:?a part: videoswin, families, input, levers, compiled, waiting, r32, r64, r96, beyond, all}"

under=()
# One record of runs that take turns; what is there already is not done again.
run() {
    local record="benchmarks/results/cpu/$1"
    if [[ -s "$record/benchmark.json" ]]; then echo "$record is there already"; return; fi
    "${under[@]}" python3 -m vidprune benchmark --output "$record" "${@:2}"
}
case "$part" in
videoswin)
    for size in t b; do
        run "videoswin-swin3d_$size" --model "swin3d_$size" --no-alternatives --batch-size 1 \
            --reducer sta:r=256 sta:r=256,gaps=filled sta:r=320 sta:r=320,gaps=filled random:r=256 \
            random:r=320 random:r=256,fold=true random:r=320,fold=true --threads 2 --repeats 7 "${@:2}"
    done ;;
families)
    clip="${CLIP:-../shared/clips/k400_YABnJL_bDzw__vtp.mp4}"
    if [[ ! -e "$clip" ]]; then
        echo "cpu.sh: families needs a clip, and $clip is not there; name one by CLIP=FILE" >&2
        exit
    fi
    for setting in swin3d_t=sta:r=256 swin3d_s=sta:r=256 swin3d_b=sta:r=256 vivit_b_16x2=sta:r=64 \
        vjepa2_vitl_fpc16_256=sta:r=64 vit_base_patch16_224=sta:r=64 \
        timesformer_base_8x224=grid:r=64 videoprism_base=grid:r=64; do
        name="${setting%%=*}" reducer="${setting#*=}" rivals=(random random:fold=true)
        # What attends along time at each place takes tubes alone.
        if [[ "$reducer" == grid* ]]; then rivals=(grid:fold=true); fi
        run "families-$name" --model "$name" --reducer "$reducer" --against "${rivals[@]}" \
            --no-alternatives --batch-size 1 --threads 2 --repeats 3 --protocol single \
            --video "$clip" "${@:2}"
    done ;;
input)
    clips="${CLIPS:-../shared/clips}"
    if ! compgen -G "$clips/k400_*.mp4" > /dev/null; then
        echo "cpu.sh: input needs clips, and no k400_*.mp4 is in $clips; name a folder by CLIPS=DIR" >&2
        exit
    fi
    for setting in bf16-0 bf16-2; do
        IFS=- read -r dtype workers <<<"$setting"
        run "input-$dtype-workers-$workers" --model vit_small_patch16_224 --reducer sta:r=64 \
            --against random random:fold=true --no-alternatives --dtype "$dtype" --onednn \
            --batch-size 15 --threads 2 --repeats 2 --protocol k400 --workers "$workers" \
            --video "$clips"/k400_*.mp4 "${@:2}"
    done ;;
levers)
    for lever in fp32-torch fp32-kept fp32-onednn bf16-torch bf16-kept bf16-parts; do
        under=() options=(--dtype "${lever%%-*}")
        # glibc told to do as it does by itself, which the command then leaves alone.
        if [[ "$lever" == *-torch ]]; then under=(env GLIBC_TUNABLES=glibc.malloc.tcache_count=7); fi
        if [[ "$lever" == bf16-[tk]* ]]; then options+=(--attn-implementation sdpa); fi
        if [[ "$lever" == fp32-onednn ]]; then options+=(--onednn); fi
        run "levers-$lever" --model vit_small_patch16_224 --reducer sta:r=64 --threads 2 --repeats 2 \
            --against random random:fold=true --no-alternatives --batch-size 8 "${options[@]}" "${@:2}"
    done ;;
compiled)
    # In float32 without --onednn: those products are closed to the compiler.
    for setting in small-bf16 base-bf16 small-fp32; do
        IFS=- read -r size dtype <<<"$setting"
        run "compiled-$setting" --model "vit_${size}_patch16_224" --dtype "$dtype" --reducer sta:r=64 \
            --against random random:fold=true --no-alternatives --batch-size 1 --threads 2 \
            --mode eager graph graph-frozen --repeats 21 "${@:2}"
    done ;;
waiting)
    # What OpenMP's threads do between operations: turn round, which is the usual, or sleep.
    for setting in active-small-bf16 active-small-fp32 active-base-bf16 active-base-fp32 \
        passive-small-bf16 passive-small-fp32; do
        IFS=- read -r policy size dtype <<<"$setting"
        under=(env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT) others=()
        if [[ "$policy" == passive ]]; then under=(env OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0); fi
        if [[ "$dtype" == fp32 ]]; then others=(--onednn); fi
        run "waiting-$setting" --model "vit_${size}_patch16_224" --dtype "$dtype" \
            --reducer sta:r=32 sta:r=64 sta:r=96 --against random random:fold=true --no-alternatives \
            "${others[@]}" --batch-size 1 --threads 2 --repeats 11 "${@:2}"
    done ;;
r32 | r64 | r96)
    for setting in small-bf16-batch-1 base-bf16-batch-1 small-fp32-batch-1 base-fp32-batch-1 \
        small-bf16-batch-8 base-bf16-batch-8 small-fp32-batch-8 base-fp32-batch-8; do
        benchmarks/cpu.sh "$setting-$part" "${@:2}"
    done ;;
beyond)
    for setting in small-fp32-batch-1 base-fp32-batch-1 small-bf16-batch-8 base-bf16-batch-8; do
        IFS=- read -r size dtype _ batch <<<"$setting"
        others=()
        if [[ "$dtype" == fp32 ]]; then others=(--onednn); fi
        run "beyond-$setting" --model "vit_${size}_patch16_224" --dtype "$dtype" --threads 2 \
            --reducer ward:r=80 ward:r=112 ward:r=144 --against random random:fold=true sta tome \
            --no-alternatives "${others[@]}" --batch-size "$batch" --repeats "$((batch == 1 ? 7 : 3))" "${@:2}"
    done ;;
*-batch-*-r[1-9]*)
    IFS=- read -r size dtype _ batch r <<<"$part"
    rivals=(random random:fold=true tome)
    others=()
    # Once is enough of those that differ little in time, and of cheaper dense models.
    if [[ "$r" == r64 && "$batch" == 1 ]]; then
        rivals+=(sta:fold=true grid run-length vid-tldr tome:proportional_attention=true tome:mode=drop)
    else others=(--no-alternatives); fi
    # bf16 has oneDNN in any case.
    if [[ "$dtype" == fp32 ]]; then others+=(--onednn); fi
    run "$part" --model "vit_${size}_patch16_224" --dtype "$dtype" --reducer "sta:r=${r#r}" \
        --against "${rivals[@]}" "${others[@]}" --batch-size "$batch" --threads 2 \
        --repeats "$((batch == 1 ? 7 : 3))" "${@:2}" ;;
*)
    echo "cpu.sh: no part is called $part; choose videoswin, families, input, levers," \
        "compiled, waiting, r32, r64, r96, one of their records, beyond or all" >&2
    exit 2 ;;
esac
