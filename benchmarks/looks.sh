#!/usr/bin/env bash
# The table of docs/looking.md: what the kept tokens hold, and what time still repeats, over 120
# clips of the demo (`vidprune demo` writes them).
set -euo pipefail
cd "$(dirname "$0")/.."

python3 -m vidprune visualize 'demo-output/clips/*/00?.mp4' --model demo --reducer sta:r=16 \
    random:r=16 sta:r=16,fold=true random:r=16,fold=true sta:r=32 random:r=32 sta:r=32,fold=true \
    random:r=32,fold=true --output runs/looks --formats
cp runs/looks/looks.json benchmarks/results/looks.json
