#!/usr/bin/env bash
# The curves of docs/curves.md: every method at the same costs, from 90 % of the dense arithmetic
# down to 15 %. What a stopped run has left is not done again.
#
#     benchmarks/curves.sh generated [OPTION of vidprune curves ...]
#
# generated: the demo's model on 480 generated clips of its own. Runs and plots go to runs/curves/, the
# record to benchmarks/results/curves/.
set -euo pipefail
cd "$(dirname "$0")/.."

part="${1:?a part: generated}"
# Folding beside dropping; and earlier stages, since from the usual ones no selection comes below a
# quarter of the dense cost.
early="blocks=0/2/4"
methods=(sta sta:fold=true random:fold=true tome tome:mode=drop grid run-length vid-tldr
    "sta:$early" "random:$early" "sta:$early,fold=true" "random:$early,fold=true")
case "$part" in
generated)
    data=runs/curves/clips-generated
    if [[ ! -e "$data/test.csv" ]]; then
        python3 -c "from vidprune.demo.clips import write_clips; write_clips('$data', per_class=40, seed=800_000_000)"
    fi
    options=(--model demo --data "$data" --smaller benchmarks/models/demo_6_blocks --batch-size 16) ;;
*)
    echo "curves.sh: no part is called $part; choose generated" >&2
    exit 2 ;;
esac
output="runs/curves/$part"
python3 -m vidprune curves "${options[@]}" --reducer "${methods[@]}" --output "$output" "${@:2}"
mkdir -p "benchmarks/results/curves/$part"
cp "$output/curves.json" "benchmarks/results/curves/$part"
