#!/usr/bin/env bash
# Models of our own on the splits of J-HMDB, whose clips lie in ../shared/jhmdb or $JHMDB. What a
# stopped run has left is not done again.
#
#     benchmarks/jhmdb.sh train [SPLIT ...]    a model for each split, from its training list alone
#     benchmarks/jhmdb.sh cheap [SPLIT ...]    of these the ones at 64 pixels alone
#     benchmarks/jhmdb.sh rates [R ...]        split 1's last step again, pruned while it learns
#
# Runs go to runs/jhmdb/, records and logs to benchmarks/results/jhmdb/, weights (in half precision)
# to benchmarks/models/jhmdb/.
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0

part="${1:?a part: train, cheap or rates}"
which=("${@:2}")
jhmdb="${JHMDB:-../shared/jhmdb}"
small=(--size 64 --places 16 --epochs 30)
large=(--size 112 --places 49 --epochs 6 --learning-rate 5e-4)

# guided SPLIT FROM TO OPTION...: every token told how it moves, most of them hidden.
guided() {
    # Called again, it would write into a log that is done.
    if [[ -e "$3/model/config.json" ]]; then return; fi
    python3 recipes/flow_guided/train.py --data "$jhmdb/split$1/train.csv" --model "$2" \
        --output "$3" --labels "$jhmdb/labels.txt" --bf16 --compile --save-every 3 "${@:4}"
}

# pretrained_small SPLIT, pretrained SPLIT: small pictures first, then the places of the paper.
pretrained_small() { guided "$1" demo "runs/jhmdb/split$1/small" "${small[@]}"; }
pretrained() {
    pretrained_small "$1"
    guided "$1" "runs/jhmdb/split$1/small/model" "runs/jhmdb/split$1/large" "${large[@]}"
}

# finish SPLIT FROM TO OPTION...: the class alone, every token shown, then the test list.
finish() {
    python3 -m vidprune train --data "$jhmdb/split$1" --model "$2" --output "$3" \
        --validation "$jhmdb/split$1" --evaluate-every 99 --protocol ssv2 --labels "$jhmdb/labels.txt" \
        --epochs 3 --warmup-epochs 0.2 --batch-size 12 --learning-rate 6.4e-3 --layer-decay 1 \
        --weight-decay 0.1 --optimizer muon --precision bf16 --compile --workers 1 \
        --crop-area 0.35 1 --operations 2 --erasing 0 --mixup 0 --cutmix 0 "${@:4}"
}

keep() {
    mkdir -p "benchmarks/results/jhmdb/$2"
    cp "$1/train.json" "$1/log.jsonl" "benchmarks/results/jhmdb/$2"
}

# cheap SPLIT: a dense model for a sixth of the arithmetic, to put beside pruned ones.
cheap() {
    finish "$1" "runs/jhmdb/split$1/small/model" "runs/jhmdb/split$1/cheap"
    keep "runs/jhmdb/split$1/cheap" "split$1-64-pixels"
}

case "$part" in
train)
    [[ ${#which[@]} -gt 0 ]] || which=(1 2 3)
    for split in "${which[@]}"; do
        run="runs/jhmdb/split$split"
        pretrained "$split"
        finish "$split" "$run/large/model" "$run/whole"
        keep "$run/whole" "split$split"
        cheap "$split"
        for step in small large; do
            cp "$run/$step/log.jsonl" "benchmarks/results/jhmdb/split$split/log-$step.jsonl"
            sort "$run/$step/videos.txt" | sed 's|.*/clips/||' > "benchmarks/results/jhmdb/split$split/videos-$step.txt"
        done
        python3 benchmarks/half_weights.py "$run/whole/model" "benchmarks/models/jhmdb/split$split"
    done ;;
cheap)
    [[ ${#which[@]} -gt 0 ]] || which=(1 2 3)
    for split in "${which[@]}"; do
        pretrained_small "$split"
        cheap "$split"
    done ;;
rates)
    [[ ${#which[@]} -gt 0 ]] || which=(0 32 48 64)
    pretrained 1
    for r in "${which[@]}"; do
        # Two epochs and two views, which tell as much of time and take half of it.
        finish 1 runs/jhmdb/split1/large/model "runs/jhmdb/rates/$r" --reducer "sta:r=$r" \
            --epochs 2 --crops 1 --evaluate-with none sta:r=32 sta:r=48 sta:r=64
        keep "runs/jhmdb/rates/$r" "rates/$r"
    done ;;
*)
    echo "jhmdb.sh: no part is called $part; choose train, cheap or rates" >&2
    exit 2 ;;
esac
