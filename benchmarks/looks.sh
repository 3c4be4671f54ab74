#!/usr/bin/env bash
# The figures of docs/looking.md, over clips of the demo (`vidprune demo` writes them): what the kept
# tokens hold and what time still repeats, of 120 clips; and how long a look at a clip takes with a
# ViT-S, of 10.
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m vidprune visualize 'demo-output/clips/*/00?.mp4' --model demo --reducer sta:r=16 \
    random:r=16 sta:r=16,fold=true random:r=16,fold=true sta:r=32 random:r=32 sta:r=32,fold=true \
    random:r=32,fold=true --output runs/looks --formats
cp runs/looks/looks.json benchmarks/results/looks.json

python3 -m vidprune visualize 'demo-output/clips/growing/00?.mp4' --model vit_small_patch16_224 \
    --reducer sta:r=64 --output runs/looks-vit-small
cp runs/looks-vit-small/looks.json benchmarks/results/looks-vit-small.json
