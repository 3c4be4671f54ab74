#!/usr/bin/env bash
# The curves of docs/curves.md: every method at the same costs, from 90 % of the dense arithmetic
# down to 15 %. What a stopped run has left is not done again.
#
#     benchmarks/curves.sh PART [OPTION of vidprune curves ...]
#
# generated: the demo's model on 480 generated clips of its own. jhmdb: the models of the three splits,
# which benchmarks/jhmdb.sh trains, on their test lists in ../shared/jhmdb or $JHMDB. amounts and
# choices: the same at r = 16 to 96, and with what the paper ablates. Runs and plots go to runs/curves/, records to
# benchmarks/results/curves/.
set -euo pipefail
cd "$(dirname "$0")/.."

part="${1:?a part: generated, jhmdb, amounts or choices}"
jhmdb="${JHMDB:-../shared/jhmdb}"
# Two clips of each video and no crops at the sides, which would be three times the work.
splits=(--model benchmarks/models/jhmdb/split{1,2,3} --data "$jhmdb"/split{1,2,3}
    --protocol ssv2 --crops 1 --dtype bf16 --batch-size 16)
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
jhmdb)
    options=("${splits[@]}" --smaller runs/jhmdb/split{1,2,3}/cheap/model) ;;
amounts)
    # The costs of r = 16, 32, 48, 64, 80, 96.
    options=("${splits[@]}" --no-alternatives --at 0.8464 0.6972 0.5645 0.4485 0.3491 0.2663)
    methods=(sta sta:fold=true random:fold=true) ;;
choices)
    # The cost of r = 64.
    options=("${splits[@]}" --no-alternatives --at 0.4485)
    methods=(sta sta:score={temporal,semantic} sta:order={BFB,FFF,BBB}
        sta:first_group={random,grid} sta:similarity={query,value,output}
        sta:schedule={constant,increasing} sta:stages={1,2,4} sta:blocks={0/2/4,2/5/9}) ;;
*)
    echo "curves.sh: no part is called $part; choose generated, jhmdb, amounts or choices" >&2
    exit 2 ;;
esac
output="runs/curves/$part"
python3 -m vidprune curves "${options[@]}" --reducer "${methods[@]}" --output "$output" "${@:2}"
mkdir -p "benchmarks/results/curves/$part"
cp "$output/curves.json" "benchmarks/results/curves/$part"
